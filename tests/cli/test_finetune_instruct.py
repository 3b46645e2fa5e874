"""minilm finetune --task instruct: a model learns the answers of a file, and then gives them in minilm chat."""

import json
from itertools import product

import pytest

from minilm.cli import finetune_instruct
from minilm.cli.finetune_instruct import prepare
from minilm.cli.finetune_task import Options
from minilm.errors import ConfigurationError
from minilm.models import BERT, GPT, BERTConfig, GPTConfig
from minilm.pretrained import load_chat_template, save_pretrained
from minilm.random import Generator, using_generator
from minilm.text import ByteTokenizer, WordPieceTokenizer
from minilm.training import merge_lora, prepare_method, save_checkpoint

NAMES = ["".join(letters) for pair in ("ab", "yz") for letters in product(pair, repeat=5)]


@pytest.fixture
def gpt(tmp_path, require_package):
    """The folder of a small GPT that knows nothing, and reads bytes."""
    require_package("jinja2")
    with using_generator(Generator(3)):
        model = GPT(GPTConfig(256, 64, n_layer=1, n_head=2, n_embd=32))
    save_pretrained(model, ByteTokenizer(), tmp_path / "gpt")
    return tmp_path / "gpt"


@pytest.fixture
def data(tmp_path):
    """Questions with one of two answers, which their letters decide."""
    path = tmp_path / "data.jsonl"
    lines = [{"instruction": name, "answer": "low" if name < "e" else "high"} for name in NAMES]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_a_tuned_model_gives_the_answers_of_its_data_in_chat(minilm, gpt, data, tmp_path):
    out = tmp_path / "run"
    done = minilm(
        *("finetune", gpt, "--task", "instruct", "--data", data, "--out", out),
        *("--epochs", 20, "--batch-size", 8, "--lr", 0.01),
    )
    assert done.status == 0, done.err
    assert "58 conversations for training, 6 held out" in done.out and "plain (Question, Answer)" in done.out
    for question, answer in (("abaab", "low"), ("zyzzy", "high")):
        said = minilm("chat", "--model", out, "--prompt", question, "--temperature", 0)
        assert said.out == f"{answer}\n", said.err
    assert load_chat_template(out, ByteTokenizer()).stop_ids == (10,)


def test_lora_teaches_it_as_well(gpt, data):
    task = prepare(str(gpt), str(data), Options(method="lora"))
    before = task.evaluate()
    assert set(before) == {"answer_loss", "exact_match", "f1"} == set(task.headings)
    with using_generator(Generator(1)):
        prepare_method(task.model, "lora", targets=task.lora_targets, rank=4)
    loss = task.model.loss({key: row[None] for key, row in task.train[0].items()})
    loss.backward()
    trained = {name for name, p in task.model.named_parameters() if p.grad is not None}
    assert trained and all("lora_" in name for name in trained)
    merge_lora(task.model)
    assert task.evaluate()["answer_loss"] == pytest.approx(before["answer_loss"], abs=1e-4), "adapters begin at nothing"


def test_preparing_twice_gives_the_same(gpt, data):
    first, second = (prepare(str(gpt), str(data), Options(limit=20, seed=5)) for _ in range(2))
    assert [e["labels"].tolist() for e in first.train] == [e["labels"].tolist() for e in second.train]
    assert len(first.train) + len(first.held_out) == 20


def test_examples_that_are_cut_are_told(gpt, data):
    task = prepare(str(gpt), str(data), Options(max_length=25))
    told = dict(task.facts)
    assert "58 of 58 examples are cut at 25 tokens" in told["training"] and "6 of 6" in told["held out"]
    assert max(len(example["input_ids"]) for example in task.train) == 25
    with pytest.raises(ConfigurationError, match="--max-length 65: this model reads from 2 to 64"):
        prepare(str(gpt), str(data), Options(max_length=65))


def test_a_checkpoint_of_our_own_is_taught_too(gpt, data, tmp_path, require_package):
    with using_generator(Generator(3)):
        model = GPT(GPTConfig(256, 64, n_layer=1, n_head=2, n_embd=32))
    save_checkpoint(tmp_path / "own", model, ByteTokenizer())
    task = prepare(str(tmp_path / "own"), str(data), Options())
    assert dict(task.facts)["template"].startswith("plain")
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    again = prepare(str(tmp_path / "saved"), str(data), Options())
    assert dict(again.facts)["template"] == "the model's own chat template"
    assert [e["labels"].tolist() for e in again.train] == [e["labels"].tolist() for e in task.train]


def test_a_model_that_does_not_write_is_refused(tmp_path, data):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    save_pretrained(BERT(BERTConfig(13, 16, 1, 2, 8, 8)), WordPieceTokenizer(tokens), tmp_path / "bert")
    with pytest.raises(ConfigurationError, match="an LSTM learns to classify only"):
        prepare("lstm", str(data), Options())
    with pytest.raises(ConfigurationError, match="cannot learn to answer"):
        prepare(str(tmp_path / "bert"), str(data), Options())
    with using_generator(Generator(3)):
        model = GPT(GPTConfig(256, 64, n_layer=1, n_head=2, n_embd=32, bias=False))
    save_checkpoint(tmp_path / "biasless", model, ByteTokenizer())
    with pytest.raises(ConfigurationError, match="no published form"):
        prepare(str(tmp_path / "biasless"), str(data), Options())


def test_the_figures_are_those_of_the_replies(gpt, data, monkeypatch):
    task = prepare(str(gpt), str(data), Options())
    def replies(model, tokenizer, prompts, *rest):
        assert all(tokenizer.decode(prompt).endswith("\nAnswer:\n") for prompt in prompts)
        return ["Low."] * len(prompts)

    monkeypatch.setattr(finetune_instruct, "greedy_replies", replies)
    found = task.evaluate()
    test = [e for e in task.held_out if b"low" in bytes(e["labels"][e["labels"] != -100].tolist())]
    assert found["exact_match"] == pytest.approx(100 * len(test) / 6) and 0 < len(test) < 6
