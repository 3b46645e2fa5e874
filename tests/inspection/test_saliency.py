"""Attributions: the gradient is the one that differences show, and integrated gradients keep their accounts."""

import numpy as np
import pytest

import minilm.functional as F
from minilm import no_grad
from minilm.errors import ConfigurationError
from minilm.inspection import gradient_norm, gradient_times_input, integrated_gradients
from minilm.nn import Linear, Module
from minilm.tensor import Tensor, enable_grad
from tests.inspection.small_models import IDS, MASK, TARGET, T, small

ROW = IDS[0]
BASELINE = np.full(T, 1)


def other_class(logits):
    return logits[:, 1] - logits[:, 0]


def next_token(logits):
    return F.log_softmax(logits[:, -1])[:, 5]


class LinearInTheEmbeddings(Module):
    """f = sum over t of w_t . x_t: what every attribution should say of it is plain."""

    def __init__(self):
        super().__init__()
        self.token_embedding = small("lstm").token_embedding
        self.head = Linear(T * 8, 1, bias=False)

    def forward(self, ids):
        return self.head(self.token_embedding(ids).reshape(len(ids), -1))


def test_of_a_linear_model_each_token_gets_its_own_term():
    model = LinearInTheEmbeddings()
    x = model.token_embedding.weight.numpy()[ROW]
    b = model.token_embedding.weight.numpy()[BASELINE]
    w = model.head.weight.numpy().reshape(T, 8)

    def score(y):
        return y[:, 0]

    np.testing.assert_allclose(gradient_norm(model, ROW, score).values, np.linalg.norm(w, axis=1), rtol=1e-5)
    np.testing.assert_allclose(gradient_times_input(model, ROW, score).values, (w * x).sum(1), rtol=1e-4, atol=1e-6)
    found = integrated_gradients(model, ROW, score, BASELINE, points=1)  # a straight line needs no more
    np.testing.assert_allclose(found.values, (w * (x - b)).sum(1), rtol=1e-4, atol=1e-6)
    assert found.score == pytest.approx((w * x).sum(), rel=1e-5) and abs(found.gap) < 1e-5


@pytest.mark.parametrize(
    "kind, score, baseline",
    [
        ("bert-classifier", other_class, None),
        ("bert-classifier", other_class, BASELINE),
        ("gpt", next_token, None),
        ("gpt", next_token, BASELINE),
        ("llama", next_token, BASELINE),  # not zeros: RMSNorm makes the way from there a jump
        ("lstm", next_token, None),
    ],
)
def test_integrated_gradients_are_complete(kind, score, baseline):
    model = small(kind)
    if kind == "bert-classifier":  # a head that starts as noise of 0.02 says nothing about any text
        model.classifier.weight.data *= 20
    coarse = integrated_gradients(model, ROW, score, baseline, points=2)
    fine = integrated_gradients(model, ROW, score, baseline, points=300, batch_size=64)
    moved = abs(fine.score - fine.baseline_score)
    assert moved > 0.01
    assert abs(fine.gap) < 0.02 * moved + 1e-4
    assert abs(fine.gap) < abs(coarse.gap)
    with no_grad():
        assert fine.score == pytest.approx(score(model.eval()(ROW[None])).item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind, score", [("bert-classifier", other_class), ("gpt", next_token)])
def test_the_gradient_is_the_one_that_differences_show(kind, score):
    """Along the embeddings themselves: (f(x + e x_t) - f(x - e x_t)) / 2e = df/dx_t . x_t."""
    model = small(kind).astype("float64").eval()
    found = gradient_times_input(model, ROW, score).values
    owner = model.bert if kind.startswith("bert") else model
    table, e = owner.token_embedding, 1e-6

    class Shifted(Module):
        def __init__(self, t, by):
            super().__init__()
            self.weight, self.scale = table.weight, np.where(np.arange(T) == t, 1 + by, 1.0)[:, None]

        def forward(self, ids):
            return table(ids) * Tensor(self.scale)

    expected = []
    for t in range(T):
        ends = []
        for by in (e, -e):
            owner.token_embedding = Shifted(t, by)
            with no_grad():
                ends.append(score(model(ROW[None])).item())
            owner.token_embedding = table
        expected.append((ends[0] - ends[1]) / (2 * e))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_what_stands_behind_padding_gets_nothing():
    model = small("bert-classifier")
    found = gradient_norm(model, IDS[1], other_class, attention_mask=MASK[1]).values
    assert (found[:4] > 0).all() and (found[4:] == 0).all()


def test_of_an_encoder_decoder_the_source_is_what_is_looked_at():
    model = small("transformer")

    def score(logits):
        return F.log_softmax(logits[:, -1])[:, 5]

    found = integrated_gradients(model, ROW, score, points=64, decoder_input_ids=TARGET[0])
    with no_grad():
        expected = score(model.eval()(ROW[None], TARGET[:1])).item()
    assert found.values.shape == (T,) and found.score == pytest.approx(expected, rel=1e-4)


def test_looking_leaves_the_model_as_it_was():
    model = small("bert-classifier")
    model.bert.blocks[0].attention.requires_grad_(False)
    before = {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()}
    table = model.bert.token_embedding
    with no_grad():
        integrated_gradients(model, ROW, other_class, points=2)
    with enable_grad(), pytest.raises(ValueError, match="one number for each row"):
        gradient_norm(model, ROW, lambda logits: logits)
    assert {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()} == before
    assert model.bert.token_embedding is table and all(module.training for module in model.modules())


def test_bad_input_is_refused():
    model = small("bert-classifier")
    with pytest.raises(ValueError, match="one id for each token"):
        integrated_gradients(model, ROW, other_class, BASELINE[:3])
    with pytest.raises(ConfigurationError, match="points=0"):
        integrated_gradients(model, ROW, other_class, points=0)
    with pytest.raises(ConfigurationError, match="no token embeddings"):
        gradient_norm(Linear(2, 2), ROW, other_class)
    with pytest.raises(ConfigurationError, match="baseline"):
        _ = gradient_norm(model, ROW, other_class).gap
