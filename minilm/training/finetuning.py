"""Fine-tuning: how much of a trained model is trained on, for a task of its own.

    full      all of it
    lora      small changes of the attention matrices (see lora), and the head
    last      the last block, what comes after it, and the head
    frozen    the head alone: the rest gives features that never change, and may be computed once

From top to bottom there is less to train, to keep and to forget; how good the result is, is for each task to find out
(benchmarks/finetuning.py does for one). The head is what starts afresh for the task, such as the classifier of
BERTForSequenceClassification; a language model has none.

    trained = prepare_method(model, "lora", head=("classifier", "bert.pooler"))
    Trainer(model, TrainingArguments(...), examples).train()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minilm.functional as F
from minilm.backend import to_numpy
from minilm.errors import ConfigurationError
from minilm.models import BERTForSequenceClassification
from minilm.nn import Linear, Module, ModuleList, evaluating
from minilm.tensor import Tensor
from minilm.text import groups_by_length, pad_collate
from minilm.training.lora import ATTENTION, add_lora

METHODS = ("full", "lora", "last", "frozen")
AFTER_THE_BLOCKS = ("final_norm",)  # norms that belong to the last block of GPT and Llama


def prepare_method(
    model: Module,
    method: str,
    head: Sequence[str] = (),
    targets: Sequence[str] = ATTENTION,
    rank: int = 8,
    alpha: float = 16.0,
) -> list[str]:
    """Freeze what the method does not train, and add adapters if it is "lora", in place.

    Args:
        method: one of METHODS.
        head: names of modules that start afresh, and are trained in any case.
        targets, rank, alpha: for "lora", see `add_lora`.

    Returns:
        The names of the parameters that are trained.

    Raises:
        ConfigurationError: for another method, a head that there is not, or a method that leaves nothing to train.
    """
    if method not in METHODS:
        raise ConfigurationError(f"a method of fine-tuning is one of {', '.join(METHODS)}, not {method!r}")
    modules = dict(model.named_modules())
    for name in head:
        if name not in modules:
            raise ConfigurationError(f"{type(model).__name__} has no module {name!r} to be its head")
    if method == "full":
        model.requires_grad_(True)
    elif method == "lora":
        add_lora(model, targets, rank, alpha)
    else:
        model.requires_grad_(False)
        for name in last_block(model) if method == "last" else ():
            modules[name].requires_grad_(True)
    for name in head:
        modules[name].requires_grad_(True)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigurationError(
            f"nothing is left to train of a {type(model).__name__} with the method {method!r}: it has no head that "
            "starts afresh. Use full, lora or last"
        )
    return trained


def last_block(model: Module) -> list[str]:
    """The names of the modules that make up the last block of a model, with the norm after it.

    Raises:
        ConfigurationError: if the model does not have just one stack of blocks.
    """
    stacks = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ModuleList) and name.rpartition(".")[2] == "blocks"
    }
    if len(stacks) != 1:
        raise ConfigurationError(
            f"{type(model).__name__} has {len(stacks)} stacks of blocks, so there is no one last block: use another "
            "method than 'last'"
        )
    ((name, stack),) = stacks.items()
    prefix = name.removesuffix("blocks")
    after = [f"{prefix}{norm}" for norm in AFTER_THE_BLOCKS if f"{prefix}{norm}" in dict(model.named_modules())]
    return [f"{name}.{len(stack) - 1}", *after]


class HeadOnFeatures(Module):
    """The head of a BERTForSequenceClassification, which it shares, on features that were computed before.

    The features of a text are the last hidden state of its first token, [CLS]. The encoder that gave them is in
    evaluation mode, so that they are the same in every epoch: without dropout.
    """

    def __init__(self, model: BERTForSequenceClassification) -> None:
        super().__init__()
        assert model.bert.pooler is not None  # a classifier has one
        self.pooler: Linear = model.bert.pooler
        self.dropout, self.classifier = model.dropout, model.classifier

    def forward(self, features: Any) -> Tensor:
        """features (B, C) -> logits (B, K)."""
        x = features if isinstance(features, Tensor) else Tensor(features)
        return self.classifier(self.dropout(self.pooler(x).tanh()))

    def loss(self, batch: Any) -> Tensor:
        """Mean negative log-likelihood of batch["labels"] (B,), given batch["features"] (B, C)."""
        return F.cross_entropy(F.at_least_float32(self(batch["features"])), batch["labels"])


def compute_features(
    model: BERTForSequenceClassification, examples: Sequence[Any], batch_size: int = 32
) -> list[dict[str, Any]]:
    """For each example (`input_ids`, `labels`, ...) its features (C,) and its label, in the same order."""
    found: dict[int, dict[str, Any]] = {}
    with evaluating(model.modules()):
        for chosen in groups_by_length([len(example["input_ids"]) for example in examples], batch_size):
            batch = pad_collate([examples[i] for i in chosen])
            hidden, _ = model.bert(batch["input_ids"], batch.get("attention_mask"), batch.get("token_type_ids"))
            rows = to_numpy(hidden.data)[:, 0]
            for i, row in zip(chosen, rows, strict=True):
                found[i] = {"features": row.copy(), "labels": examples[i]["labels"]}
    return [found[i] for i in range(len(examples))]
