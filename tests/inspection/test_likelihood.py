"""The likelihood of a text is the sum of what its tokens are given, however texts are batched."""

import numpy as np
import pytest

import minilm.inspection.likelihood as likelihood
from minilm import no_grad
from minilm.errors import DataError
from minilm.inspection import log_likelihoods, pseudo_log_likelihoods
from tests.inspection.small_models import IDS, small

ROWS = [IDS[0], IDS[1][:3], IDS[0][1:3], IDS[1]]


def log_softmax(x):
    x = x.astype(np.float64)
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


@pytest.mark.parametrize("kind", ["gpt", "llama", "lstm"])
@pytest.mark.parametrize("start", [None, 2])
@pytest.mark.parametrize("room", [1 << 25, 1])
def test_of_a_decoder_it_is_the_sum_over_the_tokens(kind, start, room, monkeypatch):
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", room)  # all in one batch, or each by itself
    model = small(kind)
    expected = []
    for row in ROWS:
        ids = row if start is None else np.concatenate([[start], row])
        with no_grad():
            p = log_softmax(model.eval()(ids[None, :-1]).numpy()[0])
        expected.append(sum(p[t, ids[t + 1]] for t in range(len(ids) - 1)))
    np.testing.assert_allclose(log_likelihoods(model.train(), ROWS, start), expected, rtol=1e-5)
    assert model.training


def test_of_a_masked_model_each_token_is_hidden_once():
    model, mask, begin, end = small("bert-masked-lm"), 0, 1, 2
    expected = []
    for row in ROWS:
        total = 0.0
        for t, right in enumerate(row):
            ids = np.concatenate([[begin], row, [end]])
            ids[t + 1] = mask
            with no_grad():
                total += log_softmax(model.eval()(ids[None])[0].numpy()[0, t + 1])[right]
        expected.append(total)
    np.testing.assert_allclose(pseudo_log_likelihoods(model, ROWS, mask, begin, end, 2), expected, rtol=1e-5)


def test_texts_that_cannot_be_scored_are_refused():
    with pytest.raises(DataError, match="text 1 has 1 tokens"):
        log_likelihoods(small("gpt"), [IDS[0], IDS[0][:1]])
    with pytest.raises(DataError, match="the model sees 16"):
        log_likelihoods(small("gpt"), [np.ones(18, dtype=int)])
