"""Copying: a writer that may also point at a token of what it reads (Gu et al. 2016, section 3.2, equations 4 to 6).

    p(w)  =  ( e^l_w + sum over all i with s_i = w of e^c_i ) / Z

l are the logits of the V tokens and c the scores of the S tokens of the source: one softmax over both, and what speaks
for the same token is added up. So a name that the model has never seen can be written, if the source has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.backend import Array, is_array, xp
from minilm.functional.indexing import add_at, check_ids
from minilm.functional.precision import in_float32
from minilm.tensor import differentiable


@differentiable
@in_float32
def copy_logits(logits: Array, scores: Array, ids: Any) -> Any:
    """Logits with which the softmax is p; y is l, to the last bit, for each token that the source does not have.

        y_w = log(e^l_w + sum over all i with s_i = w of e^c_i)
        dl_w = g_w e^(l_w - y_w),   dc_i = g_(s_i) e^(c_i - y_(s_i))

    With l the logits, c the scores and s the ids. Of the terms in the logarithm each has the slope of its share:

        ∂y_w/∂l_w = e^(l_w - y_w),   ∂y_w/∂c_i = e^(c_i - y_w) where s_i = w

    Args:
        logits: (B, T, V).
        scores: (B, T, S); -inf for a place that is not to be copied, such as padding.
        ids: (B, S) integers from 0 to V - 1, the same for all T.

    Returns:
        (B, T, V).

    Raises:
        ValueError: for shapes that do not fit.
        TypeError, IndexError: for ids that are no integers, or not below V.
    """
    m = xp(logits)
    ids = ids if is_array(ids) else np.asarray(ids)
    if logits.ndim != 3 or scores.ndim != 3 or logits.shape[:2] != scores.shape[:2]:
        raise ValueError(f"logits (B, T, V) {logits.shape} and scores (B, T, S) {scores.shape} do not fit")
    (B, T, V), S = logits.shape, scores.shape[2]
    if ids.shape != (B, S):
        raise ValueError(f"ids (B, S) {ids.shape} and scores (B, T, S) {scores.shape} do not fit")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"token ids are integers, not {ids.dtype}: convert them with .astype('int64')")
    if ids.size:
        check_ids(ids, V)
    rows = m.arange(B * T).reshape(B, T, 1) * V
    places = (rows + m.asarray(ids, dtype="int64")[:, None]).reshape(-1)  # the source's, in the flattened logits

    top = m.full(B * T * V, -np.inf, dtype=scores.dtype)
    m.maximum.at(top, places, scores.reshape(-1))
    top = top[places].reshape(B, T, S)  # the best score for the same token, taken out of the exponentials
    top = m.where(top == -np.inf, 0, top)
    copies = add_at((B * T * V,), places, m.exp(scores - top).reshape(-1))[places].reshape(B, T, S)
    before = logits.reshape(-1)[places].reshape(B, T, S)
    with np.errstate(divide="ignore"):  # log 0: nothing to copy
        after = m.logaddexp(before, m.log(copies) + top)
    y = logits.copy()
    y.reshape(-1)[places] = after.reshape(-1)  # where a token comes twice both write the same number
    finite = m.where(after == -np.inf, 0, after)

    def share(score: Array) -> Array:
        """e^(score - y), a part of 1; 0 of nothing."""
        return m.exp(score - finite)

    def dlogits(g: Array) -> Array:
        dx = g.copy()
        dx.reshape(-1)[places] *= share(before).reshape(-1)  # read, then written: a repeated place is multiplied once
        return dx

    def dscores(g: Array) -> Array:
        return g.reshape(-1)[places].reshape(B, T, S) * share(scores)

    return y, (dlogits, dscores)
