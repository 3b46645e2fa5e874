"""Which words does an answer hang on? Three attributions, each a number for each token.

With x (T, C) the embeddings of the text and f(x) one number of the model's output (a logit, a difference of two):

    gradient norm       s_t = |df/dx_t|            how fast f changes when token t does (Simonyan et al. 2013)
    gradient x input    s_t = df/dx_t · x_t        to first order, what f would lose if x_t became 0
                                                   (Shrikumar et al. 2017 compare with it)
    integrated          s_t = (x_t - b_t) · mean_a df/dx_t(b + a (x - b))        from 0 to 1 for a, and b a baseline
                                                   (Sundararajan, Taly & Yan 2017, equation 1)

The last keeps accounts: its numbers sum to f(x) - f(b), "completeness" (their proposition 1). The integral is computed
by Gauss and Legendre's rule, at a few points in one batch.

What they do not show: how words act together, and what the model would say to another text. A text of embeddings on
the way to the baseline is one that nobody can write, and another baseline gives other numbers. Attributions that look
sensible are no proof: those of a model with random weights may, too (Adebayo et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minilm.backend import asarray, to_numpy
from minilm.errors import ConfigurationError
from minilm.nn import Embedding, Module, evaluating
from minilm.tensor import Tensor, enable_grad, no_grad

Score = Callable[[Any], Tensor]
"""From what model(ids) gives to one number for each row, (B,): `lambda logits: logits[:, 1] - logits[:, 0]`."""


@dataclass(frozen=True)
class Attribution:
    """A number for each token (T,), f of the text, and f of the baseline where there is one."""

    values: NDArray[np.float64]
    score: float
    baseline_score: float | None = None

    @property
    def gap(self) -> float:
        """How far the values are from completeness: sum - (f(x) - f(b)); small if there were enough points."""
        if self.baseline_score is None:
            raise ConfigurationError("only integrated gradients have a baseline, and so something to be complete to")
        return float(self.values.sum()) - (self.score - self.baseline_score)


def gradient_norm(model: Module, ids: NDArray[np.int64], score: Score, **more: Any) -> Attribution:
    """|df/dx_t| for each token of ids (T,); `more` goes to the model with them."""
    _, gradients, scores = _gradients(model, ids, score, _looked_up(model, ids)[None], more)
    return Attribution(np.linalg.norm(gradients[0], axis=-1), float(scores[0]))


def gradient_times_input(model: Module, ids: NDArray[np.int64], score: Score, **more: Any) -> Attribution:
    """df/dx_t · x_t for each token of ids (T,); positive where the token speaks for f."""
    x, gradients, scores = _gradients(model, ids, score, _looked_up(model, ids)[None], more)
    return Attribution((gradients[0] * x[0]).sum(-1), float(scores[0]))


def integrated_gradients(
    model: Module,
    ids: NDArray[np.int64],
    score: Score,
    baseline: NDArray[np.int64] | None = None,
    points: int = 32,
    batch_size: int = 16,
    **more: Any,
) -> Attribution:
    """(x_t - b_t) . the mean of df/dx_t between the baseline and the text, for each token of ids (T,).

    Args:
        baseline: ids (T,) of a text that says nothing, such as [PAD] between the marks; embeddings of zeros if None,
            but not for a Llama: it takes the length out of its embeddings, so that nearly all that happens on the way
            from zeros happens in one jump at their end, which no rule sees.
        points: of the quadrature; `gap` of the result tells whether they were enough.
        batch_size: so many points go through the model at once.

    Raises:
        ConfigurationError: if the model looks up no embeddings, or for less than one point.
        ValueError: if the baseline has another length.
    """
    if points < 1 or batch_size < 1:
        raise ConfigurationError(f"points={points}, batch_size={batch_size}: both are at least 1")
    x = _looked_up(model, ids)
    if baseline is not None and baseline.shape != ids.shape:
        raise ValueError(f"the baseline has the shape {baseline.shape} and the text {ids.shape}: one id for each token")
    b = np.zeros_like(x) if baseline is None else _looked_up(model, baseline)
    places, weights = np.polynomial.legendre.leggauss(points)  # on [-1, 1]
    along = (places + 1) / 2
    mean = np.zeros(x.shape)
    for start in range(0, points, batch_size):
        a = along[start : start + batch_size, None, None]
        _, gradients, _ = _gradients(model, ids, score, b + a * (x - b), more)
        mean += np.einsum("a,atc->tc", weights[start : start + batch_size] / 2, gradients)
    _, _, ends = _gradients(model, ids, score, np.stack([x, b]), more, backward=False)
    return Attribution(((x - b) * mean).sum(-1), float(ends[0]), float(ends[1]))


def _table(model: Module) -> tuple[Module, str]:
    """The module that holds the embedding of tokens, and its name there."""
    for module in model.modules():
        table = module._modules.get("token_embedding")
        if isinstance(table, Embedding | _Given):
            return module, "token_embedding"
    raise ConfigurationError(
        f"{type(model).__name__} looks up no token embeddings: attributions are taken with respect to them"
    )


def _looked_up(model: Module, ids: NDArray[np.int64]) -> np.ndarray:
    """The embeddings (T, C) of ids (T,)."""
    owner, name = _table(model)
    with no_grad():
        return np.array(to_numpy(owner._modules[name](ids).data))


class _Given(Module):
    """Stands in for the embedding: the first look-up gives what it was given, later ones the table's rows.

    (An encoder-decoder with one table reads the source first.) The weight is there for a head that shares it.
    """

    def __init__(self, table: Module, rows: Tensor) -> None:
        super().__init__()
        self.weight = table.weight
        self._table, self._rows = (table,), [rows]

    def forward(self, ids: Any) -> Tensor:
        return self._rows.pop() if self._rows else self._table[0](ids)


@contextmanager
def _reading(model: Module, rows: Tensor) -> Iterator[None]:
    """Within the block the model reads `rows` (B, T, C), whatever ids it is given."""
    owner, name = _table(model)
    table = owner._modules[name]
    owner._modules[name] = _Given(table, rows)
    try:
        yield
    finally:
        owner._modules[name] = table


def _gradients(
    model: Module,
    ids: NDArray[np.int64],
    score: Score,
    rows: np.ndarray,
    more: dict[str, Any],
    backward: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """rows (B, T, C), df/drows of the same shape, and f (B,), all float64 but computed in the model's precision."""
    owner, name = _table(model)
    dtype = owner._modules[name].weight.dtype
    x = Tensor(asarray(rows, dtype=dtype), requires_grad=backward)
    B = len(rows)
    repeated = {key: np.repeat(np.asarray(value)[None], B, axis=0) for key, value in more.items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:  # their gradients are not asked for, and would be added to what is there
        p.requires_grad = False
    try:
        with evaluating(model.modules()), enable_grad(), _reading(model, x):
            f = score(model(np.repeat(ids[None], B, axis=0), **repeated))
            if f.shape != (B,):
                raise ValueError(f"a score is one number for each row, ({B},), and this one has the shape {f.shape}")
            if backward:
                f.sum().backward()
    finally:
        for p in trained:
            p.requires_grad = True
    gradients = np.zeros(rows.shape) if x.grad is None else to_numpy(x.grad.data).astype(np.float64)
    return to_numpy(x.data).astype(np.float64), gradients, to_numpy(f.data).astype(np.float64)
