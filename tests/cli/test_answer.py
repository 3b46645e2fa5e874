"""minilm answer, and the models that it needs: from questions in a file to answers, figures and kind errors."""

import io
import json

import pytest

from minilm.cli import finetune_answer, main
from minilm.cli.finetune_task import Options
from minilm.errors import ConfigurationError, DataError
from minilm.evaluation import evaluate_answers
from minilm.generation import find_answers
from minilm.models import BERT, BERTConfig
from minilm.pretrained import save_pretrained
from minilm.pretrained.packages import SENTENCES
from minilm.random import Generator, using_generator
from minilm.text import Question, Span, WordPieceTokenizer, read_questions, write_questions
from minilm.training.checkpoint import save_checkpoint
from tests.pretrained import files
from tests.pretrained.conftest import installed

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] who was it the red blue old in rome at sea ada bob cleo dan , . ?".split()
PEOPLE, OTHERS = WORDS[16:20], WORDS[8:16]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A BERT that has learnt nothing, as a published folder."""
    folder = tmp_path_factory.mktemp("encoder")
    with using_generator(Generator(0)):
        model = BERT(BERTConfig(len(WORDS), 24, n_layer=1, n_head=2, n_embd=16, n_hidden=32))
    save_pretrained(model, WordPieceTokenizer(WORDS), folder)
    return folder


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    """A file of 120 questions in 12 articles: the answer is the person, of one or two words, that the text names."""
    generator = Generator(1)

    def draw(words, n):
        return [words[i] for i in generator.integers(0, len(words), n)]

    made = []
    for n in range(120):
        before, person, after = draw(OTHERS, n % 7), " ".join(draw(PEOPLE, 1 + n % 2)).title(), draw(OTHERS, 3 + n % 20)
        text = " ".join([*before, person, *after]) + f" . {n}"
        begin = text.index(person)
        made.append(Question(str(n), f"article {n % 12}", text, "Who was it?", (Span(person, begin),)))
    path = tmp_path_factory.mktemp("questions") / "questions.json"
    write_questions(path, made)
    return path


@pytest.fixture(scope="session")
def learnt(encoder, questions, tmp_path_factory):
    """The folder of a model that has learnt to find the person."""
    folder = tmp_path_factory.mktemp("answer") / "run"
    options = "--task=answer --held-out=0.25 --epochs=20 --lr=0.03"
    assert main(["finetune", str(encoder), *options.split(), "--data", str(questions), "--out", str(folder)]) == 0
    return folder


def test_what_was_learnt_is_known_on_articles_that_were_not(minilm, learnt, questions, tmp_path):
    """Also by `minilm eval`, on the questions that the run kept for it."""
    figures = json.loads((learnt / "run.json").read_text())["figures"]
    told = {name: figures[name] for name in ("exact_match", "f1")}
    assert told["exact_match"] > 90
    done = minilm("eval", learnt, "--json", tmp_path / "numbers.json")
    assert done.status == 0, done.err
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert {name: numbers[name] for name in told} == told
    assert numbers["metric"] == "exact-match" and "exact match" in done.out and "F1" in done.out
    kept = read_questions(learnt / "data" / "test.json")
    assert numbers["documents"] == len(kept) == 30 and {q.title for q in kept} < {f"article {n}" for n in range(12)}
    few = minilm("eval", learnt, "--data", questions, "--limit", 3, "--context", 16, "--json", tmp_path / "few.json")
    assert few.status == 0 and json.loads((tmp_path / "few.json").read_text())["documents"] == 3


def test_the_figures_are_those_of_the_answers(learnt, minilm, tmp_path):
    from minilm.pretrained import from_pretrained

    kept = read_questions(learnt / "data" / "test.json")
    wrong = [q._replace(answers=(Span(q.context.split()[0], 0),)) for q in kept]
    write_questions(tmp_path / "wrong.json", wrong)
    found = find_answers(*from_pretrained(learnt), [(q.question, q.context) for q in wrong])
    expected = evaluate_answers([a.text for a in found], [q.answers[0].text for q in wrong]).values
    assert minilm("eval", learnt, "--data", tmp_path / "wrong.json", "--json", tmp_path / "n.json").status == 0
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert {name: numbers[name] for name in expected} == expected and expected["exact_match"] < 50


def test_the_answer_its_probability_and_its_place(minilm, learnt, tmp_path, monkeypatch):
    text = "at sea the old Cleo\nDan was in Rome, it was"
    done = minilm("answer", learnt, "--question", "Who was it?", "--context", text)
    assert done.status == 0, done.err
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert lines["answer"] == "Cleo Dan" and 0 < float(lines["probability"]) <= 1
    assert lines["place"] == f"characters 15 to 23 of {len(text)}"
    assert lines["there"] == "at sea the old [Cleo Dan] was in Rome, it was"

    (tmp_path / "text.txt").write_text(text)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for source in (tmp_path / "text.txt", "-"):
        told = json.loads(minilm("answer", learnt, "-q", "Who was it?", "--context-file", source, "--json").out)
        assert told["answer"] == "Cleo\nDan" == text[told["begin"] : told["end"]]
        assert told["probability"] == pytest.approx(float(lines["probability"]), abs=1e-3)


def test_a_long_text_is_searched_to_its_end(minilm, learnt):
    text = "the old sea " * 200 + "Ada" + " at rome" * 100
    done = minilm("answer", learnt, "-q", "Who was it?", "-c", text)
    assert f"characters {text.index('Ada'):,}" in done.out and "[Ada] at rome" in done.out and "..." in done.out
    assert minilm("answer", learnt, "-q", "Who was it?", "-c", text, "--window", 16, "--stride", 4).out
    assert minilm("answer", learnt, "-q", "Who was it?", "-c", text, "--longest", 1).status == 0


def test_eval_reads_in_windows_as_it_is_told(minilm, learnt, monkeypatch):
    asked = []

    def spy(model, tokenizer, questions, **settings):
        asked.append(settings)
        return find_answers(model, tokenizer, questions, **settings)

    monkeypatch.setattr("minilm.generation.find_answers", spy)
    assert minilm("eval", learnt, "--context", 16, "--stride", 4).status == 0
    assert asked and all(settings == {"window": 16, "stride": 4} for settings in asked)


def test_what_cannot_be_answered_is_told_kindly(minilm, learnt, encoder, trained, tmp_path):
    save_checkpoint(tmp_path / "checkpoint-1", BERT(BERTConfig(len(WORDS), 8, 1, 2, 16, 16)), WordPieceTokenizer(WORDS))
    wrong = [
        ([learnt, "-q", " ", "-c", "the sea"], "the question is empty"),
        ([learnt, "-q", "who", "-c", "\n"], "the context is empty"),
        ([learnt, "-q", "who"], "either as --context or as --context-file"),
        ([learnt, "-q", "who", "-c", "sea", "--context-file", "-"], "either as --context or as --context-file"),
        ([learnt, "-q", "who", "--context-file", tmp_path / "nowhere.txt"], "there is no file"),
        ([learnt, "-q", "who", "-c", "sea", "--window", 25], "at most 24 at once"),
        ([learnt, "-q", "who", "-c", "sea", "--stride", 23], "a stride of 23"),
        ([encoder, "-q", "who", "-c", "sea"], "minilm finetune"),
        ([tmp_path / "checkpoint-1", "-q", "who", "-c", "sea"], "a BERT, which does not answer questions"),
        ([trained, "-q", "who", "-c", "sea"], "a GPT, which does not answer questions"),
        ([tmp_path / "nowhere", "-q", "who", "-c", "sea"], "--task answer"),
    ]
    for arguments, reason in wrong:
        assert reason in minilm("answer", *arguments).error
    (learnt_without := tmp_path / "copy").mkdir()
    for path in learnt.iterdir():
        if path.is_file():
            (learnt_without / path.name).write_bytes(path.read_bytes())
    assert "name a file of them" in minilm("eval", learnt_without).error
    assert "SQuAD" in minilm("eval", learnt, "--data", learnt / "config.json").error


def test_what_cannot_be_learnt_is_told_kindly(encoder, questions, trained, tmp_path):
    with pytest.raises(ConfigurationError, match="--max-length 25"):
        finetune_answer.prepare(str(encoder), str(questions), Options(max_length=25))
    with pytest.raises(ConfigurationError, match="--task answer takes .*gpt is a run of another model"):
        finetune_answer.prepare(str(trained), str(questions), Options())
    with pytest.raises(DataError, match="SQuAD"):
        finetune_answer.prepare(str(encoder), str(encoder / "config.json"), Options())
    (tmp_path / "a.gguf").write_bytes(files.gguf_llama())
    with pytest.raises(ConfigurationError, match="--task answer takes an encoder"):
        finetune_answer.prepare(str(tmp_path / "a.gguf"), str(questions), Options())
    with pytest.raises(ConfigurationError, match="--task answer takes .* an LSTM learns to classify only"):
        finetune_answer.prepare("lstm", str(questions), Options())
    one = read_questions(questions)[:1]
    write_questions(tmp_path / "one.json", one)
    with pytest.raises(DataError, match="all on one paragraph"):
        finetune_answer.prepare(str(encoder), str(tmp_path / "one.json"), Options())


def test_the_name_of_an_installed_model_is_no_missing_folder(minilm):
    installed(SENTENCES)
    assert "holds a BERT, which does not answer" in minilm("answer", SENTENCES, "-q", "who", "-c", "sea").error


def test_the_same_options_give_the_same_task(encoder, questions):
    """As resuming needs it; few articles are split by paragraph."""
    first, again = (finetune_answer.prepare(str(encoder), str(questions), Options(seed=3)) for _ in range(2))
    other = finetune_answer.prepare(str(encoder), str(questions), Options(seed=4))
    assert (first.model.span.weight.numpy() == again.model.span.weight.numpy()).all()
    assert (first.model.span.weight.numpy() != other.model.span.weight.numpy()).any()
    ids = [[example["input_ids"].tolist() for example in task.train] for task in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert "no article is in both" in dict(first.facts)["data"]
    few = finetune_answer.prepare(str(encoder), str(questions), Options(limit=40, max_length=16))
    assert max(len(example["input_ids"]) for example in few.train) == 16


def test_few_articles_are_split_by_paragraph(encoder, questions, tmp_path):
    write_questions(tmp_path / "few.json", [q._replace(title="all") for q in read_questions(questions)])
    task = finetune_answer.prepare(str(encoder), str(tmp_path / "few.json"), Options())
    assert dict(task.facts)["data"] == "108 questions for training, 12 held out (no paragraph is in both)"
