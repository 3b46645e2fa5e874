"""The recurrent classifier: padding is not seen, both directions are read, a checkpoint brings it back."""

import numpy as np
import pytest

from minilm.errors import ConfigurationError
from minilm.models import LSTMClassifier, LSTMClassifierConfig
from minilm.optim import Adam
from minilm.random import Generator, using_generator
from minilm.tensor import no_grad
from minilm.text import WordTokenizer, pad_collate
from minilm.training import load_model, save_checkpoint

V = 11


def small(seed=0, **settings):
    with using_generator(Generator(seed)):
        return LSTMClassifier(LSTMClassifierConfig(V, 6, 5, **settings)).eval()


def rows(*lengths):
    generator = Generator(3)
    return [{"input_ids": generator.integers(0, V, n), "labels": n % 2} for n in lengths]


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_text_has_the_same_logits_in_any_batch(bidirectional, pooling):
    model = small(bidirectional=bidirectional, pooling=pooling, n_layer=2)
    batch = pad_collate(rows(7, 1, 4))
    together = model(batch["input_ids"], batch["attention_mask"]).numpy()
    alone = [model(row["input_ids"][None]).numpy()[0] for row in rows(7, 1, 4)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    noise = batch["input_ids"].copy()
    noise[~batch["attention_mask"]] = 9
    np.testing.assert_allclose(model(noise, batch["attention_mask"]).numpy(), together, atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_it_pools_the_states_of_both_directions(pooling):
    """Against the layers themselves, one text at a time, the second on the text turned round."""
    model, ids = small(pooling=pooling), np.array([3, 1, 4, 1, 5])
    forwards = model.forwards(model.token_embedding(ids[None]))[0].numpy()[0]
    backwards = model.backwards(model.token_embedding(ids[None, ::-1].copy()))[0].numpy()[0]
    v = np.concatenate([getattr(states, pooling)(axis=0) for states in (forwards, backwards)])
    expected = v @ model.classifier.weight.numpy().T + model.classifier.bias.numpy()
    np.testing.assert_allclose(model(ids[None]).numpy()[0], expected, atol=1e-6)


def test_it_learns_an_order_of_words():
    """1 2 against 2 1: the same words, so that only their order tells."""
    generator = Generator(1)
    examples = []
    for i in range(40):
        ids = generator.integers(3, V, int(generator.integers(4, 8)))
        ids[1:3] = (1, 2) if i % 2 else (2, 1)
        examples.append({"input_ids": ids, "labels": i % 2})
    model = small(dropout=0.0).train()
    optimizer, batch = Adam(model.parameters(), lr=0.02), pad_collate(examples)
    for _ in range(40):
        model.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    with no_grad():
        found = model(batch["input_ids"], batch["attention_mask"]).numpy().argmax(axis=-1)
    assert (found == batch["labels"]).all()


def test_a_checkpoint_holds_the_names_of_the_classes(tmp_path):
    model = small(classes=("bad", "good", "so so"))
    save_checkpoint(tmp_path / "checkpoint-1", model, WordTokenizer(["<unk>", *"abcdefghij"]))
    again, tokenizer = load_model(tmp_path)
    assert again.config == model.config and again.config.num_labels == 3 and tokenizer.vocab_size == V
    ids = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(again(ids).numpy(), model(ids).numpy())


def test_mistakes_are_explained():
    with pytest.raises(ConfigurationError, match="pooling is one of max, mean: 'last'"):
        LSTMClassifierConfig(V, pooling="last")
    with pytest.raises(ConfigurationError, match="at least 2 classes"):
        LSTMClassifierConfig(V, classes=("one",))
    with pytest.raises(ValueError, match="with a token at least"):
        small()(np.zeros((1, 0), np.int64))
    with pytest.raises(ValueError, match="a row of the batch has no token"):
        small()(np.zeros((2, 3), np.int64), np.array([[True, True, False], [False, False, False]]))
