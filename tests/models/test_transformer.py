"""The Transformer against the paper: its size and start, an independent computation, masks, caches, loss, training."""

import math

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, no_grad
from minilm.errors import ConfigurationError
from minilm.models import Transformer, TransformerConfig
from minilm.models.transformer import decoder_input_ids
from minilm.optim import AdamW
from minilm.random import Generator, using_generator
from minilm.testing import dual_test, gradcheck
from minilm.training.checkpoint import load_model, save_checkpoint

TINY = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, "n_hidden": 12, "dropout": 0.0}
PAD, BOS, EOS = 0, 1, 2


def tiny(seed=0, **changes):
    with using_generator(Generator(seed)):
        return Transformer(TransformerConfig(**{**TINY, **changes}))


def lively(model, seed=1):
    """In float64, all parameters moved at random: no bias is 0, no norm the identity."""
    generator = Generator(seed)
    model.astype("float64")
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape, dtype="float64")
    return model


def batch_of(B=3, Tk=5, T=4, padded=True, seed=0, vocab_size=11):
    """Sources and labels, padded in two rows."""
    generator = Generator(seed)
    batch = {
        "input_ids": generator.integers(3, vocab_size, (B, Tk)),
        "labels": generator.integers(3, vocab_size, (B, T)),
    }
    if padded:
        batch["attention_mask"] = np.ones((B, Tk), dtype=bool)
        batch["attention_mask"][1, 3:] = False
        batch["labels"][0, T - 1 :] = -100
    return batch


def logits_of(model, batch):
    with no_grad():
        ids = decoder_input_ids(batch, model.config)
        return model(batch["input_ids"], ids, batch.get("attention_mask")).numpy()


# size and start


def test_the_number_of_parameters_is_the_formula():
    for changes in ({}, {"n_layer": 1, "n_hidden": 20}, {"norm": "pre"}, {"share_embeddings": False}):
        config = TransformerConfig(**{**TINY, **changes})
        V, C, H = config.vocab_size, config.n_embd, config.n_hidden
        attention, norm, feed_forward = 4 * C * (C + 1), 2 * C, 2 * C * H + H + C
        encoder = attention + feed_forward + 2 * norm
        decoder = 2 * attention + feed_forward + 3 * norm
        tables = 1 if config.share_embeddings else 3
        last = 2 * norm if config.norm == "pre" else 0
        expected = tables * V * C + config.n_layer * (encoder + decoder) + last
        assert Transformer(config).num_parameters() == expected


def test_weights_start_as_xaviers_for_each_of_the_matrices_that_are_stored_as_one():
    C, H = 32, 96
    model = tiny(n_embd=C, n_hidden=H, vocab_size=500)
    block = model.decoder[0]
    for linear, bound in (
        (block.attention.qkv_proj, math.sqrt(6 / (C + C))),
        (block.cross_attention.kv_proj, math.sqrt(6 / (C + C))),
        (block.attention.out_proj, math.sqrt(6 / (C + C))),
        (block.feed_forward.up_proj, math.sqrt(6 / (C + H))),
        (block.feed_forward.down_proj, math.sqrt(6 / (C + H))),
    ):
        largest = np.abs(linear.weight.numpy()).max()
        assert 0.98 * bound < largest <= bound
        assert not linear.bias.numpy().any()
    query, key, value = np.split(block.attention.qkv_proj.weight.numpy(), 3)
    assert not np.allclose(query, key) and not np.allclose(key, value)
    assert model.token_embedding.weight.numpy().std() * math.sqrt(C) == pytest.approx(1, abs=0.05)


# an independent computation


def by_hand(model, source, target):
    """The logits of one pair without padding, from the equations, in plain NumPy."""
    p = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    c = model.config
    C, D = c.n_embd, c.n_embd // c.n_head

    def embedded(ids, table):
        position = np.zeros((len(ids), C))
        for t in range(len(ids)):
            for i in range(0, C, 2):
                position[t, i] = math.sin(t / 10000 ** (i / C))
                position[t, i + 1] = math.cos(t / 10000 ** (i / C))
        return table[ids] * math.sqrt(C) + position

    def layer_norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def attend(query, key, value, causal):
        out = np.zeros_like(query)
        for head in range(c.n_head):
            part = slice(head * D, (head + 1) * D)
            for t in range(len(query)):
                seen = t + 1 if causal else len(key)
                e = np.exp(key[:seen, part] @ query[t, part] / math.sqrt(D))
                out[t, part] = e @ value[:seen, part] / e.sum()
        return out

    def self_attention(x, name, causal):
        query, key, value = np.split(linear(x, f"{name}.qkv_proj"), 3, axis=-1)
        return linear(attend(query, key, value, causal), f"{name}.out_proj")

    def cross_attention(x, name):
        key, value = np.split(linear(memory, f"{name}.kv_proj"), 2, axis=-1)
        return linear(attend(linear(x, f"{name}.q_proj"), key, value, False), f"{name}.out_proj")

    def feed_forward(x, name):
        return linear(np.maximum(linear(x, f"{name}.up_proj"), 0), f"{name}.down_proj")

    def part(x, norm, f):
        return layer_norm(x + f(x), norm) if c.norm == "post" else x + f(layer_norm(x, norm))

    x = embedded(source, p["token_embedding.weight"])
    for n in range(c.n_layer):
        name = f"encoder.{n}"
        x = part(x, f"{name}.norm_1", lambda y, name=name: self_attention(y, f"{name}.attention", False))
        x = part(x, f"{name}.norm_2", lambda y, name=name: feed_forward(y, f"{name}.feed_forward"))
    memory = layer_norm(x, "encoder_norm") if c.norm == "pre" else x
    x = embedded(target, p["token_embedding.weight" if c.share_embeddings else "target_embedding.weight"])
    for n in range(c.n_layer):
        name = f"decoder.{n}"
        x = part(x, f"{name}.norm_1", lambda y, name=name: self_attention(y, f"{name}.attention", True))
        x = part(x, f"{name}.norm_cross", lambda y, name=name: cross_attention(y, f"{name}.cross_attention"))
        x = part(x, f"{name}.norm_2", lambda y, name=name: feed_forward(y, f"{name}.feed_forward"))
    x = layer_norm(x, "decoder_norm") if c.norm == "pre" else x
    logits = x @ p["token_embedding.weight" if c.share_embeddings else "head.weight"].T
    if c.copy:
        for t, row in enumerate(logits):
            exponentials = np.exp(row)
            for i, token in enumerate(source):
                query, key = p["pointer.q_proj.weight"] @ x[t], p["pointer.k_proj.weight"] @ memory[i]
                if i > 0:
                    key = key + p["pointer.previous_proj.weight"] @ memory[i - 1]
                exponentials[token] += np.exp(query @ key / math.sqrt(C))
            logits[t] = np.log(exponentials)
    return logits


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("copy", [True, False])
def test_the_logits_are_those_of_the_equations(norm, share, copy):
    model = lively(tiny(norm=norm, share_embeddings=share, copy=copy)).eval()
    batch = batch_of(padded=False)
    target = decoder_input_ids(batch, model.config)
    expected = [by_hand(model, s, t) for s, t in zip(batch["input_ids"], target, strict=True)]
    # not nearer: the table of positions is float32
    np.testing.assert_allclose(logits_of(model, batch), expected, rtol=1e-5, atol=1e-6)


# masks


@pytest.mark.parametrize("copy", [True, False])
def test_padding_of_the_source_changes_nothing(copy):
    model, batch = lively(tiny(copy=copy)).eval(), batch_of()
    before = logits_of(model, batch)
    batch["input_ids"][~batch["attention_mask"]] = 9
    np.testing.assert_array_equal(logits_of(model, batch), before)
    alone = {"input_ids": batch["input_ids"][1:2, :3], "labels": batch["labels"][1:2]}
    np.testing.assert_allclose(logits_of(model, alone)[0], before[1], rtol=1e-10)


def test_a_target_token_sees_none_that_come_after_it_but_all_of_the_source():
    model, batch = lively(tiny()).eval(), batch_of(padded=False)
    before = logits_of(model, batch)
    batch["labels"][:, 2] = (batch["labels"][:, 2] + 1) % 8 + 3  # the decoder reads it at 3
    after = logits_of(model, batch)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (np.abs(after[:, 3] - before[:, 3]).max(-1) > 1e-6).all()
    batch["input_ids"][:, -1] = (batch["input_ids"][:, -1] + 1) % 8 + 3
    assert (np.abs(logits_of(model, batch) - after).max(-1) > 1e-6).all()


def test_what_the_decoder_reads_are_the_labels_moved_by_one_behind_bos():
    batch = {"labels": np.array([[5, 6, EOS], [7, EOS, -100]])}
    np.testing.assert_array_equal(decoder_input_ids(batch, TransformerConfig()), [[BOS, 5, 6], [BOS, 7, EOS]])
    longer = {"labels": np.array([[7, EOS, -100, -100]])}
    np.testing.assert_array_equal(decoder_input_ids(longer, TransformerConfig()), [[BOS, 7, EOS, PAD]])
    given = {"labels": longer["labels"], "decoder_input_ids": np.array([[1, 2, 3, 4]])}
    assert decoder_input_ids(given, TransformerConfig()) is given["decoder_input_ids"]


# decoding


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("steps", [[1, 1, 1, 1], [2, 2], [3, 1]])
@pytest.mark.parametrize("copy", [True, False])
def test_decoding_in_steps_gives_the_logits_of_the_whole(norm, steps, copy):
    model, batch = lively(tiny(norm=norm, copy=copy)).eval(), batch_of()
    ids = decoder_input_ids(batch, model.config)
    pieces = []
    with no_grad():
        state = model.encode(batch["input_ids"], batch["attention_mask"])
        for piece in np.split(ids, np.cumsum(steps)[:-1], axis=1):
            logits, state = model.decode(piece, state)
            pieces.append(logits.numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits_of(model, batch), rtol=1e-9, atol=1e-12)


def test_the_memory_is_turned_into_keys_once_for_a_source():
    model, batch = lively(tiny()).eval(), batch_of()
    calls = []
    for block in model.decoder:
        block.cross_attention.kv_proj.register_forward_hook(lambda *_: calls.append(1))
    with no_grad():
        state = model.encode(batch["input_ids"], batch["attention_mask"])
        for _ in range(3):
            _, state = model.decode(batch["input_ids"][:, :1], state)
    assert len(calls) == TINY["n_layer"]


@pytest.mark.parametrize("copy", [True, False])
def test_rows_of_a_state_may_be_chosen_repeated_and_reordered(copy):
    model, batch = lively(tiny(copy=copy)).eval(), batch_of()
    ids = decoder_input_ids(batch, model.config)
    rows = np.array([2, 0, 0])
    with no_grad():
        state = model.encode(batch["input_ids"], batch["attention_mask"])
        _, state = model.decode(ids[:, :2], state)
        logits, _ = model.decode(ids[rows, 2:], state.select(rows))
    np.testing.assert_allclose(logits.numpy(), logits_of(model, batch)[rows, 2:], rtol=1e-9, atol=1e-12)


def test_attention_weights_are_what_the_layers_multiply_the_values_with():
    model, batch = lively(tiny()).eval(), batch_of()
    ids, mask = decoder_input_ids(batch, model.config), batch["attention_mask"]
    seen = []
    for block in model.decoder:
        block.cross_attention.register_forward_hook(lambda module, args, y: seen.append((module, args[1], y)))
    weights = model.attention_weights(batch["input_ids"], ids, mask)
    assert weights.shape == (2, 3, 2, 4, 5)  # layers, B, H, T, Tk
    np.testing.assert_allclose(weights.sum(-1), 1)
    assert not weights[:, 1, :, :, 3:].any()
    for (module, memory, y), layer in zip(seen, weights, strict=True):
        with no_grad():
            _, value = module.keys_and_values(memory)
            mixed = layer @ value.numpy()  # (B, H, T, D)
            again = module.out_proj(Tensor(mixed.swapaxes(1, 2).reshape(3, 4, -1))).numpy()
        np.testing.assert_allclose(again, y.numpy(), rtol=1e-9)


# the loss, its gradient, training


def test_labels_are_smoothed_in_training_only_and_ignored_where_they_are_minus_100():
    model, batch = lively(tiny(label_smoothing=0.2)), batch_of()
    logits = logits_of(model, batch)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counts = batch["labels"] != -100
    right = np.take_along_axis(log_p, np.where(counts, batch["labels"], 0)[..., None], -1)[..., 0]
    plain = -right[counts].mean()
    smooth = -(0.8 * right + 0.2 * log_p.mean(-1))[counts].mean()
    assert model.train().loss(batch).item() == pytest.approx(smooth)
    assert model.eval().loss(batch).item() == pytest.approx(plain)


def test_the_gradient_of_the_whole_model_is_right():
    model = lively(tiny(n_embd=4, n_hidden=5, n_layer=1, vocab_size=6))
    batch = batch_of(2, 4, 3, vocab_size=6)
    assert gradcheck(lambda *_: model.loss(batch), list(model.parameters()))


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("copy", [True, False])
def test_the_gradient_of_a_deeper_model_passes_the_dual_test(norm, share, copy):
    model, batch = lively(tiny(norm=norm, share_embeddings=share, copy=copy)), batch_of()
    for seed in range(3):
        assert dual_test(lambda *_: model.loss(batch), list(model.parameters()), seed=seed)


def test_dropout_acts_in_training_only():
    model, batch = lively(tiny(dropout=0.5)), batch_of()
    with using_generator(Generator(0)):
        assert model.train().loss(batch).item() != model.loss(batch).item()
        assert model.eval().loss(batch).item() == model.loss(batch).item()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_it_learns_32_pairs_by_heart(norm):
    """The targets are the sources turned round: without attention to the source there is nothing to learn."""
    generator = Generator(0)
    source = generator.integers(3, 11, (32, 6))
    batch = {"input_ids": source, "labels": np.concatenate([source[:, ::-1], np.full((32, 1), EOS)], axis=1)}
    model = tiny(norm=norm, n_embd=32, n_hidden=64, n_layer=1, label_smoothing=0.0)
    optimizer = AdamW(list(model.named_parameters()), 5e-3)
    for _ in range(300):
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        model.zero_grad()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    assert (logits_of(model.eval(), batch).argmax(-1) == batch["labels"]).all()


def test_only_a_pointer_learns_to_repeat_tokens_that_it_has_never_written():
    """Trained on sources of the tokens 3 to 82, tested on 83 to 102, which no label has ever named."""
    generator = Generator(0)

    def repeated(low, high):
        source = generator.integers(low, high, (64, 2))
        return {"input_ids": source, "labels": np.concatenate([source, np.full((64, 1), EOS)], axis=1)}

    right = {}
    for copy in (False, True):
        sizes = {"vocab_size": 103, "n_embd": 32, "n_hidden": 32, "n_layer": 1, "label_smoothing": 0.0}
        model = tiny(norm="pre", copy=copy, **sizes)
        optimizer = AdamW(list(model.named_parameters()), 5e-3)
        for _ in range(400):
            model.loss(repeated(3, 83)).backward()
            optimizer.step()
            optimizer.zero_grad()
        batch = repeated(83, 103)
        right[copy] = (logits_of(model.eval(), batch).argmax(-1) == batch["labels"])[:, :-1].mean()
    assert right[False] < 0.1 and right[True] > 0.7, right  # a place that is guessed would be right in 0.5


# the rest


def test_a_checkpoint_brings_the_same_model_back(tmp_path):
    model, batch = tiny(norm="pre", share_embeddings=False, copy=True).eval(), batch_of()
    save_checkpoint(tmp_path / "checkpoint-1", model)
    again, _ = load_model(tmp_path / "checkpoint-1")
    assert again.config == model.config
    np.testing.assert_array_equal(logits_of(again, batch), logits_of(model, batch))


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_layer": 0},
        {"n_head": 3},
        {"n_embd": 9, "n_head": 3},
        {"norm": "middle"},
        {"dropout": 1.0},
        {"label_smoothing": 1.0},
        {"eos_id": 1},
        {"pad_id": 11},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        TransformerConfig(**{**TINY, **wrong})


def test_too_long_a_text_and_a_single_sequence_are_reported():
    model = tiny()
    long = np.full((1, 9), 5)
    with pytest.raises(ValueError, match="context"):
        model(long, long[:, :3])
    with pytest.raises(ValueError, match=r"ids\[None\]"):
        model(long[0], long)


def test_the_smoothed_loss_is_that_of_cross_entropy_with_the_same_labels():
    model, batch = lively(tiny(label_smoothing=0.1)).train(), batch_of()
    logits = Tensor(logits_of(model, batch))
    expected = F.cross_entropy(logits, batch["labels"], label_smoothing=0.1).item()
    assert model.loss(batch).item() == pytest.approx(expected)
