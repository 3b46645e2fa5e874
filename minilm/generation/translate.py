"""Texts in, texts out, for models that read a source and write a target: translation, or any task of pairs.

    translate(model, tokenizer, ["Good morning."])    ["Guten Morgen."]

The texts are searched in batches of like lengths, and come back in their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minilm.errors import DataError
from minilm.generation.beam_search import EncoderDecoder, Hypothesis, beam_search
from minilm.text.batches import pad_collate
from minilm.text.parallel import PairTokenizer


def translate(
    model: EncoderDecoder,
    tokenizer: PairTokenizer,
    texts: Sequence[str],
    beam_size: int = 4,
    alpha: float = 0.6,
    max_length: int | None = None,
    batch_size: int = 64,
    longest: int | None = None,
) -> list[str]:
    """The best hypothesis for each text; see `beam_search`.

    longest: texts of more tokens are cut to so many (for a summary, whose source may be any document).

    Raises:
        DataError: for a text that is longer than the model's context.
    """
    found = hypotheses(model, tokenizer, texts, beam_size, alpha, max_length, batch_size, longest)
    return [tokenizer.decode(ranked[0].ids) for ranked in found]


def hypotheses(
    model: EncoderDecoder,
    tokenizer: PairTokenizer,
    texts: Sequence[str],
    beam_size: int = 4,
    alpha: float = 0.6,
    max_length: int | None = None,
    batch_size: int = 64,
    longest: int | None = None,
) -> list[list[Hypothesis]]:
    """What beam search finds for each text, the best first."""
    sources = [tokenizer.encode(text, longest) for text in texts]
    for text, ids in zip(texts, sources, strict=True):
        if model.context_length is not None and len(ids) > model.context_length:
            raise DataError(
                f"{text[:60]!r}... has {len(ids)} tokens, and the model reads at most {model.context_length}: "
                "give it one sentence at a time"
            )
    order = np.argsort([len(ids) for ids in sources], kind="stable")
    found: list[list[Hypothesis]] = [[] for _ in sources]
    for begin in range(0, len(order), batch_size):
        chosen = order[begin : begin + batch_size]
        batch = pad_collate([{"input_ids": sources[i]} for i in chosen])
        results = beam_search(
            model, batch["input_ids"], batch.get("attention_mask"), beam_size, alpha, max_length
        )
        for i, ranked in zip(chosen, results, strict=True):
            found[i] = ranked
    return found
