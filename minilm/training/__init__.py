"""Training, in reading order: arguments (the settings), state (where a run is), trainer (the loop), checkpoint (what is
on disk), callbacks (what watches), diagnosis (where a NaN came from), mixed_precision (float16), process (signals,
memory), accountant and private (DP-SGD: what a model may tell of one example); lora and finetuning
(a trained model, trained on).
"""

from minilm.training.accountant import epsilon_spent, noise_for_epsilon
from minilm.training.arguments import TrainingArguments
from minilm.training.callbacks import Callback, ProgressBar, read_metrics
from minilm.training.checkpoint import find_checkpoint, list_checkpoints, load_model, load_weights, save_checkpoint
from minilm.training.finetuning import HeadOnFeatures, compute_features, last_block, prepare_method
from minilm.training.lora import add_lora, load_lora, lora_layers, lora_state, merge_lora, save_lora
from minilm.training.private import ClippedSum, PoissonBatches, PrivateTrainer
from minilm.training.state import TrainerState, TrainOutput
from minilm.training.trainer import Interrupted, Trainer

__all__ = [
    *("ClippedSum", "PoissonBatches", "PrivateTrainer", "epsilon_spent", "noise_for_epsilon"),
    *("Callback", "Interrupted", "ProgressBar", "TrainOutput", "Trainer", "TrainerState", "TrainingArguments"),
    *("HeadOnFeatures", "add_lora", "compute_features", "last_block", "load_lora", "lora_layers", "lora_state"),
    *("merge_lora", "prepare_method", "save_lora"),
    *("find_checkpoint", "list_checkpoints", "load_model", "load_weights", "read_metrics", "save_checkpoint"),
]
