"""Overlapping windows: every token is scored once, from as much as the stride leaves, and the sum is the text's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import ConfigurationError, DataError
from minilm.evaluation import StridedWindows, evaluate_language_model
from minilm.models import GPT, GPTConfig
from minilm.random import Generator, using_generator
from minilm.text import SequentialBatches


def scored(windows):
    """(token, tokens before it in its window) of every label, in order; ids count up, so a label's input is known."""
    found = []
    for batch in windows:
        for inputs, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            for t in np.flatnonzero(labels != -100):
                assert labels[t] == inputs[t] + 1, "a label is the token after its input"
                found.append((int(labels[t]), int(t) + 1))
    return found


@given(st.lists(st.integers(0, 23), min_size=1, max_size=4), st.integers(1, 9), st.data(), st.integers(1, 5))
def test_every_token_of_every_document_is_scored_once(lengths, T, data, batch_size):
    stride = data.draw(st.integers(1, T))
    documents = [100 * k + np.arange(n) for k, n in enumerate(lengths)]
    expected = [int(token) for document in documents for token in document[1:]]
    if not expected:
        with pytest.raises(DataError, match="nothing to evaluate"):
            StridedWindows(documents, batch_size, T, stride)
        return
    windows = StridedWindows(documents, batch_size, T, stride)
    found = scored(windows)
    assert [token for token, _ in found] == expected
    assert windows.tokens == len(expected) and windows.scored_documents == sum(n > 1 for n in lengths)
    assert len(list(windows)) == len(windows)
    for token, seen in found:  # all that is before it in its document, or as much as the stride leaves
        assert min(token % 100, T - stride + 1) <= seen <= T


def test_the_picture_in_the_docstring():
    found = scored(StridedWindows([np.arange(10)], 1, 4, 2))
    assert found == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 4), (7, 3), (8, 4), (9, 3)]


def test_a_stride_of_the_whole_context_gives_the_batches_of_training():
    tokens = np.arange(50)
    ours, known = StridedWindows([tokens], 3, 8), SequentialBatches(tokens, 3, 8)
    assert len(ours) == len(known)
    for a, b in zip(ours, known, strict=True):
        kept = b["labels"] != -100
        np.testing.assert_array_equal(a["labels"][a["labels"] != -100], b["labels"][kept])
        np.testing.assert_array_equal(a["input_ids"][a["labels"] != -100], b["input_ids"][kept])


@pytest.fixture(scope="module")
def model():
    """A GPT with weights large enough for its context to matter."""
    with using_generator(Generator(0)):
        model = GPT(GPTConfig(11, 6, n_layer=2, n_head=2, n_embd=16))
    for parameter in model.parameters():
        parameter.data *= 8
    return model


def by_hand(model, tokens, T):
    """-log p of each token given the T before it, one forward pass a token."""
    total = 0.0
    for i in range(1, len(tokens)):
        logits = model(tokens[None, max(0, i - T) : i]).numpy()[0, -1].astype(np.float64)
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[tokens[i]]
    return total


def test_a_stride_of_one_is_the_loop_over_single_tokens(model):
    tokens = Generator(1).integers(0, 11, 40)
    score = evaluate_language_model(model, StridedWindows([tokens], 7, 6, 1), documents=1)
    assert score.tokens == 39 and score.documents == 1
    assert score.total_nll == pytest.approx(by_hand(model, tokens, 6), rel=1e-5)
    side_by_side = evaluate_language_model(model, StridedWindows([tokens], 7, 6))
    assert abs(side_by_side.total_nll - score.total_nll) > 1e-2, "the windows would not matter to this model"


def test_what_fits_into_the_context_is_scored_exactly_whatever_the_stride(model):
    documents = [Generator(k).integers(0, 11, n) for k, n in enumerate((7, 2, 5))]
    expected = sum(by_hand(model, document, 6) for document in documents)
    for stride in (1, 2, 6):
        score = evaluate_language_model(model, StridedWindows(documents, 2, 6, stride))
        assert score.total_nll == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stride", [0, 7, -1])
def test_a_stride_that_would_leave_tokens_out_is_refused(stride):
    with pytest.raises(ConfigurationError, match=f"stride={stride}.*context of 6"):
        StridedWindows([np.arange(9)], 1, 6, stride)


def test_bits_per_byte_do_not_depend_on_how_the_text_was_cut():
    """Two tokenizers with the same opinion of a text of 30 bytes: 10 tokens of 3 bits, or 30 of 1 bit."""

    class Uniform:
        def __init__(self, bits):
            self.bits = bits

        def loss(self, batch):
            return self.bits * np.log(2)

    long, short = ([{"labels": np.zeros(n, int)}] for n in (10, 30))
    a = evaluate_language_model(Uniform(3), long, n_bytes=30)
    b = evaluate_language_model(Uniform(1), short, n_bytes=30)
    assert a.bits_per_byte == pytest.approx(1) and b.bits_per_byte == pytest.approx(1)
    assert a.perplexity == pytest.approx(8) and b.perplexity == pytest.approx(2)
    assert evaluate_language_model(Uniform(1), short).bits_per_byte is None
