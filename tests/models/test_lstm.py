"""The recurrent language model: what its state carries over, what it does not, and who may touch it."""

import math

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, no_grad
from minilm.errors import ConfigurationError
from minilm.models import LSTMLM, LSTMConfig
from minilm.optim import Adam
from minilm.random import Generator, using_generator
from minilm.tensor import tape
from minilm.testing import dual_test, gradcheck
from minilm.text import StreamBatches

V = 7
CELLS = ["lstm", "gru", "rnn"]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def tiny(cell="lstm", seed=0, dtype="float64", **changes):
    """A small model with large weights, so that the state makes a difference."""
    config = LSTMConfig(**{"vocab_size": V, "n_embd": 4, "n_hidden": 5, "n_layer": 2, "cell": cell, **changes})
    with using_generator(Generator(seed)):
        model = LSTMLM(config).astype(dtype)
    generator = Generator(seed + 100)
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape, dtype=dtype)
    return model


def ids_of(*shape, seed=0, vocab_size=V):
    return Generator(seed).integers(0, vocab_size, shape)


def batch_of(B, T, seed=0, continues=None):
    rows = ids_of(B, T + 1, seed=seed)
    batch = {"input_ids": rows[:, :-1], "labels": rows[:, 1:]}
    return batch if continues is None else {**batch, "continues": np.array(continues)}


def nonzero(state):
    return all(np.abs(s.numpy()).max(axis=(0, 2)).min() > 1e-3 for s in state)


# the model


@pytest.mark.parametrize("cell", CELLS)
def test_the_number_of_parameters_is_the_formula(cell):
    C, H, layers = 4, 5, 3
    recurrent = sum(GATES[cell] * H * ((C if layer == 0 else H) + H + 2) for layer in range(layers))
    assert tiny(cell, n_layer=layers).num_parameters() == V * C + recurrent + V * H + V


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_of_the_whole_model_is_right(cell):
    model = tiny(cell, n_embd=3, n_hidden=3)
    ids = ids_of(2, 4)
    assert gradcheck(lambda *_: model(ids), list(model.parameters()))
    batch = batch_of(2, 6)
    for seed in range(3):
        assert dual_test(lambda *_: model.loss(batch), list(model.parameters()), seed=seed)


@pytest.mark.parametrize("cell", CELLS)
def test_at_the_start_every_token_is_nearly_as_probable_as_any_other(cell):
    with using_generator(Generator(0)):
        model = LSTMLM(LSTMConfig(vocab_size=65, cell=cell))
    batch = {"input_ids": ids_of(8, 32, vocab_size=65), "labels": ids_of(8, 32, seed=1, vocab_size=65)}
    assert model.loss(batch).item() == pytest.approx(math.log(65), abs=0.05)


@pytest.mark.parametrize("cell", CELLS)
def test_no_position_sees_what_comes_after_it_and_every_one_what_came_before(cell):
    model = tiny(cell)
    ids = ids_of(1, 6)
    with no_grad():
        logits = model(ids).numpy()
        for t in range(6):
            changed = ids.copy()
            changed[0, t] = (changed[0, t] + 1) % V
            difference = np.abs(model(changed).numpy() - logits).max(axis=-1)[0]  # (T,)
            assert (difference[:t] == 0).all() and (difference[t:] > 1e-7).all()


@pytest.mark.parametrize("cell", CELLS)
def test_pieces_with_the_state_handed_on_give_the_logits_of_the_whole(cell):
    model = tiny(cell)
    ids = ids_of(2, 9)
    state, pieces = None, []
    for piece in (ids[:, :4], ids[:, 4:5], ids[:, 5:]):
        logits, state = model.decode(piece, state)
        pieces.append(logits.numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(ids).numpy(), rtol=1e-12)
    assert len(state) == (2 if cell == "lstm" else 1)
    assert all(s.shape == (2, 2, 5) for s in state)


@pytest.mark.parametrize("cell", CELLS)
def test_it_learns_one_batch_by_heart(cell):
    with using_generator(Generator(2)):
        model = LSTMLM(LSTMConfig(vocab_size=11, n_embd=16, n_hidden=32, cell=cell))
    batch = {"input_ids": ids_of(4, 8, vocab_size=11), "labels": ids_of(4, 8, seed=1, vocab_size=11)}
    batch["input_ids"][:, 0] = range(4)  # or equal beginnings would have to go on differently
    optimizer = Adam(model.named_parameters(), lr=1e-2)
    for _ in range(150):
        loss = model.loss(batch)
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.loss(batch).item() < 0.05


def test_dropout_acts_in_training_only():
    model, plain = tiny(dropout=0.4), tiny()
    ids = ids_of(2, 6)
    assert np.abs(model(ids).numpy() - model(ids).numpy()).max() > 1e-3
    np.testing.assert_array_equal(model.eval()(ids).numpy(), plain(ids).numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_acts_on_the_embedding_between_layers_and_before_the_head(cell):
    B, T, C, H, layers = 2, 6, 4, 5, 3
    model = tiny(cell, dropout=0.3, n_layer=layers)
    with using_generator(Generator(0)) as generator:
        model(ids_of(B, T))
    assert generator.offset == B * T * (C + (layers - 1) * H + H)  # elements that had a chance


# the state that training carries from batch to batch


@pytest.mark.parametrize("cell", CELLS)
def test_batches_that_continue_have_the_loss_of_one_long_sequence(cell):
    model = tiny(cell)
    tokens = ids_of(2 * 20 + 1)
    pieces = [model.loss(batch).item() for batch in StreamBatches(tokens, batch_size=2, block_size=4)]
    (whole,) = StreamBatches(tokens, batch_size=2, block_size=20)
    assert len(pieces) == 5
    del whole["continues"]
    assert np.mean(pieces) == pytest.approx(model.loss(whole).item(), rel=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_that_start_afresh_have_a_state_of_zeros(cell):
    model = tiny(cell)
    model.loss(batch_of(3, 4, seed=1, continues=[False] * 3))
    carried = model._carried
    assert nonzero(carried)
    batch = batch_of(3, 4, seed=2, continues=[True, False, True])
    loss = model.loss(batch).item()

    def row(b, state):
        logits, _ = model.decode(batch["input_ids"][b : b + 1], state)
        return F.cross_entropy(logits, batch["labels"][b : b + 1]).item()

    own = [row(b, tuple(s[:, b : b + 1] for s in carried)) for b in range(3)]
    fresh = [row(b, None) for b in range(3)]
    assert abs(own[1] - fresh[1]) > 1e-4
    assert loss == pytest.approx(np.mean([own[0], fresh[1], own[2]]), rel=1e-12)


def test_a_new_epoch_starts_from_zeros():
    model = tiny()
    batches = StreamBatches(ids_of(41), batch_size=2, block_size=5)
    first, second = ([model.loss(batch).item() for batch in batches.epoch(e)] for e in range(2))
    assert first == second


def test_batches_that_say_nothing_of_continuing_carry_nothing():
    model = tiny()
    model.loss(batch_of(2, 4, seed=1))
    assert model.get_extra_state() == {}
    model.loss(batch_of(2, 4, seed=1, continues=[False, False]))
    before = model.get_extra_state()
    plain = batch_of(3, 4, seed=2)
    assert model.loss(plain).item() == tiny().loss(plain).item()
    after = model.get_extra_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_stops_where_a_batch_begins(cell, monkeypatch):
    visited = []
    original = tape._vjps
    monkeypatch.setattr(tape, "_vjps", lambda *a: visited.append(a[0]) or original(*a))
    model = tiny(cell)
    first = batch_of(2, 4, seed=1, continues=[False, False])
    second = batch_of(2, 4, seed=2, continues=[True, True])
    model.loss(first)  # never walked back, so nothing is freed that would be missed
    state = tuple(Tensor(s.numpy().copy()) for s in model._carried)
    loss = model.loss(second)
    loss.backward()
    carried = [parameter.grad.numpy() for parameter in model.parameters()]
    operations = [node.operation.name for node in visited]
    assert operations.count("embedding") == 1 and operations.count(cell) == 2  # two layers, one batch

    model.zero_grad()
    logits, _ = model.decode(second["input_ids"], state)  # the state as constants
    F.cross_entropy(logits, second["labels"]).backward()
    for gradient, parameter in zip(carried, model.parameters(), strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_the_carried_state_does_not_keep_its_graph():
    model = tiny()
    model.loss(batch_of(2, 4, continues=[False, False]))
    assert all(s.is_leaf and not s.requires_grad for s in model._carried)


@pytest.mark.parametrize("cell", CELLS)
def test_evaluation_neither_uses_nor_changes_the_carried_state(cell):
    model = tiny(cell)
    model.loss(batch_of(2, 4, seed=1, continues=[False, False]))
    before = {name: array.copy() for name, array in model.get_extra_state().items()}
    batch = batch_of(2, 4, seed=2, continues=[True, True])
    model.eval()
    fresh = model.loss({key: batch[key] for key in ("input_ids", "labels")}).item()
    assert model.loss(batch).item() == fresh
    model.loss(batch_of(5, 3, seed=3))  # of another size
    after = model.get_extra_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert model.train().loss(batch).item() != fresh


@pytest.mark.parametrize("cell", CELLS)
def test_the_extra_state_goes_to_another_model_and_back(cell):
    model = tiny(cell)
    model.loss(batch_of(2, 4, seed=1, continues=[False, False]))
    state = {name: array.copy() for name, array in model.get_extra_state().items()}
    assert sorted(state) == [f"state_{i}" for i in range(2 if cell == "lstm" else 1)]
    other = tiny(cell, seed=9)
    other.load_state_dict(model.state_dict())
    other.set_extra_state(state)
    for name, array in state.items():
        array[:] = 0  # the model has its own
        assert other.get_extra_state()[name].any()
    batch = batch_of(2, 4, seed=2, continues=[True, True])
    assert other.loss(batch).item() == model.loss(batch).item()
    other.set_extra_state({})
    assert other.get_extra_state() == {}


# bad input


def test_a_batch_that_continues_rows_of_another_number_is_refused():
    model = tiny()
    model.loss(batch_of(2, 4, continues=[False, False]))
    with pytest.raises(ValueError, match="continues 3 rows, but the last one had 2: streams keep their"):
        model.loss(batch_of(3, 4, continues=[True, True, True]))
    model.loss(batch_of(3, 4, continues=[False, False, False]))  # a new start may have any size


@pytest.mark.parametrize("cell", CELLS)
def test_ids_outside_the_vocabulary_and_of_other_shapes_are_refused(cell):
    model = tiny(cell)
    with pytest.raises(IndexError, match=r"id 7 at \[0, 1\] is outside the table of 7 entries"):
        model(np.array([[0, 7]]))
    with pytest.raises(ValueError, match=r"ids have the axes \(B, T\), got \(3,\): a single sequence is ids\[None\]"):
        model(np.array([0, 1, 2]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 0}, "at least 1, got vocab_size=0"),
        ({"n_hidden": 0, "n_layer": -1}, "at least 1, got n_hidden=0, n_layer=-1"),
        ({"cell": "qrnn"}, "no cell 'qrnn'; choose one of lstm, gru, rnn"),
        ({"dropout": 1.0}, "dropout is from 0 to below 1, got 1.0"),
    ],
)
def test_a_bad_configuration_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        LSTMConfig(**{"vocab_size": V, **changes})
