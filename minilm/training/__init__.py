"""Training, in reading order: arguments (the settings), state (where a run is), trainer (the loop), checkpoint (what is
on disk), callbacks (what watches), diagnosis (where a NaN came from), mixed_precision (float16), process (signals,
memory).
"""

from minilm.training.arguments import TrainingArguments
from minilm.training.callbacks import Callback, ProgressBar, read_metrics
from minilm.training.checkpoint import find_checkpoint, list_checkpoints, load_model, load_weights, save_checkpoint
from minilm.training.state import TrainerState, TrainOutput
from minilm.training.trainer import Interrupted, Trainer

__all__ = [
    *("Callback", "Interrupted", "ProgressBar", "TrainOutput", "Trainer", "TrainerState", "TrainingArguments"),
    *("find_checkpoint", "list_checkpoints", "load_model", "load_weights", "read_metrics", "save_checkpoint"),
]
