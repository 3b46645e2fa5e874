"""Training: arguments (the settings), trainer (the loop), checkpoint (what is on disk), callbacks (what watches),
diagnosis (where a NaN came from), process (signals, memory). Read them in this order.
"""

from minilm.training.arguments import TrainingArguments
from minilm.training.callbacks import Callback, ProgressBar, read_metrics
from minilm.training.checkpoint import find_checkpoint, list_checkpoints, load_model, load_weights, save_checkpoint
from minilm.training.trainer import Interrupted, Trainer, TrainerState, TrainOutput

__all__ = [
    *("Callback", "Interrupted", "ProgressBar", "TrainOutput", "Trainer", "TrainerState", "TrainingArguments"),
    *("find_checkpoint", "list_checkpoints", "load_model", "load_weights", "read_metrics", "save_checkpoint"),
]
