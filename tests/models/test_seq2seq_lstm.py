"""The LSTM encoder-decoder: Bahdanau's equations computed by hand, padding, decoding in steps, gradient, training."""

import numpy as np
import pytest

from minilm import no_grad
from minilm.errors import ConfigurationError
from minilm.models import Seq2SeqLSTM, Seq2SeqLSTMConfig
from minilm.models.transformer import decoder_input_ids
from minilm.optim import AdamW
from minilm.random import Generator, using_generator
from minilm.testing import dual_test, gradcheck
from minilm.training.checkpoint import load_model, save_checkpoint

EOS = 2


def tiny(seed=0, **changes):
    sizes = {"vocab_size": 11, "n_embd": 6, "n_hidden": 5, "dropout": 0.0, **changes}
    with using_generator(Generator(seed)):
        return Seq2SeqLSTM(Seq2SeqLSTMConfig(**sizes))


def lively(model, seed=1):
    generator = Generator(seed)
    model.astype("float64")
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape, dtype="float64")
    return model


def batch_of(B=3, Tk=5, T=4, seed=0, vocab_size=11):
    generator = Generator(seed)
    mask = np.ones((B, Tk), dtype=bool)
    mask[1, 3:] = False
    labels = generator.integers(3, vocab_size, (B, T))
    labels[0, T - 1 :] = -100
    return {"input_ids": generator.integers(3, vocab_size, (B, Tk)), "labels": labels, "attention_mask": mask}


def logits_of(model, batch):
    with no_grad():
        ids = decoder_input_ids(batch, model.config)
        return model(batch["input_ids"], ids, batch.get("attention_mask")).numpy()


def by_hand(model, source, target):
    """Logits and attention weights of one pair, from the equations, in plain NumPy."""
    p = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    H = model.config.n_hidden
    table = p["token_embedding.weight"]

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def cell(x, h, c, name):
        z = p[f"{name}.weight_ih_l0"] @ x + p[f"{name}.bias_ih_l0"]
        z = z + p[f"{name}.weight_hh_l0"] @ h + p[f"{name}.bias_hh_l0"]
        i, f, g, o = np.split(z, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def run(ids, name):
        h, c, outputs = np.zeros(H), np.zeros(H), []
        for token in ids:
            h, c = cell(embedded(token), h, c, name)
            outputs.append(h)
        return outputs

    def embedded(token):
        return table[token] * np.sqrt(model.config.n_embd)

    ahead, back = run(source, "forward_lstm"), run(source[::-1], "backward_lstm")[::-1]
    memory = np.array([np.concatenate(pair) for pair in zip(ahead, back, strict=True)])
    s, c = np.tanh(p["start.weight"] @ back[0] + p["start.bias"]), np.zeros(H)
    logits, weights = [], []
    for token in target:
        e = [
            p["score.weight"][0] @ np.tanh(p["query.weight"] @ s + p["key.weight"] @ h + p["key.bias"]) for h in memory
        ]
        a = np.exp(e) / np.exp(e).sum()
        context = a @ memory
        s, c = cell(np.concatenate([embedded(token), context]), s, c, "decoder")
        z = p["readout.weight"] @ np.concatenate([s, context, embedded(token)]) + p["readout.bias"]
        logits.append(table @ np.tanh(z))
        weights.append(a)
    return np.array(logits), np.array(weights)


def test_logits_and_weights_are_those_of_the_equations_also_for_padded_sources():
    model, batch = lively(tiny()).eval(), batch_of()
    target = decoder_input_ids(batch, model.config)
    logits = logits_of(model, batch)
    weights = model.attention_weights(batch["input_ids"], target, batch["attention_mask"])
    assert weights.shape == (1, 3, 1, 4, 5)
    for b, length in enumerate(batch["attention_mask"].sum(1)):
        expected, attention = by_hand(model, batch["input_ids"][b, :length], target[b])
        np.testing.assert_allclose(logits[b], expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(weights[0, b, 0, :, :length], attention, rtol=1e-9)
        assert not weights[0, b, 0, :, length:].any()


def test_padding_changes_nothing():
    model, batch = lively(tiny()).eval(), batch_of()
    before = logits_of(model, batch)
    batch["input_ids"][~batch["attention_mask"]] = 9
    np.testing.assert_array_equal(logits_of(model, batch), before)


@pytest.mark.parametrize("steps", [[1, 1, 1, 1], [2, 2], [4]])
def test_decoding_in_steps_gives_the_logits_of_the_whole(steps):
    model, batch = lively(tiny()).eval(), batch_of()
    pieces = []
    with no_grad():
        state = model.encode(batch["input_ids"], batch["attention_mask"])
        for piece in np.split(decoder_input_ids(batch, model.config), np.cumsum(steps)[:-1], axis=1):
            logits, state = model.decode(piece, state)
            pieces.append(logits.numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits_of(model, batch), rtol=1e-12, atol=1e-12)


def test_rows_of_a_state_may_be_chosen_repeated_and_reordered():
    model, batch = lively(tiny()).eval(), batch_of()
    ids, rows = decoder_input_ids(batch, model.config), np.array([2, 0, 0])
    with no_grad():
        state = model.encode(batch["input_ids"], batch["attention_mask"])
        _, state = model.decode(ids[:, :2], state)
        logits, _ = model.decode(ids[rows, 2:], state.select(rows))
    np.testing.assert_allclose(logits.numpy(), logits_of(model, batch)[rows, 2:], rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_whole_model_is_right():
    model, batch = lively(tiny(n_embd=3, n_hidden=2, vocab_size=6)), batch_of(2, 4, 3, vocab_size=6)
    assert gradcheck(lambda *_: model.loss(batch), list(model.parameters()))


def test_the_gradient_of_a_larger_one_passes_the_dual_test():
    model, batch = lively(tiny()), batch_of()
    for seed in range(3):
        assert dual_test(lambda *_: model.loss(batch), list(model.parameters()), seed=seed)


def test_labels_are_smoothed_in_training_only():
    model, batch = lively(tiny(label_smoothing=0.3)), batch_of()
    logits = logits_of(model, batch)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counts = batch["labels"] != -100
    right = np.take_along_axis(log_p, np.where(counts, batch["labels"], 0)[..., None], -1)[..., 0]
    assert model.eval().loss(batch).item() == pytest.approx(-right[counts].mean())
    smooth = -(0.7 * right + 0.3 * log_p.mean(-1))[counts].mean()
    assert model.train().loss(batch).item() == pytest.approx(smooth)


def test_it_learns_32_pairs_by_heart():
    """The targets are the sources turned round: without attention to the source there is nothing to learn."""
    source = Generator(0).integers(3, 11, (32, 6))
    batch = {"input_ids": source, "labels": np.concatenate([source[:, ::-1], np.full((32, 1), EOS)], axis=1)}
    model = tiny(n_embd=24, n_hidden=32, label_smoothing=0.0)
    optimizer = AdamW(list(model.named_parameters()), 1e-2)
    for _ in range(100):
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        model.zero_grad()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    assert (logits_of(model.eval(), batch).argmax(-1) == batch["labels"]).all()


def test_a_checkpoint_brings_the_same_model_back(tmp_path):
    model, batch = tiny().eval(), batch_of()
    save_checkpoint(tmp_path / "checkpoint-1", model)
    again, _ = load_model(tmp_path / "checkpoint-1")
    assert again.config == model.config
    np.testing.assert_array_equal(logits_of(again, batch), logits_of(model, batch))


def test_a_configuration_that_makes_no_sense_is_refused():
    for wrong in ({"n_hidden": 0}, {"dropout": 1.0}, {"label_smoothing": -0.1}, {"bos_id": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            tiny(**wrong)
    with pytest.raises(ValueError, match=r"ids\[None\]"):
        tiny().encode(np.array([3, 4]))
