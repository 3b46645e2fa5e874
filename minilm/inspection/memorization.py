"""Was a secret learnt by heart? Exposure (Carlini et al. 2019, "The Secret Sharer", section 4).

A canary, one of R texts of one form drawn at random ("the code is 4921"), is put into the training data. If the model
ranks it r-th of all R by their probability,

    exposure = log2 R - log2 r           bits

0 where it is the least probable, log2 R where no other is more probable: then whoever knows the form can read the
secret out of the model by trying all. Of a model that never saw it r is anything from 1 to R, and the exposure is
about 1.4 bits (log2 e) on average, whatever R is.

What it does not show: secrets of another form, and what an attack that looks at more than the rank would find. A low
exposure of one canary is no promise; a bound for all of them is what differential privacy gives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm.errors import DataError


def exposure(log_likelihoods: Any, canary: int) -> float:
    """log2 R - log2 of the canary's rank, in bits.

    Args:
        log_likelihoods: (R,), of every text of the form, the canary among them.
        canary: its place there. Texts of exactly its probability count as more probable: no credit for ties.

    Raises:
        DataError: if there is no such place, or a likelihood is NaN.
    """
    found = np.asarray(log_likelihoods, dtype=np.float64)
    if found.ndim != 1 or not 0 <= canary < len(found):
        raise DataError(f"there is no canary {canary} among likelihoods of shape {found.shape}")
    if np.isnan(found).any():
        raise DataError(f"the likelihood of candidate {int(np.isnan(found).argmax())} is NaN: it has no rank")
    return math.log2(len(found)) - math.log2(int((found >= found[canary]).sum()))
