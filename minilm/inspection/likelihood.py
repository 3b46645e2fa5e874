"""How probable is a text to a model? In nats, the whole text, not per token.

    decoder      log p(x) = sum_t log p(x_t | x_<t)                     t from the second token on, or from the first
                                                                        where a token is given that begins every text
    masked LM    PLL(x) = sum_t log p(x_t | all of x but x_t)           pseudo-log-likelihood (Salazar et al. 2020)

A longer text is less probable: compare texts that differ in a word. The second is no probability: its terms do not
multiply to one of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minilm.functional as F
from minilm.backend import to_numpy
from minilm.errors import DataError
from minilm.evaluation.masked import EachTokenHidden, evaluate_masked_language_model
from minilm.models import BERTForMaskedLM
from minilm.nn import Module, evaluating
from minilm.text.batches import IGNORED

LOGITS_AT_ONCE = 1 << 25  # 128 MB in float32


def log_likelihoods(model: Module, rows: Sequence[Any], start: int | None = None) -> NDArray[np.float64]:
    """log p of each row of ids (T_i,) under a decoder, (N,) in nats; rows of about one length go together.

    Args:
        start: an id that stands before every text, such as <|endoftext|>; then the first token is scored as well.

    Raises:
        DataError: if a row has nothing to score, or is longer than the model's context.
    """
    begin = [] if start is None else [start]
    whole = [np.concatenate([begin, np.asarray(row)]).astype(np.int64) for row in rows]
    longest = getattr(model, "context_length", None)
    for number, row in enumerate(whole):
        if len(row) < 2:
            raise DataError(f"text {number} has {len(row)} tokens: there must be one to score and one before it")
        if longest is not None and len(row) - 1 > longest:
            raise DataError(f"text {number} has {len(row)} tokens, and the model sees {longest} at most: cut it")
    found = np.empty(len(whole))
    order = sorted(range(len(whole)), key=lambda i: len(whole[i]))
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", 1)
    with evaluating(model.modules()):
        while order:
            T = len(whole[order[-1]])  # the longest first: if memory does not suffice, at once
            size = max(1, LOGITS_AT_ONCE // (T * vocabulary))
            chosen, order = order[-size:], order[:-size]
            ids = np.zeros((len(chosen), T - 1), dtype=np.int64)
            labels = np.full((len(chosen), T - 1), IGNORED)
            for place, i in enumerate(chosen):
                ids[place, : len(whole[i]) - 1] = whole[i][:-1]
                labels[place, : len(whole[i]) - 1] = whole[i][1:]
            # padding stands at the end, where no token before it looks
            losses = F.cross_entropy(F.at_least_float32(model(ids)), labels, reduction="none")
            found[chosen] = -to_numpy(losses.data).sum(-1, dtype=np.float64)
    return found


def pseudo_log_likelihoods(
    model: BERTForMaskedLM, rows: Sequence[Any], mask_id: int, cls_id: int, sep_id: int, batch_size: int = 32
) -> NDArray[np.float64]:
    """PLL of each row of ids (T_i,) without special tokens, (N,) in nats: a forward pass for each token.

    Raises:
        DataError: if a row is empty.
    """
    block = model.context_length
    return np.array(
        [
            -evaluate_masked_language_model(
                model, EachTokenHidden([row], batch_size, block, mask_id, cls_id, sep_id)
            ).total_nll
            for row in rows
        ]
    )
