"""Each method trains what its name says; features that are computed once train the head as the whole model would."""

import numpy as np
import pytest

from minilm.errors import ConfigurationError
from minilm.nn import evaluating
from minilm.text import OrderedBatches, ShuffledBatches, pad_collate
from minilm.training import (
    HeadOnFeatures,
    Trainer,
    TrainingArguments,
    compute_features,
    last_block,
    prepare_method,
)
from tests.training.test_lora import HEADS, KINDS, examples, small, train


def parts(names):
    """The parts of a model that some of its parameters belong to."""
    return {name.partition("blocks.")[2].partition(".")[0] or name.rpartition(".")[0] for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_last_trains_the_last_block_and_what_comes_after(kind, tmp_path):
    model = small(kind)
    names = prepare_method(model, "last", HEADS[kind])
    assert parts(names) == {"1", *(HEADS[kind] or ("final_norm",))}
    before = model.state_dict()
    train(model, kind, tmp_path, 3)
    after = model.state_dict()
    assert {name for name in before if not np.array_equal(before[name], after[name])} == set(names)


@pytest.mark.parametrize("kind", KINDS)
def test_full_trains_everything(kind):
    model = small(kind).requires_grad_(False)
    assert prepare_method(model, "full", HEADS[kind]) == list(model.state_dict())


def test_frozen_trains_the_head_alone_and_computes_no_other_gradient():
    model = small("bert")
    names = prepare_method(model, "frozen", ("classifier",))
    assert names == ["classifier.weight", "classifier.bias"]
    model.loss(pad_collate(examples("bert", 4))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == names


def test_features_train_the_head_as_the_whole_model_does():
    """The reference is the model itself in evaluation mode, without dropout in the encoder."""
    model, rows = small("bert"), examples("bert", 7)
    prepare_method(model, "frozen", HEADS["bert"])
    batch = pad_collate(rows)
    model.eval()
    model.loss(batch).backward()
    expected = {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    head = HeadOnFeatures(model).eval()
    found = compute_features(model, rows, batch_size=3)
    np.testing.assert_allclose(head(pad_collate(found)["features"]).numpy(), model(*_of(batch)).numpy(), atol=1e-6)
    head.loss(pad_collate(found)).backward()
    for name, gradient in expected.items():
        np.testing.assert_allclose(dict(model.named_parameters())[name].grad.numpy(), gradient, atol=1e-6)
    assert set(expected) == {"bert.pooler.weight", "bert.pooler.bias", "classifier.weight", "classifier.bias"}


def _of(batch):
    return batch["input_ids"], batch["attention_mask"]


def test_features_stay_in_the_order_of_the_examples():
    model, rows = small("bert"), examples("bert", 9)
    with evaluating(model.modules()):
        for row, found in zip(rows, compute_features(model, rows, batch_size=2), strict=True):
            alone = model.bert(row["input_ids"][None])[0].numpy()[0, 0]
            np.testing.assert_allclose(found["features"], alone, atol=1e-6)
            assert found["labels"] == row["labels"]


def test_what_leaves_nothing_to_train_is_refused():
    with pytest.raises(ConfigurationError, match=r"nothing is left to train of a GPT .*full, lora or last"):
        prepare_method(small("gpt"), "frozen")
    with pytest.raises(ConfigurationError, match="one of full, lora, last, frozen, not 'some'"):
        prepare_method(small("gpt"), "some")
    with pytest.raises(ConfigurationError, match="no module 'classifer' to be its head"):
        prepare_method(small("bert"), "full", ("classifer",))
    with pytest.raises(ConfigurationError, match="0 stacks of blocks"):
        last_block(small("gpt").blocks[0])


# ----- the trainer


def batches_of(rows, folder, **settings):
    trainer = Trainer(small("bert"), TrainingArguments(folder, progress=False, **settings), rows)
    return trainer.train_batches


def test_examples_of_different_lengths_are_grouped_by_them(tmp_path):
    rows = examples("bert", 64)
    real = sum(len(row["input_ids"]) for row in rows)
    padded = {
        grouped: sum(batch["input_ids"].size for batch in batches_of(rows, tmp_path, group_by_length=grouped).epoch(0))
        for grouped in (None, True, False)
    }
    assert padded[None] == padded[True] < 1.1 * real < 1.25 * real < padded[False]


def test_examples_of_one_length_or_without_ids_are_shuffled_as_ever(tmp_path):
    same = [{"input_ids": np.arange(5), "labels": 1}] * 9
    assert type(batches_of(same, tmp_path)) is ShuffledBatches
    features = [{"features": np.zeros(4, np.float32), "labels": 0}] * 9
    assert type(batches_of(features, tmp_path)) is ShuffledBatches
    own = OrderedBatches(examples("bert"), 4)
    assert batches_of(own, tmp_path, group_by_length=True) is own
