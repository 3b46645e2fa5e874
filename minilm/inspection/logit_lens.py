"""The logit lens: what would the model say if it stopped after layer l? (nostalgebraist 2020, "interpreting GPT: the
logit lens".)

    x_0 = embeddings,   x_l = block_l(x_(l-1))       the residual stream after block l
    logits_l = unembedding(norm(x_l))                norm is the last one; l = 0 .. L; logits_L are the model's own

In a pre-norm model each block adds to one stream, which the last norm and the head read. So they can read it anywhere
along the way. Often the answer is there long before the last layer, and the layers before it hold vaguer versions.

What it does not show: that a layer "thinks" what the lens reads. The head was trained on x_L alone; where an earlier
layer keeps the same thing along other directions the lens is blind (the tuned lens of Belrose et al. 2023 learns a map
for each layer instead). And what stands in the stream need not be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minilm.functional as F
from minilm.backend import to_numpy
from minilm.errors import ConfigurationError
from minilm.generation.sampling import log_softmax
from minilm.models import GPT, Llama
from minilm.nn import evaluating
from minilm.tensor import Tensor


@dataclass(frozen=True)
class LogitLens:
    """What each layer would say after each token of one text, from l = 0 (the embeddings) to L; axes (L + 1, T).

    Attributes:
        top: the most probable next token.
        probability: what the layer gives it.
        entropy: of the layer's distribution, in nats: log V where it knows nothing.
        divergence: KL(the model's own distribution || the layer's), in nats; 0 in the last layer.
        followed: the probability of each of the tokens that were asked for, {id: (L + 1, T)}.
    """

    top: NDArray[np.int64]
    probability: NDArray[np.float64]
    entropy: NDArray[np.float64]
    divergence: NDArray[np.float64]
    followed: dict[int, NDArray[np.float64]]


def layer_logits(model: GPT | Llama, ids: Any) -> Iterator[Tensor]:
    """The logits (B, T, V) of the embeddings, of each block, and so at last the model's own; ids (B, T).

    Raises:
        ConfigurationError: for a model whose blocks do not write into one stream with a norm at its end.
    """
    if not isinstance(model, GPT | Llama):
        raise ConfigurationError(
            f"the logit lens reads the stream of a pre-norm decoder, GPT or Llama, not a {type(model).__name__}"
        )
    stream: list[Tensor] = []

    def look(block: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
        if not stream:
            stream.append(arguments[0])
        stream.append(output)

    removers = [block.register_forward_hook(look) for block in model.blocks]
    try:
        with evaluating(model.modules()):
            model(ids)
    finally:
        for remove in removers:
            remove()
    head = getattr(model, "head", None) or model.token_embedding
    for x in stream:
        with evaluating(model.modules()):  # not around the yield: the reader may record
            logits = F.linear(model.final_norm(x), head.weight)
        yield logits


def logit_lens(model: GPT | Llama, ids: NDArray[np.int64], follow: tuple[int, ...] = ()) -> LogitLens:
    """Look at every layer for one text, ids (T,); see LogitLens. `follow`: ids whose probability is wanted as well."""
    layers = [log_softmax(to_numpy(logits.data)[0]) for logits in layer_logits(model, ids[None])]
    final = layers[-1]
    p = [np.exp(layer) for layer in layers]
    return LogitLens(
        top=np.array([layer.argmax(-1) for layer in layers]),
        probability=np.array([q.max(-1) for q in p]),
        entropy=np.array([-(q * layer).sum(-1) for q, layer in zip(p, layers, strict=True)]),
        divergence=np.array([(p[-1] * (final - layer)).sum(-1) for layer in layers]),
        followed={token: np.array([q[:, token] for q in p]) for token in follow},
    )
