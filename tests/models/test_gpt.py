"""GPT is GPT-2's architecture: its size, its start, what it can see, and its gradients as a whole."""

import math

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, nn, no_grad
from minilm.errors import ConfigurationError
from minilm.models import GPT, GPTConfig
from minilm.nn import initialization
from minilm.optim import AdamW
from minilm.random import Generator, using_generator
from minilm.tensor import tape
from minilm.testing import dual_test, gradcheck

TINY = {"vocab_size": 7, "block_size": 6, "n_layer": 2, "n_head": 2, "n_embd": 8}


def tiny(seed=0, **changes):
    with using_generator(Generator(seed)):
        return GPT(GPTConfig(**{**TINY, **changes}))


def lively(model, seed=1):
    """The model with all its parameters moved at random: no bias is 0, no logit near another."""
    generator = Generator(seed)
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape, dtype=parameter.dtype)
    return model


def ids_of(*shape, seed=0, vocab_size=TINY["vocab_size"]):
    return Generator(seed).integers(0, vocab_size, shape)


def logits_of(model, ids, **keywords):
    with no_grad():
        return model(np.asarray(ids), **keywords).numpy()


# size


@pytest.mark.parametrize("bias", [True, False])
def test_the_number_of_parameters_is_the_formula(bias):
    for changes in ({}, {"n_layer": 1, "n_embd": 12, "n_head": 3}, {"vocab_size": 50, "block_size": 3}):
        config = GPTConfig(**{**TINY, **changes}, bias=bias)
        V, T, C, layers = config.vocab_size, config.block_size, config.n_embd, config.n_layer
        vectors = 13 * C if bias else 2 * C  # 4 in the norms, 3 + 1 in attention, 4 + 1 after it; or the 2 gains
        block = 12 * C**2 + vectors  # 3 + 1 in attention, 4 + 4 after it
        assert GPT(config).num_parameters() == V * C + T * C + layers * block + (2 * C if bias else C)


def test_the_defaults_are_gpt_2_small(monkeypatch):
    # Half a gigabyte of weights is not needed to count them: each is one number, broadcast.
    def one_number(shape, *_):
        parameter = nn.Parameter.__new__(nn.Parameter)
        parameter._set(np.broadcast_to(np.float32(0), shape), True)
        return parameter

    for name in ("normal", "uniform_fan_in", "zeros", "ones"):
        monkeypatch.setattr(initialization, name, one_number)
    monkeypatch.setattr(initialization, "normal_", lambda parameter, std: None)
    assert GPT(GPTConfig()).num_parameters() == 124_439_808


# start


def test_at_the_start_every_token_is_nearly_as_probable_as_any_other():
    model = tiny(vocab_size=65, n_embd=64, block_size=32, n_layer=4, n_head=4)
    batch = {"input_ids": ids_of(8, 32, vocab_size=65), "labels": ids_of(8, 32, seed=1, vocab_size=65)}
    assert model.loss(batch).item() == pytest.approx(math.log(65), abs=0.05)


def test_weights_start_as_gpt_2s_and_what_enters_the_residual_is_scaled_by_depth():
    layers = 8
    model = tiny(n_layer=layers, n_embd=64, n_head=4, vocab_size=65, block_size=64)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.numpy().any(), name
        elif "norm" in name:
            assert (parameter.numpy() == 1).all(), name
        else:
            residual = name.endswith(("attention.out_proj.weight", "feed_forward.down_proj.weight"))
            std = 0.02 / math.sqrt(2 * layers) if residual else 0.02
            # four standard errors of a standard deviation
            tolerance = 4 / math.sqrt(2 * parameter.size)
            assert parameter.numpy().std() == pytest.approx(std, rel=tolerance), name
            assert abs(parameter.numpy().mean()) < 4 * std / math.sqrt(parameter.size), name


def test_a_seed_makes_the_same_model():
    first, second, other = tiny(seed=3).state_dict(), tiny(seed=3).state_dict(), tiny(seed=4).state_dict()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["token_embedding.weight"], other["token_embedding.weight"])


# the architecture


def layer_norm(x, weight, bias):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def gpt_2(ids, p, layers, heads):
    """GPT-2's logits (T, V) for ids (T,), after the published code, one head and one row of scores at a time."""
    T, C = len(ids), p["token_embedding.weight"].shape[1]
    D = C // heads
    x = p["token_embedding.weight"][ids] + p["positions.weight"][:T]
    for layer in range(layers):
        q = {name.removeprefix(f"blocks.{layer}."): array for name, array in p.items()}
        y = layer_norm(x, q["norm_1.weight"], q["norm_1.bias"])
        qkv = y @ q["attention.qkv_proj.weight"].T + q["attention.qkv_proj.bias"]
        attended = np.zeros((T, C))
        for h in range(heads):
            query, key, value = (qkv[:, part * C + h * D : part * C + (h + 1) * D] for part in range(3))
            for t in range(T):
                weights = np.exp(key[: t + 1] @ query[t] / np.sqrt(D))
                attended[t, h * D : (h + 1) * D] = weights @ value[: t + 1] / weights.sum()
        x = x + attended @ q["attention.out_proj.weight"].T + q["attention.out_proj.bias"]
        y = layer_norm(x, q["norm_2.weight"], q["norm_2.bias"])
        y = y @ q["feed_forward.up_proj.weight"].T + q["feed_forward.up_proj.bias"]
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + y @ q["feed_forward.down_proj.weight"].T + q["feed_forward.down_proj.bias"]
    return layer_norm(x, p["final_norm.weight"], p["final_norm.bias"]) @ p["token_embedding.weight"].T


def test_the_logits_are_those_of_gpt_2s_equations():
    model = lively(tiny(n_layer=3, n_head=4).astype("float64"))
    for ids in ids_of(3, 6):
        expected = gpt_2(ids, model.state_dict(), layers=3, heads=4)
        np.testing.assert_allclose(logits_of(model, ids[None])[0], expected, rtol=1e-10, atol=1e-12)


# what a position can see


def test_no_position_sees_what_comes_after_it_and_every_one_what_came_before():
    model = lively(tiny())
    ids = ids_of(1, 6)
    logits = logits_of(model, ids)
    for t in range(6):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 7
        difference = np.abs(logits_of(model, changed) - logits).max(axis=-1)[0]  # (T,)
        assert (difference[:t] < 1e-6).all()
        assert (difference[t:] > 1e-4).all()


def test_the_order_of_earlier_tokens_counts():
    model = lively(tiny())
    a, b = logits_of(model, [[1, 2, 3]]), logits_of(model, [[2, 1, 3]])
    assert np.abs(a[0, 2] - b[0, 2]).max() > 1e-3


def test_rows_of_a_batch_do_not_see_each_other():
    model = lively(tiny())
    ids = ids_of(3, 6)
    together = logits_of(model, ids)
    for row, logits in zip(ids, together, strict=True):
        np.testing.assert_allclose(logits_of(model, row[None])[0], logits, atol=1e-5)


def test_padding_is_not_seen():
    model = lively(tiny())
    ids, mask = ids_of(2, 6), np.ones((2, 6), dtype=bool)
    mask[1, 4:] = False
    logits = logits_of(model, ids, attention_mask=mask)
    np.testing.assert_allclose(logits[1, :4], logits_of(model, ids[1:, :4])[0], atol=1e-5)
    # in the middle, where causality alone would not hide it
    mask[1] = [True, True, False, True, True, True]
    changed = ids.copy()
    changed[1, 2] = (changed[1, 2] + 1) % 7
    before, after = (logits_of(model, x, attention_mask=mask)[1] for x in (ids, changed))
    np.testing.assert_allclose(before[3:], after[3:], atol=1e-6)


def test_ignored_labels_do_not_count():
    model = lively(tiny())
    ids, labels = ids_of(2, 6), ids_of(2, 6, seed=1)
    per_token = [
        model.loss({"input_ids": ids, "labels": np.where(np.arange(12).reshape(2, 6) == k, labels, -100)}).item()
        for k in range(12)
    ]
    half = model.loss({"input_ids": ids, "labels": np.where(np.arange(6) < 3, labels, -100)}).item()
    assert half == pytest.approx(np.mean([*per_token[:3], *per_token[6:9]]), rel=1e-5)


def test_pieces_through_a_cache_give_the_logits_of_the_whole():
    model = lively(tiny())
    ids = ids_of(2, 6)
    whole, state, pieces = logits_of(model, ids), None, []
    with no_grad():
        for piece in (ids[:, :3], ids[:, 3:4], ids[:, 4:]):
            logits, state = model.decode(piece, state)
            pieces.append(logits.numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def test_dropout_acts_in_training_only():
    model = lively(tiny(dropout=0.3))
    ids = ids_of(2, 6)
    in_training = [logits_of(model, ids) for _ in range(2)]
    assert np.abs(in_training[0] - in_training[1]).max() > 1e-3
    plain = tiny()
    plain.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(logits_of(model.eval(), ids), logits_of(plain, ids))


def test_dropout_acts_on_the_embedding_the_attention_weights_and_both_additions():
    B, T, C, H, layers = 2, 6, 8, 2, 3
    model = tiny(dropout=0.3, n_layer=layers)
    with using_generator(Generator(0)) as generator:
        model(ids_of(B, T))
    assert generator.offset == B * T * C + layers * (B * H * T * T + 2 * B * T * C)  # elements that had a chance


# gradients


def test_the_gradient_of_the_whole_model_is_right():
    model = lively(tiny(n_embd=4, vocab_size=5, block_size=4, n_layer=1).astype("float64"))
    ids = ids_of(2, 4, vocab_size=5)
    assert gradcheck(lambda *_: model(ids), list(model.parameters()))


@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_of_a_deeper_model_passes_the_dual_test(bias):
    model = lively(tiny(n_layer=3, bias=bias).astype("float64"))
    batch = {"input_ids": ids_of(2, 6), "labels": ids_of(2, 6, seed=1)}
    for seed in range(5):
        assert dual_test(lambda *_: model(batch["input_ids"]), list(model.parameters()), seed=seed)
        assert dual_test(lambda *_: model.loss(batch), list(model.parameters()), seed=seed)


def test_the_embedding_gets_a_gradient_as_the_first_layer_and_as_the_head():
    model = lively(tiny().astype("float64"))
    ids, labels = ids_of(2, 6), ids_of(2, 6, seed=1)
    model.loss({"input_ids": ids, "labels": labels}).backward()

    table = model.token_embedding.weight.data
    first, head = Tensor(table, requires_grad=True), Tensor(table, requires_grad=True)
    x = model.positions(F.embedding(ids, first))
    for block in model.blocks:
        x = block(x, is_causal=True)
    F.cross_entropy(F.linear(model.final_norm(x), head), labels).backward()

    tied, parts = model.token_embedding.weight.grad.numpy(), [first.grad.numpy(), head.grad.numpy()]
    np.testing.assert_allclose(tied, parts[0] + parts[1], rtol=1e-12, atol=1e-14)
    assert all(np.abs(part).max() > 1e-3 for part in parts)
    assert sum("token_embedding" in name or "head" in name for name, _ in model.named_parameters()) == 1


def test_backward_is_linear_in_depth(monkeypatch):
    calls = []
    original = tape._vjps
    monkeypatch.setattr(tape, "_vjps", lambda *a: calls.append(a[0].operation.name) or original(*a))
    counts = {}
    for layers in (2, 4, 8, 12):
        calls.clear()
        model = tiny(n_layer=layers)
        model.loss({"input_ids": ids_of(2, 6), "labels": ids_of(2, 6, seed=1)}).backward()
        counts[layers] = len(calls)
    per_layer = (counts[4] - counts[2]) / 2
    assert counts[8] - counts[4] == counts[12] - counts[8] == 4 * per_layer
    assert 5 < per_layer < 50


def test_it_learns_one_batch_by_heart():
    model = tiny(vocab_size=11, n_embd=32, block_size=8, seed=5)
    batch = {"input_ids": ids_of(4, 8, vocab_size=11), "labels": ids_of(4, 8, seed=1, vocab_size=11)}
    batch["input_ids"][:, 0] = range(4)  # or equal beginnings would have to go on differently
    optimizer = AdamW(model.named_parameters(), lr=5e-3, weight_decay=0.0)
    for _ in range(150):
        loss = model.loss(batch)
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.loss(batch).item() < 0.02


# bad input


def test_more_tokens_than_the_context_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match="7 tokens are more than the context of 6: pass the last 6 only"):
        model(ids_of(1, 7))
    with no_grad():
        _, state = model.decode(ids_of(1, 4))
        with pytest.raises(ValueError, match="7 tokens are more than the context of 6"):
            model.decode(ids_of(1, 3), state)
    assert model.context_length == 6


def test_ids_outside_the_vocabulary_and_of_other_shapes_are_refused():
    model = tiny()
    with pytest.raises(IndexError, match=r"id 7 at \[0, 1\] is outside the table of 7 entries"):
        model(np.array([[0, 7]]))
    with pytest.raises(ValueError, match=r"ids have the axes \(B, T\), got \(3,\): a single sequence is ids\[None\]"):
        model(np.array([0, 1, 2]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 0}, "at least 1, got vocab_size=0"),
        ({"block_size": 0, "n_layer": -1}, "at least 1, got block_size=0, n_layer=-1"),
        ({"n_embd": 10, "n_head": 4}, "n_embd=10 is not a multiple of n_head=4"),
        ({"dropout": 1.0}, "dropout is from 0 to below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout is from 0 to below 1, got -0.1"),
    ],
)
def test_a_bad_configuration_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        GPTConfig(**{**TINY, **changes})
