"""The documents' LSTM program runs as it stands, learns, and has the sizes that they print."""

import csv
import importlib.util
import re

import numpy as np
import pytest

from minilm.optim import Adam
from minilm.text import ShuffledBatches, TokenWindows
from tests.examples.programs import EXAMPLES, run

PROGRAM = EXAMPLES / "documents_lstm.py"


@pytest.fixture(scope="module")
def program():
    """The program as a module."""
    specification = importlib.util.spec_from_file_location("documents_lstm", PROGRAM)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def table(tmp_path):
    """A CSV file of texts that count round in a circle, each from another number on."""
    names = ["One", "TWO", "three", "four", "five"]
    path = tmp_path / "texts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "text"])
        for i in range(100):
            writer.writerow([i, " ".join(names[(i + j) % 5] for j in range(30 + i % 7)) + "."])
    return path


def test_the_loss_falls_as_it_trains_on_a_csv_file(table):
    done = run(PROGRAM, table, "--epochs", 36)
    assert done.returncode == 0, done.stderr
    losses = [float(loss) for loss in re.findall(r"training loss ([\d.]+)", done.stdout)]
    assert len(losses) == 36
    assert losses[0] > 6 and losses[-1] < 1.4  # log 1000 = 6.9; six tokens without their order, log 6 = 1.8
    assert "100 texts" in done.stdout and "the vocabulary has 7 words" in done.stdout  # <unk>, five names, "."
    assert re.search(r"test loss [\d.]+, perplexity [\d.]+, accuracy [\d.]+%", done.stdout)


def test_a_seed_gives_the_same_run(table):
    first, again = (run(PROGRAM, table, "--epochs", 1, "--seed", 1).stdout for _ in range(2))
    assert first == again and "test loss" in first
    untrained = {run(PROGRAM, table, "--epochs", 0, "--seed", seed).stdout for seed in (1, 2)}
    assert len(untrained) == 2  # other weights to start with


def test_a_missing_column_is_told_with_those_that_are_there(table):
    done = run(PROGRAM, table, "--text-column", "review")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and "no column 'review'" in done.stderr
    assert "'number', 'text'" in done.stderr


def test_the_sizes_are_the_documents(program):
    model = program.LSTMLanguageModel(1000, 100, 100, 2)
    assert (program.VOCAB_SIZE, program.EMBEDDING_DIM, program.HIDDEN_DIM, program.LAYER_DIM) == (1000, 100, 100, 2)
    layer = 4 * 100 * (100 + 100 + 2)
    assert model.num_parameters() == 1000 * 100 + 2 * layer + 1000 * 100 + 1000
    assert model(np.zeros((3, 20), dtype=np.int64)).shape == (3, 1000)


def test_the_state_has_the_batch_size_of_the_batch(program):
    model = program.LSTMLanguageModel(11, 4, 5, 2)
    for B in (1, 7):
        assert [state.shape for state in model.init_hidden(B)] == [(2, B, 5)] * 2
    together = model(np.array([[1, 2], [3, 4]])).numpy()
    np.testing.assert_allclose(together[1], model(np.array([[3, 4]])).numpy()[0], rtol=1e-5)


def test_accuracy_counts_the_rows_whose_own_largest_logit_is_right(program):
    tokens = np.arange(41) % 8  # the next word is the last one plus 1, modulo 8
    batches = ShuffledBatches(TokenWindows(tokens, 4), batch_size=3, drop_last=False)
    model = program.LSTMLanguageModel(8, 16, 16, 1)
    optimizer = Adam(model.parameters(), lr=0.02)
    for epoch in range(40):
        program.train_epoch(model, batches, optimizer, epoch)
    loss, accuracy = program.evaluate(model, batches)
    assert accuracy == 1.0 and loss < 0.3
    half = {"input_ids": np.array([[0, 1], [4, 5]]), "labels": np.array([[1, 2], [5, 3]])}
    assert program.evaluate(model, [half])[1] == 0.5
