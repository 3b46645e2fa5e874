"""Generation: a model's logits, one token at a time, become text. Read it in this order.

    sampling    one row of logits -> one token id: greedy, temperature, top-k, top-p, repetition penalty
    generate    prompt ids -> new ids, with the model's cache or state carried along
    streaming   prompt text -> new text, in pieces that are certain, up to a stop string

The shortest use: generate_text(model, tokenizer, "ROMEO:", 200), or generate(model, ids, 200) for ids.
"""

from minilm.generation.generate import LanguageModel, NextToken, generate, generate_tokens
from minilm.generation.sampling import (
    SamplingSettings,
    apply_repetition_penalty,
    apply_temperature,
    sample,
    top_k_filter,
    top_p_filter,
)
from minilm.generation.streaming import generate_text, stream_text, until_stop

__all__ = [
    *("LanguageModel", "NextToken", "SamplingSettings", "apply_repetition_penalty", "apply_temperature"),
    *("generate", "generate_text", "generate_tokens", "sample", "stream_text", "top_k_filter"),
    *("top_p_filter", "until_stop"),
]
