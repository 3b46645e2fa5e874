"""A classifier from a folder: its probabilities are the model's, and its classes keep their names."""

import json

import numpy as np
import pytest

from minilm.errors import CheckpointError, ConfigurationError
from minilm.models import BERTForSequenceClassification, LSTMClassifier, LSTMClassifierConfig
from minilm.pretrained import TextClassifier, from_pretrained, read_class_names, save_pretrained, write_class_names
from minilm.random import Generator, using_generator
from minilm.text import WordTokenizer
from minilm.training import save_checkpoint
from tests.pretrained import files
from tests.training.small_encoder import write_encoder

TEXTS = ["a good film", "the plot is very dull and so is the film", "", "of it"]


@pytest.fixture
def folder(tmp_path):
    """A BERT with three named classes."""
    with using_generator(Generator(4)):
        model, tokenizer = from_pretrained(
            write_encoder(tmp_path / "base"), kind=BERTForSequenceClassification, num_labels=3
        )
    model.classifier.weight.data *= 30
    save_pretrained(model, tokenizer, tmp_path / "classes")
    write_class_names(tmp_path / "classes", ["bad", "good", "so so"])
    return tmp_path / "classes"


def test_probabilities_are_those_of_the_model_for_each_text_alone(folder):
    classifier = TextClassifier.load(folder)
    found = classifier.probabilities(TEXTS, batch_size=3)
    for text, row in zip(TEXTS, found, strict=True):
        pair = classifier.tokenizer.pair(classifier.tokenizer.encode(text))
        logits = classifier.model(pair.input_ids[None], None, pair.token_type_ids[None]).numpy()[0].astype(float)
        np.testing.assert_allclose(row, np.exp(logits) / np.exp(logits).sum(), atol=1e-6)
    assert np.ptp(found) > 0.1 and classifier.probabilities([]).shape == (0, 3)


def test_classes_keep_their_names(folder):
    assert TextClassifier.load(folder).names == ["bad", "good", "so so"]
    model, _ = from_pretrained(folder)
    assert model.config.num_labels == 3
    assert json.loads((folder / "config.json").read_text())["label2id"] == {"bad": 0, "good": 1, "so so": 2}


def test_names_that_do_not_fit_are_refused(folder):
    with pytest.raises(CheckpointError, match="'id2label' should name the classes 0 to 1"):
        read_class_names(folder, 2)


def test_a_recurrent_one_is_read_from_its_checkpoint(tmp_path):
    model = LSTMClassifier(LSTMClassifierConfig(4, 5, 5, classes=("x", "y")))
    save_checkpoint(tmp_path / "checkpoint-3", model, WordTokenizer(["<unk>", "a", "b", "c"]))
    classifier = TextClassifier.load(tmp_path)
    assert classifier.names == ["x", "y"]
    np.testing.assert_allclose(classifier.probabilities(["a b", "", "c"]).sum(axis=1), 1)


def test_a_checkpoint_of_a_bert_numbers_its_classes(folder, tmp_path):
    model, tokenizer = from_pretrained(folder)
    save_checkpoint(tmp_path / "run" / "checkpoint-3", model, tokenizer)
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoint-3"):
        assert TextClassifier.load(path).names == ["0", "1", "2"]


def test_what_gives_no_classes_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"is a BERT, which gives no classes: .*minilm finetune"):
        TextClassifier.load(write_encoder(tmp_path / "base"))
    (tmp_path / "a.gguf").write_bytes(files.gguf_llama())
    with pytest.raises(ConfigurationError, match="is a Llama, .*minilm finetune all-minilm-l6-v2 --task"):
        TextClassifier.load(tmp_path / "a.gguf")
    with pytest.raises(CheckpointError, match="there is no"):
        TextClassifier.load(tmp_path / "nothing")
