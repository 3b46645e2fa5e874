"""Beam search: greedy with one hypothesis, exhaustive with enough of them, and the same with and without caches."""

import itertools
import math

import numpy as np
import pytest

from minilm import no_grad
from minilm.errors import ConfigurationError, TrainingError
from minilm.generation import beam_search, length_penalty
from minilm.models import Seq2SeqLSTM, Seq2SeqLSTMConfig, Transformer, TransformerConfig
from minilm.random import Generator, using_generator

PAD, BOS, EOS = 0, 1, 2


def model_of(kind, vocab_size=7, seed=0):
    """A small model in float64 with lively parameters: no two tokens are equally probable."""
    with using_generator(Generator(seed)):
        if kind == "transformer":
            sizes = {"block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 8, "n_hidden": 12, "dropout": 0.1}
            model = Transformer(TransformerConfig(vocab_size=vocab_size, **sizes))
        else:
            model = Seq2SeqLSTM(Seq2SeqLSTMConfig(vocab_size, n_embd=6, n_hidden=8, dropout=0.1))
    model.astype("float64")
    for parameter in model.parameters():
        parameter.data += 0.4 * Generator(seed).spawn(str(parameter.shape)).normal(parameter.shape, dtype="float64")
    return model


@pytest.fixture(params=["transformer", "seq2seq-lstm"])
def kind(request):
    return request.param


def sources(B=3, Tk=5, vocab_size=7):
    ids = Generator(3).integers(3, vocab_size, (B, Tk))
    mask = np.ones((B, Tk), dtype=bool)
    mask[1, 3:] = False
    return ids, mask


def log_probability(model, ids, mask, text):
    """log P(text | source), computed in one piece from the formula; pad and bos keep their share."""
    with no_grad():
        logits = model.eval()(ids, np.array([[BOS, *text[:-1]]]), mask).numpy()[0]
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(log_p[t, token] for t, token in enumerate(text))


def all_texts(vocab_size, longest):
    """Every text of the tokens above eos: those that end within `longest` tokens, and those that are cut off there."""
    words = range(3, vocab_size)
    for length in range(longest):
        for body in itertools.product(words, repeat=length):
            yield (*body, EOS)
    yield from itertools.product(words, repeat=longest)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_beam_as_wide_as_there_are_texts_finds_the_best_of_all(kind, alpha):
    model, longest, V = model_of(kind, vocab_size=6), 3, 6
    ids, mask = sources(2, 4, V)
    texts = list(all_texts(V, longest))
    found = beam_search(model, ids, mask, beam_size=len(texts), alpha=alpha, max_length=longest)
    for b, ranked in enumerate(found):
        scores = {
            text: log_probability(model, ids[b : b + 1], mask[b : b + 1], text) / ((5 + len(text)) / 6) ** alpha
            for text in texts
        }
        best_first = sorted(texts, key=lambda text: -scores[text])
        assert [h.ids for h in ranked] == best_first
        assert [h.score for h in ranked] == pytest.approx([scores[text] for text in best_first])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_beam_of_one_takes_the_most_probable_token_each_time(kind, seed):
    model = model_of(kind, seed=seed)
    ids, mask = sources()
    for b, (best,) in enumerate(beam_search(model, ids, mask, beam_size=1, max_length=8)):
        text = []
        while len(text) < 8 and EOS not in text:
            with no_grad():
                logits = model.eval()(ids[b : b + 1], np.array([[BOS, *text]]), mask[b : b + 1]).numpy()[0, -1].copy()
            logits[[PAD, BOS]] = -np.inf
            text.append(int(logits.argmax()))
        assert best.ids == tuple(text)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_caches_change_nothing(kind, beam_size, seed):
    model = model_of(kind, seed=seed)  # one ends its texts early, the other never
    ids, mask = sources()
    cached = beam_search(model, ids, mask, beam_size, max_length=9)
    whole = beam_search(model, ids, mask, beam_size, max_length=9, use_cache=False)
    assert [[h.ids for h in ranked] for ranked in cached] == [[h.ids for h in ranked] for ranked in whole]
    for ours, theirs in zip(cached, whole, strict=True):
        np.testing.assert_allclose([h.score for h in ours], [h.score for h in theirs], rtol=1e-10)


@pytest.mark.parametrize("max_length", [9, None])
@pytest.mark.parametrize("seed", [1, 5])
def test_a_source_is_found_the_same_alone_and_among_others(kind, seed, max_length):
    model = model_of(kind, seed=seed)
    ids, mask = sources()
    together = beam_search(model, ids, mask, beam_size=3, max_length=max_length)
    for b, length in enumerate(mask.sum(1)):
        (alone,) = beam_search(model, ids[b : b + 1, :length], beam_size=3, max_length=max_length)
        assert [h.ids for h in alone] == [h.ids for h in together[b]]


def test_hypotheses_end_in_eos_or_at_the_greatest_length(kind):
    model = model_of(kind)
    ids, mask = sources()
    for ranked in beam_search(model, ids, mask, beam_size=4, max_length=5):
        assert len(ranked) == 4
        assert [h.score for h in ranked] == sorted((h.score for h in ranked), reverse=True)
        for h in ranked:
            assert len(h.ids) == 5 or h.ids[-1] == EOS
            assert EOS not in h.ids[:-1] and not {PAD, BOS} & set(h.ids)


def test_the_length_penalty_is_that_of_the_paper_and_prefers_longer_texts():
    assert length_penalty(1, 0.6) == 1
    assert length_penalty(7, 1.0) == pytest.approx(2)
    assert length_penalty(13, 0.5) == pytest.approx(math.sqrt(3))
    model = model_of("seq2seq-lstm", seed=5)
    ids, mask = sources()
    lengths = [
        [len(ranked[0].ids) for ranked in beam_search(model, ids, mask, 30, alpha, max_length=6)]
        for alpha in (0.0, 3.0)
    ]
    assert sum(lengths[1]) > sum(lengths[0])


def test_the_model_keeps_its_mode_and_records_nothing():
    model = model_of("transformer").train()
    beam_search(model, *sources(), beam_size=2, max_length=3)
    assert model.training and model.dropout.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_settings_that_make_no_sense_are_refused():
    model, (ids, mask) = model_of("transformer"), sources()
    for wrong in ({"beam_size": 0}, {"alpha": -1.0}, {"alpha": float("nan")}, {"max_length": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong)).replace("_", ".")):
            beam_search(model, ids, mask, **wrong)
    with pytest.raises(ValueError, match="axes"):
        beam_search(model, ids[0])


def test_a_diverged_model_is_reported():
    model = model_of("transformer")
    model.token_embedding.weight.data[:] = np.nan
    with pytest.raises(TrainingError, match="NaN"):
        beam_search(model, *sources())
