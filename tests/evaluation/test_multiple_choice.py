"""The score of an option is the sum of the log-probabilities of its tokens, with a cache and in batches as without."""

import numpy as np
import pytest

from minilm import no_grad
from minilm.errors import DataError, TokenizerError
from minilm.evaluation import calibrated, option_log_likelihoods
from minilm.models import GPT, LSTMLM, GPTConfig, Llama, LlamaConfig, LSTMConfig
from minilm.nn import KVCache
from minilm.random import Generator, using_generator
from minilm.text import ByteTokenizer, GPT2Tokenizer
from minilm.text.tokenizers.byte_characters import CHARACTERS

PROMPTS = ["Shown: a, b. Now: xyz is", "Shown: a, b. Now: q is", "Shown: a, b. Now: no words at all is"]
OPTIONS = [" yes", " no", " yet"]
BYTES = ByteTokenizer()


def model_of(kind, context=64):
    """A small model with weights that matter, of 300 tokens."""
    with using_generator(Generator(1)):
        if kind == "gpt":
            model = GPT(GPTConfig(300, context, n_layer=2, n_head=2, n_embd=16))
        elif kind == "llama":
            model = Llama(LlamaConfig(300, context, 2, 4, 2, 16, 24))
        else:
            model = LSTMLM(LSTMConfig(300, n_embd=12, n_hidden=16, n_layer=2))
    generator = Generator(2)
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape)
    return model


def by_hand(model, prompt, option):
    """One forward pass over the whole text, and the log-probabilities of the option's tokens added up."""
    before, ids = BYTES.encode(prompt), BYTES.encode(prompt + option)
    with no_grad():
        logits = model(ids[None]).numpy()[0, :, :256].astype(np.float64)  # the tokenizer's tokens, not the 44 above
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(log_p[t - 1, ids[t]] for t in range(len(before), len(ids)))


@pytest.mark.parametrize("batch_tokens", [1, 60, 512])
@pytest.mark.parametrize("kind", ["gpt", "llama", "lstm"])
def test_the_scores_are_those_of_one_pass_over_the_whole_text(kind, batch_tokens):
    model = model_of(kind).eval()
    expected = [[by_hand(model, prompt, option) for option in OPTIONS] for prompt in PROMPTS]
    for use_cache in (True, False):
        scores = option_log_likelihoods(model, BYTES, PROMPTS, OPTIONS, batch_tokens, use_cache)
        np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected) > 1


def test_what_the_prompts_have_in_common_is_read_once(monkeypatch):
    model, read = model_of("gpt"), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda ids, state=None: (read.append(ids.shape), decode(ids, state))[1])
    option_log_likelihoods(model, BYTES, PROMPTS, OPTIONS)
    common = len("Shown: a, b. Now: ")
    rest = len("no words at all is") + len(" ye")
    assert read == [(1, common), (6, rest)], "options that differ in their last token share a row"


def test_one_prompt_is_read_but_for_its_last_token():
    model = model_of("llama").eval()
    scores = option_log_likelihoods(model, BYTES, PROMPTS[:1], OPTIONS)
    np.testing.assert_allclose(scores, [[by_hand(model, PROMPTS[0], option) for option in OPTIONS]], atol=1e-4)
    alone = option_log_likelihoods(model, BYTES, ["a"], [" b"])
    np.testing.assert_allclose(alone, [[by_hand(model, "a", " b")]], atol=1e-4)


def test_the_model_is_left_as_it_was():
    model = model_of("gpt").train()
    option_log_likelihoods(model, BYTES, PROMPTS, OPTIONS)
    assert model.training


def test_calibration_takes_off_what_the_options_have_from_nothing():
    scores = np.log([[0.6, 0.3], [0.8, 0.1]])
    content_free = np.log([[0.75, 0.05], [0.85, 0.15]])  # means 0.8 and 0.1
    expected = np.log([[0.6 / 0.8, 0.3 / 0.1], [0.8 / 0.8, 0.1 / 0.1]])
    np.testing.assert_allclose(calibrated(scores, content_free), expected, atol=1e-12)
    assert scores.argmax(-1).tolist() == [0, 0] and calibrated(scores, content_free)[0].argmax() == 1


def test_a_prompt_that_does_not_fit_is_an_error():
    with pytest.raises(DataError, match="has 39 tokens, and the model sees 30: show fewer"):
        option_log_likelihoods(model_of("gpt", context=30), BYTES, PROMPTS, OPTIONS)
    with pytest.raises(DataError, match="prompt 1 has no tokens"):
        option_log_likelihoods(model_of("gpt"), BYTES, ["a", ""], OPTIONS)
    with pytest.raises(DataError, match="0 prompts"):
        option_log_likelihoods(model_of("gpt"), BYTES, [], OPTIONS)


def test_an_option_that_changes_the_tokens_of_its_prompt_is_an_error():
    tokenizer = GPT2Tokenizer([*CHARACTERS, "ab"], [("a", "b")])
    with pytest.raises(TokenizerError, match="put the space between"):
        option_log_likelihoods(model_of("gpt"), tokenizer, ["a"], ["b"])


def test_a_copy_of_a_cache_may_be_smaller():
    cache = KVCache(100)
    with no_grad():
        row = model_of("gpt").token_embedding(np.arange(6).reshape(1, 6)).reshape(1, 2, 6, 8)
        cache.append(row, row)
        copy = cache.select([0, 0], capacity=7)
        same = cache.select([0])
    assert (copy.capacity, copy.length, same.capacity) == (7, 6, 100)
    assert copy.key is not None and copy.key.shape == (2, 2, 7, 8)
