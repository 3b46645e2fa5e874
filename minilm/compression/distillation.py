"""Distillation: a small model learns from a large one (Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a
neural network").

The text says which token came next; the teacher says, for each token, how well it would have fitted. From its logits z
and the student's s, softened by a temperature τ,

    p_i = softmax(z_i / τ),    q_i = softmax(s_i / τ)

    loss = α τ² mean_i KL(p_i || q_i) + (1 - α) mean_i (-log softmax(s_i)[y_i])

over the positions i that have a label y_i. At τ = 1 the teacher is mostly sure of one token; a higher temperature shows
the student what it takes the others for. The soft gradient shrinks with 1 / τ² (their section 2), which τ² undoes, so
that α means the same at every τ.

What this file does not do: match hidden states or attention maps, which ties the student to the teacher's shape; carry
the state of a recurrent student from batch to batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import minilm.functional as F
from minilm.backend import is_array, to_numpy, xp
from minilm.errors import ConfigurationError
from minilm.functional.softmax import softmax_array
from minilm.nn import Module, evaluating
from minilm.tensor import Tensor, unwrap
from minilm.text.batches import IGNORED

Logits = Callable[[Module, Mapping[str, Any]], Tensor]


def distillation_loss(
    student: Tensor, teacher: Any, labels: Any, temperature: float = 2.0, alpha: float = 0.5
) -> Tensor:
    """α τ² KL(teacher || student), both softened by τ, and (1 - α) times the usual loss; a scalar, in nats.

    Args:
        student: logits (..., V).
        teacher: logits (..., V), as Tensor or array; no gradient flows into them.
        labels: (...) integers; places with -100 count for neither part.
        temperature: τ, above 0.
        alpha: from 0 (the labels alone) to 1 (the teacher alone, labels still say which places count).

    Raises:
        ValueError: if the shapes do not fit.
        ConfigurationError: for a temperature or an alpha out of range, or if no place counts.
    """
    _check(temperature, alpha)
    z = unwrap(teacher)
    if z.shape != student.shape:
        raise ValueError(
            f"the teacher's logits {z.shape} and the student's {student.shape} must have one shape: distillation "
            "needs the same vocabulary"
        )
    labels = unwrap(labels)
    labels = to_numpy(labels) if is_array(labels) else np.asarray(labels)
    counts = labels != IGNORED
    n = int(counts.sum())
    if not n:
        raise ConfigurationError(f"every label is {IGNORED}: there is no place to learn from")
    student = F.at_least_float32(student)
    hard = F.cross_entropy(student, labels)
    if alpha == 0:
        return hard
    m, dtype = xp(z), student.dtype
    p = softmax_array(m.asarray(z, dtype=dtype) / temperature, -1)  # (..., V)
    weights = m.asarray(counts, dtype=dtype)[..., None] / n
    entropy = -float((weights * p * m.log(m.where(p > 0, p, 1))).sum())  # of the teacher: KL = cross-entropy - entropy
    cross = -(F.log_softmax(student * (1 / temperature)) * Tensor.wrap(weights * p)).sum()
    soft = (cross - entropy) * temperature**2
    return alpha * soft + (1 - alpha) * hard


class DistillationModel(Module):
    """A student beside its teacher, for the Trainer: `loss(batch)` is that of distillation, in training.

    Only the student has parameters here: the teacher is neither trained nor saved, and always in evaluation mode. In
    evaluation mode `loss` is the student's own, so that an eval_loss compares with any other model's.

    Args:
        student, teacher: models of the same vocabulary.
        logits: how a model's logits, one row for each label, come from a batch; by default model(input_ids), with
            attention_mask and token_type_ids where the batch has them.

    Raises:
        ConfigurationError: for a temperature or an alpha out of range, or if the vocabularies differ in size.
    """

    def __init__(
        self,
        student: Module,
        teacher: Module,
        temperature: float = 2.0,
        alpha: float = 0.5,
        logits: Logits | None = None,
    ) -> None:
        super().__init__()
        _check(temperature, alpha)
        sizes = [getattr(getattr(m, "config", None), "vocab_size", None) for m in (student, teacher)]
        if sizes[0] != sizes[1]:
            raise ConfigurationError(
                f"the student knows {sizes[0]} tokens and the teacher {sizes[1]}: distillation compares their "
                "probabilities token by token, so they must share a tokenizer"
            )
        self.student = student
        self._teacher = (teacher,)  # in a tuple: a Module would be registered as a part of this one
        self.temperature, self.alpha = temperature, alpha
        self._logits = logits or logits_of

    @property
    def teacher(self) -> Module:
        """The model that is learnt from."""
        return self._teacher[0]

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """See `distillation_loss`; in evaluation mode the student's own loss."""
        if not self.training:
            return self.student.loss(batch)
        with evaluating(self.teacher.modules()):
            teacher = self._logits(self.teacher, batch)
        student = self._logits(self.student, batch)
        return distillation_loss(student, teacher, batch["labels"], self.temperature, self.alpha)

    def describe(self) -> str:
        return f"temperature={self.temperature}, alpha={self.alpha}, teacher {type(self.teacher).__name__}"


def logits_of(model: Module, batch: Mapping[str, Any]) -> Tensor:
    """model(input_ids), with attention_mask and token_type_ids where the batch has them."""
    extra = {name: batch[name] for name in ("attention_mask", "token_type_ids") if name in batch}
    return model(batch["input_ids"], **extra)


def _check(temperature: float, alpha: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ConfigurationError(f"temperature={temperature}: it is a positive number; 2 to 4 are usual")
    if not 0 <= alpha <= 1:
        raise ConfigurationError(f"alpha={alpha}: it is from 0 (the labels alone) to 1 (the teacher alone)")
