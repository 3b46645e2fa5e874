"""Llama is the published architecture: its size, its equations, what it can see, its cache and its gradients."""

import numpy as np
import pytest

import minilm.functional as F
from minilm import no_grad
from minilm.errors import ConfigurationError
from minilm.generation import generate
from minilm.models import Llama, LlamaConfig
from minilm.optim import AdamW
from minilm.random import Generator, using_generator
from minilm.testing import dual_test, gradcheck
from minilm.training import load_model, save_checkpoint

TINY = {
    "vocab_size": 7,
    "block_size": 6,
    "n_layer": 2,
    "n_head": 4,
    "n_kv_head": 2,
    "n_embd": 8,
    "n_hidden": 12,
    "rope_theta": 100.0,
}


def tiny(seed=0, **changes):
    with using_generator(Generator(seed)):
        return Llama(LlamaConfig(**{**TINY, **changes}))


def lively(model, seed=1):
    generator = Generator(seed)
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape, dtype=parameter.dtype)
    return model


def ids_of(*shape, seed=0, vocab_size=TINY["vocab_size"]):
    return Generator(seed).integers(0, vocab_size, shape)


def logits_of(model, ids, **keywords):
    with no_grad():
        return model(np.asarray(ids), **keywords).numpy()


@pytest.mark.parametrize("tied", [True, False])
def test_the_number_of_parameters_is_the_formula(tied):
    for changes in ({}, {"n_layer": 3, "n_head": 2, "n_kv_head": 1}, {"vocab_size": 50, "n_hidden": 5}):
        c = LlamaConfig(**{**TINY, **changes, "tied": tied})
        C, kv = c.n_embd, c.n_kv_head * c.head_width
        block = 2 * C + 2 * C * C + 2 * kv * C + 3 * c.n_hidden * C
        assert Llama(c).num_parameters() == (1 if tied else 2) * c.vocab_size * C + c.n_layer * block + C


def test_the_defaults_are_smollm2_135ms():
    c = LlamaConfig()
    kv = c.n_kv_head * c.head_width
    block = 2 * c.n_embd + 2 * c.n_embd**2 + 2 * kv * c.n_embd + 3 * c.n_hidden * c.n_embd
    assert c.vocab_size * c.n_embd + c.n_layer * block + c.n_embd == 134_515_008


def rms_norm(x, weight, eps=1e-5):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def turned(x, t, theta, interleaved):
    """The vector (D,) at position t, each of its pairs turned by t theta^(-2i/D)."""
    D, y = len(x), x.copy()
    for i in range(D // 2):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + D // 2)
        angle = t * theta ** (-2 * i / D)
        y[a] = x[a] * np.cos(angle) - x[b] * np.sin(angle)
        y[b] = x[b] * np.cos(angle) + x[a] * np.sin(angle)
    return y


def llama(ids, p, config):
    """The logits (T, V) for ids (T,), one head and one query at a time."""
    c, T, D = config, len(ids), config.head_width
    x = p["token_embedding.weight"][ids]
    for layer in range(c.n_layer):
        q = {name.removeprefix(f"blocks.{layer}."): array for name, array in p.items()}
        qkv = rms_norm(x, q["norm_1.weight"]) @ q["attention.qkv_proj.weight"].T
        heads = [qkv[:, h * D : (h + 1) * D] for h in range(c.n_head + 2 * c.n_kv_head)]
        attended = []
        for h in range(c.n_head):
            shared = c.n_head + h // (c.n_head // c.n_kv_head)
            query, key, value = heads[h], heads[shared], heads[shared + c.n_kv_head]
            rows = []
            for t in range(T):
                now = turned(query[t], t, c.rope_theta, c.interleaved)
                scores = [now @ turned(key[s], s, c.rope_theta, c.interleaved) / np.sqrt(D) for s in range(t + 1)]
                weights = np.exp(scores) / np.exp(scores).sum()
                rows.append(weights @ value[: t + 1])
            attended.append(rows)
        x = x + np.concatenate(attended, axis=1) @ q["attention.out_proj.weight"].T
        y = rms_norm(x, q["norm_2.weight"])
        gate = y @ q["feed_forward.gate_proj.weight"].T
        hidden = gate / (1 + np.exp(-gate)) * (y @ q["feed_forward.up_proj.weight"].T)
        x = x + hidden @ q["feed_forward.down_proj.weight"].T
    head = p["token_embedding.weight"] if c.tied else p["head.weight"]
    return rms_norm(x, p["final_norm.weight"]) @ head.T


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_are_those_of_the_equations(interleaved, tied):
    model = lively(tiny(interleaved=interleaved, tied=tied, n_layer=3).astype("float64"))
    for ids in ids_of(3, 6):
        expected = llama(ids, model.state_dict(), model.config)
        np.testing.assert_allclose(logits_of(model, ids[None])[0], expected, rtol=1e-6, atol=1e-6)


def test_no_position_sees_what_comes_after_it_and_every_one_what_came_before():
    model = lively(tiny())
    ids = ids_of(1, 6)
    logits = logits_of(model, ids)
    for t in range(6):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 7
        difference = np.abs(logits_of(model, changed) - logits).max(axis=-1)[0]
        assert (difference[:t] < 1e-6).all() and (difference[t:] > 1e-4).all()


def test_padding_is_not_seen():
    model = lively(tiny())
    ids, mask = ids_of(2, 6), np.ones((2, 6), dtype=bool)
    mask[1, 2] = False
    changed = ids.copy()
    changed[1, 2] = (changed[1, 2] + 1) % 7
    before, after = (logits_of(model, x, attention_mask=mask)[1] for x in (ids, changed))
    np.testing.assert_allclose(before[3:], after[3:], atol=1e-6)
    assert np.abs(logits_of(model, ids)[1, 3:] - before[3:]).max() > 1e-3


@pytest.mark.parametrize("interleaved", [True, False])
def test_pieces_through_a_cache_give_the_logits_of_the_whole(interleaved):
    model = lively(tiny(interleaved=interleaved))
    ids = ids_of(2, 6)
    whole, state, pieces = logits_of(model, ids), None, []
    with no_grad():
        for piece in (ids[:, :3], ids[:, 3:4], ids[:, 4:]):
            logits, state = model.decode(piece, state)
            pieces.append(logits.numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)
    assert state[0].key.shape[1] == model.config.n_kv_head, "a cache holds the heads of keys, not those of queries"


def test_generation_with_and_without_the_cache_is_the_same():
    model = lively(tiny())
    with_cache, without = (generate(model, [1, 2], 20, seed=4, use_cache=cache) for cache in (True, False))
    np.testing.assert_array_equal(with_cache, without)
    assert len(set(with_cache.tolist())) > 2


def test_the_gradient_of_the_whole_model_is_right():
    model = lively(tiny(n_embd=4, n_head=2, n_kv_head=1, n_hidden=5, block_size=4, n_layer=1).astype("float64"))
    ids = ids_of(2, 4)
    assert gradcheck(lambda *_: model(ids), list(model.parameters()))


@pytest.mark.parametrize("tied", [True, False])
def test_the_gradient_of_a_deeper_model_passes_the_dual_test(tied):
    model = lively(tiny(n_layer=3, tied=tied).astype("float64"))
    batch = {"input_ids": ids_of(2, 6), "labels": ids_of(2, 6, seed=1)}
    for seed in range(3):
        assert dual_test(lambda *_: model.loss(batch), list(model.parameters()), seed=seed)


def test_it_learns_one_batch_by_heart():
    model = tiny(vocab_size=11, n_embd=32, n_hidden=48, block_size=8, seed=5)
    batch = {"input_ids": ids_of(4, 8, vocab_size=11), "labels": ids_of(4, 8, seed=1, vocab_size=11)}
    batch["input_ids"][:, 0] = range(4)
    optimizer = AdamW(model.named_parameters(), lr=5e-3, weight_decay=0.0)
    for _ in range(150):
        loss = model.loss(batch)
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.loss(batch).item() < 0.1


def test_a_checkpoint_gives_the_model_back(tmp_path):
    model = lively(tiny(tied=False)).eval()
    save_checkpoint(tmp_path / "checkpoint-1", model)
    again, _ = load_model(tmp_path / "checkpoint-1")
    assert again.config == model.config
    np.testing.assert_array_equal(logits_of(again, ids_of(2, 6)), logits_of(model, ids_of(2, 6)))


def test_more_tokens_than_the_context_and_single_rows_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match="7 tokens are more than the context of 6: pass the last 6 only"):
        model(ids_of(1, 7))
    with pytest.raises(ValueError, match=r"a single sequence is ids\[None\]"):
        model(np.array([0, 1]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_hidden": 0}, "at least 1, got n_hidden=0"),
        ({"n_head": 3}, "n_embd=8 is not a multiple of n_head=3"),
        ({"n_kv_head": 3}, "n_head=4 is not a multiple of n_kv_head=3"),
        ({"n_head": 8, "n_kv_head": 8}, "must be even, and 8 / 8 is 1"),
        ({"rope_theta": 0.0}, "rope_theta is a positive number"),
        ({"norm_eps": float("nan")}, "norm_eps is a positive number"),
        ({"dropout": 1.0}, "dropout is from 0 to below 1"),
    ],
)
def test_a_bad_configuration_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        LlamaConfig(**{**TINY, **changes})


def test_where_few_labels_count_the_loss_and_its_gradients_are_those_of_all_logits():
    model = lively(tiny())
    ids, labels = ids_of(2, 6), ids_of(2, 6, seed=1)
    labels[0, :4] = labels[1, 1:] = -100
    losses, gradients = [], []
    for loss in (model.loss({"input_ids": ids, "labels": labels}), F.cross_entropy(model(ids), labels)):
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad.numpy().copy() for name, p in model.named_parameters()})
        model.zero_grad()
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, gradients[1][name], atol=1e-6, err_msg=name)
