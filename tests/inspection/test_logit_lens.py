"""The logit lens: at the end it reads what the model says; on the way, the stream as it stands there."""

import numpy as np
import pytest

from minilm import no_grad
from minilm.errors import ConfigurationError
from minilm.inspection import layer_logits, logit_lens
from minilm.models import GPT, GPTConfig
from minilm.tensor import is_grad_enabled
from tests.inspection.small_models import IDS, T, V, small


@pytest.mark.parametrize("kind", ["gpt", "llama", "llama, own head"])
def test_the_last_layer_says_what_the_model_says(kind):
    model = small(kind).eval()
    layers = [logits.numpy() for logits in layer_logits(model, IDS)]
    assert len(layers) == model.config.n_layer + 1
    with no_grad():
        np.testing.assert_array_equal(layers[-1], model(IDS).numpy())
    assert all(np.abs(a - b).max() > 0.1 for a, b in zip(layers, layers[1:], strict=False))


def test_a_layer_says_what_a_model_of_so_many_layers_would_say():
    model = small("gpt").eval()
    for depth, logits in enumerate(layer_logits(model, IDS)):
        if depth == 0:
            with no_grad():
                x = model.final_norm(model.positions(model.token_embedding(IDS)))
            expected = x.numpy() @ model.token_embedding.weight.numpy().T
        else:
            shorter = GPT(GPTConfig(V, 16, n_layer=depth, n_head=2, n_embd=16)).eval()
            own = dict(shorter.named_parameters())
            shorter.load_state_dict({name: p.data for name, p in model.named_parameters() if name in own})
            with no_grad():
                expected = shorter(IDS).numpy()
        np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_figures_are_those_of_the_distributions():
    model = small("llama").eval()
    lens = logit_lens(model, IDS[0], follow=(5,))
    x = np.array([logits.numpy()[0] for logits in layer_logits(model, IDS[:1])], dtype=np.float64)
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    np.testing.assert_array_equal(lens.top, p.argmax(-1))
    np.testing.assert_allclose(lens.probability, p.max(-1), rtol=1e-9)
    np.testing.assert_allclose(lens.entropy, -(p * np.log(p)).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(lens.divergence, (p[-1] * np.log(p[-1] / p)).sum(-1), atol=1e-12)
    np.testing.assert_allclose(lens.followed[5], p[..., 5], rtol=1e-9)
    assert lens.top.shape == (4, T) and (lens.divergence[-1] == 0).all() and (lens.divergence[:-1] > 0).all()


def test_looking_leaves_the_model_and_the_recording_as_they_were():
    model = small("gpt")
    for _ in layer_logits(model, IDS):
        assert is_grad_enabled() and all(module.training for module in model.modules())
    assert not any(block._forward_hooks for block in model.blocks)


@pytest.mark.parametrize("kind", ["bert-masked-lm", "lstm", "transformer"])
def test_models_without_one_stream_are_refused(kind):
    with pytest.raises(ConfigurationError, match="pre-norm decoder"):
        next(layer_logits(small(kind), IDS))
