"""Generation: a model's logits, one token at a time, become text. Read it in this order.

    sampling    one row of logits -> one token id: greedy, temperature, top-k, top-p, repetition penalty
    generate    prompt ids -> new ids, with the model's cache or state carried along
    streaming   prompt text -> new text, in pieces that are certain, up to a stop string
    prompting   examples and a question -> one prompt text, few-shot
    replies     many prompts -> the most probable reply to each, for scoring
    beam_search source ids -> the best target ids, for models that read one text and write another
    translate   source texts -> target texts, by beam search
    answering   a question and a text -> the piece of the text that answers it

The shortest use: generate_text(model, tokenizer, "ROMEO:", 200), or generate(model, ids, 200) for ids.
"""

from minilm.generation.answering import FoundAnswer, best_span, find_answers
from minilm.generation.beam_search import EncoderDecoder, Hypothesis, beam_search, length_penalty
from minilm.generation.generate import LanguageModel, NextToken, continue_tokens, generate, generate_tokens
from minilm.generation.prompting import FewShotPrompt, balanced_examples
from minilm.generation.replies import greedy_replies
from minilm.generation.sampling import (
    SamplingSettings,
    apply_repetition_penalty,
    apply_temperature,
    sample,
    top_k_filter,
    top_p_filter,
)
from minilm.generation.streaming import decoded, generate_text, stream_text, until_stop
from minilm.generation.translate import hypotheses, translate

__all__ = [
    *("EncoderDecoder", "FewShotPrompt", "FoundAnswer", "Hypothesis", "LanguageModel", "NextToken"),
    *("SamplingSettings", "apply_repetition_penalty", "apply_temperature", "balanced_examples", "beam_search"),
    *("best_span", "continue_tokens", "decoded", "find_answers", "generate", "generate_text", "generate_tokens"),
    *("greedy_replies", "hypotheses", "length_penalty", "sample", "stream_text", "top_k_filter", "top_p_filter"),
    *("translate", "until_stop"),
]
