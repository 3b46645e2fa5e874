"""An option that is parsed and then forgotten is worse than none: each reaches the function that it is for."""

import pytest

from minilm.cli import finetune_classify, pair_presets, pair_run, presets, run
from minilm.cli.finetune_task import Options
from minilm.errors import DataError
from minilm.text import ByteTokenizer, PairTokenizer
from tests.pretrained import files
from tests.training.small_encoder import reviews, write_encoder, write_table


@pytest.fixture
def spy(monkeypatch):
    """A function that puts in the place of another one what raises its arguments, so that they are the message."""

    def put(name, first=0):
        def told(*arguments, **named):
            raise DataError(f"{list(arguments[first:])} {named}")

        monkeypatch.setattr(name, told)

    return put


def test_of_translate(minilm, spy, monkeypatch):
    monkeypatch.setattr("minilm.cli.pair_run.load", lambda *_: (None, None))
    spy("minilm.generation.hypotheses", first=2)
    told = minilm("translate", "a text", "--beam", 3, "--length-penalty", 0.25, "--max-length", 7).error
    assert told == "[['a text'], 3, 0.25, 7] {}\n"


def test_of_summarize(minilm, spy, monkeypatch):
    class Tokenizer:
        def encode(self, text):
            return text.split()

    monkeypatch.setattr("minilm.cli.pair_run.load", lambda *_: (None, Tokenizer()))
    monkeypatch.setattr("minilm.cli.pair_run.longest_source", lambda path, model: 64)
    spy("minilm.generation.translate", first=2)
    told = minilm("summarize", "a text", "--beam", 3, "--length-penalty", 0.25, "--max-length", 7).error
    assert told == "[['a text'], 3, 0.25, 7] {'longest': 64}\n"


GIVEN = {
    **{"steps": 123, "grad_accum": 3, "lr": 0.0123, "weight_decay": 0.045, "clip": 0.67, "warmup": 11, "seed": 9},
    **{"eval_every": 13, "save_every": 17, "early_stopping": 5, "dropout": 0.21, "n_embd": 24},
}
ARGUMENTS = {
    **{"max_steps": 123, "gradient_accumulation_steps": 3, "learning_rate": 0.0123, "weight_decay": 0.045, "seed": 9},
    **{"max_grad_norm": 0.67, "warmup_steps": 11, "eval_steps": 13, "save_steps": 17, "early_stopping_patience": 5},
}


@pytest.mark.parametrize("kind", [*presets.MODELS, *presets.PAIR_MODELS])
def test_of_train(kind, tmp_path):
    own = {"n_hidden": 20} if kind != "gpt" else {"block_size": 19}
    own |= {"n_head": 2, "n_layer": 3} if kind in ("gpt", "transformer") else {}
    given = {**GIVEN, **own}
    if kind in presets.PAIR_MODELS:
        settings = pair_presets.resolve(kind, "x", None, given)
        tokenizer = PairTokenizer(ByteTokenizer())
        arguments = pair_run.arguments(pair_run.PairRun(tmp_path, settings, pair_run.PairData(tokenizer, {})))
        config = pair_run.build_model(settings, tokenizer).config
    else:
        settings = presets.resolve(kind, "x", None, {**given, "batch_size": 7})
        arguments, config = run.arguments(settings, tmp_path), run.build_model(settings, 256).config
        assert arguments.per_device_train_batch_size == 7
    assert {name: getattr(arguments, name) for name in ARGUMENTS} == ARGUMENTS
    sizes = {**own, "n_embd": 24, "dropout": 0.21}
    assert {name: getattr(config, name) for name in sizes} == sizes


def test_of_sample(minilm, spy, trained):
    spy("minilm.cli.sample.stream", first=3)
    told = minilm("sample", trained, "--tokens", 9, "--stop", "x", "--no-cache", "--seed", 4).error
    assert told.startswith("[9, SamplingSettings(") and told.endswith(", 4, ['x'], False] {}\n")


def test_of_chat(minilm, spy, tmp_path, require_package):
    require_package("jinja2")
    (tmp_path / "model.gguf").write_bytes(files.gguf_llama(facts={"llama.context_length": 64}))
    spy("minilm.pretrained.Conversation", first=3)
    options = ["--temperature", 0.5, "--top-p", 0.75, "--repetition-penalty", 1.25, "--tokens", 9]
    settings = "SamplingSettings(temperature=0.5, top_k=None, top_p=0.75, repetition_penalty=1.25)"
    chat = ["chat", "--model", tmp_path / "model.gguf", "--prompt", "a", *options]
    told = minilm(*chat, "--system", "Be kind.").error
    assert f"'Be kind.', {settings}" in told and told.endswith(", 9] {}\n")
    spy("minilm.generation.stream_text", first=2)
    assert minilm(*chat, "--plain").error.startswith(f"['a', 9, {settings}")


def test_a_limit_takes_examples_from_all_over(tmp_path):
    by_class = write_table(tmp_path / "table.csv", sorted(reviews(120), key=lambda row: row[1]))
    encoder = write_encoder(tmp_path / "encoder")
    task = finetune_classify.prepare(str(encoder), str(by_class), Options(limit=40))
    labels = [example["labels"] for part in (task.train, task.held_out) for example in part]
    assert sorted(labels) == [0] * 20 + [1] * 20
