"""minilm eval for each kind of model: the figures are those of the formulas, and mistakes are explained."""

import csv
import json
import sys

import numpy as np
import pytest

from minilm.cli import main
from minilm.compression import quantize, save_quantized
from minilm.evaluation import evaluate_answers
from minilm.generation import translate
from minilm.models import BERT, BERTConfig, BERTForMaskedLM, BERTForSequenceClassification
from minilm.random import Generator, using_generator
from minilm.tensor import no_grad
from minilm.text import PairTokenizer, WordPieceTokenizer, open_token_file, read_pairs
from minilm.training import load_model
from minilm.training.checkpoint import save_checkpoint


@pytest.fixture
def numbers(minilm, tmp_path):
    """A function that evaluates and returns what --json wrote, and what was printed."""

    def call(*arguments):
        done = minilm("eval", *arguments, "--json", tmp_path / "numbers.json")
        assert done.status == 0, done.err
        return json.loads((tmp_path / "numbers.json").read_text()), done.out

    return call


# ----- the next token


def test_a_stride_lets_every_token_see_more(numbers, trained):
    """Against a loop: the token at i is predicted from the tokens since the last window that scores it began."""
    told, out = numbers(trained, "--split", "validation", "--stride", 4)
    model, _ = load_model(trained)
    tokens = np.asarray(open_token_file(trained / "data" / "validation.tokens"), dtype=np.int64)
    total = 0.0
    for i in range(1, len(tokens)):
        begin = 0 if i <= 16 else 4 * -(-(i - 16) // 4)
        logits = model(tokens[None, begin:i]).numpy()[0, -1].astype(np.float64)
        total += np.log(np.exp(logits).sum()) - logits[tokens[i]]
    assert told["loss"] == pytest.approx(total / (len(tokens) - 1), rel=1e-5)
    plain, _ = numbers(trained, "--split", "validation")
    assert (told["stride"], plain["stride"], told["context"]) == (4, 16, 16)
    assert told["tokens"] == plain["tokens"] and told["documents"] == plain["documents"] == 1
    assert told["loss"] != plain["loss"]
    assert "sees 13 or more" in out and told["metric"] == "perplexity"


def test_a_shorter_window_and_the_first_tokens_only(numbers, trained):
    told, _ = numbers(trained, "--context", 8, "--limit", 101)
    assert (told["tokens"], told["context"], told["text"]) == (100, 8, "test, the first 101 tokens")


def test_documents_are_counted(numbers, trained, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("text\n" + "the cat saw two dogs\n" * 7)
    told, out = numbers(trained, "--data", path)
    assert told["documents"] == 7 and told["tokens"] == 7 * len("the cat saw two dogs\n") - 1
    assert told["bits_per_byte"] == pytest.approx(told["loss"] / np.log(2))


def test_a_quantized_model_is_scored_like_any_other(numbers, trained, text, tmp_path):
    model, tokenizer = load_model(trained)
    save_quantized(tmp_path / "small", quantize(model), tokenizer)
    small, _ = numbers(tmp_path / "small", "--data", text)
    whole, _ = numbers(trained, "--data", text)
    assert small["loss"] == pytest.approx(whole["loss"], rel=1e-3) and small["loss"] != whole["loss"]


def test_published_weights_are_scored(numbers, minilm, test_data, tmp_path):
    """A story that the model wrote itself, greedily, is no surprise to it; the same words backwards are."""
    model, story = test_data("stories260k/stories260K.bin"), test_data("stories260k/expected_greedy_200.txt")
    backwards = tmp_path / "backwards.txt"
    backwards.write_text(" ".join(reversed(story.read_text().split())))
    own, _ = numbers(model, "--data", story)
    assert own["perplexity"] < 2.5
    assert numbers(model, "--data", backwards)[0]["perplexity"] > 20
    assert "name some with --data" in minilm("eval", model).error


def test_a_model_of_hidden_words_has_a_pseudo_perplexity(numbers, minilm, tmp_path):
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat".split()
    save_checkpoint(
        tmp_path / "checkpoint-1", BERTForMaskedLM(BERTConfig(8, 8, 1, 2, 16, 16)), WordPieceTokenizer(words)
    )
    (tmp_path / "text.txt").write_text("the cat sat\n" * 5)
    told, out = numbers(tmp_path / "checkpoint-1", "--data", tmp_path / "text.txt")
    assert told["metric"] == "pseudo-perplexity" and told["tokens"] == 15 and told["context"] == 8
    assert told["pseudo_perplexity"] == pytest.approx(np.exp(told["loss"])) == pytest.approx(8, rel=0.2)
    assert "each token was hidden once" in out
    too_long = minilm("eval", tmp_path / "checkpoint-1", "--data", tmp_path / "text.txt", "--context", 9)
    assert "at most 8 tokens" in too_long.error


# ----- a class

TABLE = [("the cat sat", "1"), ("a dog ran home", "0"), ("the dogs saw", "1"), ("mat", "0"), ("two cats", "1")]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A BERT that was never trained, with large weights, so that it has opinions."""
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] the a two cat dog dogs cats sat ran saw home mat".split()
    config = BERTConfig(len(words), 8, n_layer=1, n_head=2, n_embd=16, n_hidden=16, num_labels=2)
    with using_generator(Generator(3)):
        model = BERTForSequenceClassification(config)
    for parameter in model.parameters():
        parameter.data *= 10
    folder = tmp_path_factory.mktemp("classifier") / "checkpoint-1"
    save_checkpoint(folder, model, WordPieceTokenizer(words))
    return folder


def written(path, rows, header=("text", "label")):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_classifier_is_scored_on_a_table(numbers, classifier, tmp_path):
    model, tokenizer = load_model(classifier)
    taken = []
    for text, _ in TABLE:
        pair = tokenizer.pair(tokenizer.encode(text), max_length=8)
        with no_grad():
            taken.append(int(model(pair.input_ids[None], None, pair.token_type_ids[None]).numpy().argmax()))
    right = [int(label) for _, label in TABLE]
    told, out = numbers(classifier, "--data", written(tmp_path / "table.csv", TABLE))
    assert told["metric"] == "accuracy" and told["documents"] == 5
    assert told["accuracy"] == np.mean([a == b for a, b in zip(taken, right, strict=True)])
    counts = [[sum(r == i and t == j for r, t in zip(right, taken, strict=True)) for j in (0, 1)] for i in (0, 1)]
    assert told["confusion"] == counts and told["classes"] == ["0", "1"]
    assert told["tokens"] == sum(min(8, len(tokenizer.encode(text)) + 2) for text, _ in TABLE)
    assert "macro F1" in out and "is, taken for" in out


def test_classes_may_have_names_and_columns_too(numbers, classifier, tmp_path):
    named = [(text, {"0": "bad", "1": "good"}[label]) for text, label in TABLE]
    path = written(tmp_path / "table.csv", named, ("review", "verdict"))
    told, _ = numbers(classifier, "--data", path, "--text-column", "review", "--label-column", "verdict")
    assert told["classes"] == ["bad", "good"]
    assert told["accuracy"] == numbers(classifier, "--data", written(tmp_path / "t.csv", TABLE))[0]["accuracy"]
    assert numbers(classifier, "--data", written(tmp_path / "t.csv", TABLE), "--limit", 2)[0]["documents"] == 2


def test_a_table_that_does_not_fit_is_explained(minilm, classifier, tmp_path):
    assert "--data" in minilm("eval", classifier).error
    path = written(tmp_path / "table.csv", TABLE, ("review", "verdict"))
    assert "no column 'text'" in minilm("eval", classifier, "--data", path).error
    error = minilm("eval", classifier, "--data", path, "--text-column", "review").error
    assert "no column 'label'" in error and "--label-column" in error
    many = written(tmp_path / "many.csv", [("a", "2"), ("the", "0")])
    assert "2 classes, 0 to 1" in minilm("eval", classifier, "--data", many).error
    names = written(tmp_path / "names.csv", [("a", "x"), ("the", "y"), ("cat", "z")])
    assert "name 3: 'x', 'y', 'z'" in minilm("eval", classifier, "--data", names).error
    plain = tmp_path / "plain.txt"
    plain.write_text("the cat\n")
    assert "not a table" in minilm("eval", classifier, "--data", plain).error
    assert "no file" in minilm("eval", classifier, "--data", tmp_path / "nothing.csv").error
    empty = written(tmp_path / "empty.csv", [])
    assert "no text" in minilm("eval", classifier, "--data", empty).error


# ----- a text


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """The folder of a Transformer that has half learnt to translate word by word; some words may become two."""
    words = {"one": ["eins"], "two": ["zwei"], "red": ["rot", "rote"], "dog": ["Hund", "Dackel"]}
    folder = tmp_path_factory.mktemp("translator")
    lines = [
        f"{a} {b} {c}\t{x} {y} {z}\n"
        for a in words
        for b in words
        for c in words
        for x in words[a]
        for y in words[b]
        for z in words[c]
    ]
    (folder / "pairs.tsv").write_text("".join(lines))
    options = "--preset=tiny --n-embd=32 --n-hidden=64 --vocab-size=290 --no-plot --steps=50 --eval-every=50"
    arguments = ["transformer", "--data", str(folder / "pairs.tsv"), "--out", str(folder / "run"), *options.split()]
    assert main(["train", *arguments]) == 0
    return folder / "run"


def test_what_is_written_is_scored_against_all_targets_of_a_source(numbers, translator, require_package):
    require_package("sacrebleu"), require_package("rouge_score")
    pairs = read_pairs(translator / "data" / "test.tsv")
    right = {}
    for source, target in pairs:
        right.setdefault(source, []).append(target)
    model, tokenizer = load_model(translator)
    predictions = translate(model, PairTokenizer(tokenizer), list(right), 2)
    expected = evaluate_answers(predictions, list(right.values())).values
    assert 20 < expected["f1"] < 100, "the figures are to say something"
    told, out = numbers(translator, "--metric", "exact-match", "--beam", 2)
    assert {name: told[name] for name in expected} == expected and told["documents"] == len(right) < len(pairs)
    assert "exact match" in out
    told, out = numbers(translator, "--beam", 2)
    sacrebleu = require_package("sacrebleu")
    most = max(map(len, right.values()))
    streams = [[(targets + [None] * most)[k] for targets in right.values()] for k in range(most)]
    assert told["bleu"] == sacrebleu.corpus_bleu(predictions, streams).score and "BLEU" in out
    assert told["metric"] == "bleu" and told["documents"] == len(right)
    told, out = numbers(translator, "--metric", "rouge", "--limit", 1)
    assert "ROUGE-L" in out and told["documents"] == 1


def test_any_target_of_a_source_is_a_right_one(numbers, translator, tmp_path):
    model, tokenizer = load_model(translator)
    sources = ["one two red", "dog red one"]
    own = translate(model, PairTokenizer(tokenizer), sources, 1)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{s}\t{t}\n{s}\tsomething else\n" for s, t in zip(sources, own, strict=True)))
    told, _ = numbers(translator, "--data", pairs, "--metric", "exact-match", "--beam", 1)
    assert (told["exact_match"], told["f1"], told["documents"]) == (100, 100, 2)


def test_pairs_may_be_columns_of_a_table(numbers, minilm, translator, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("english,german\none two,eins zwei\n")
    columns = ["--source-column", "english", "--target-column", "german"]
    assert numbers(translator, "--data", pairs, "--metric", "exact-match", *columns)[0]["documents"] == 1
    assert "--source-column" in minilm("eval", translator, "--data", pairs).error


def test_without_the_package_of_a_metric_the_way_out_is_told(minilm, translator, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert "pip install 'minilm[eval]'" in minilm("eval", translator, "--limit", 1, "--beam", 1).error


def test_pairs_that_are_none_are_explained(minilm, translator, tmp_path):
    path = tmp_path / "no_pairs.txt"
    path.write_text("a sentence without a translation\n")
    assert "not a pair" in minilm("eval", translator, "--data", path).error
    path.write_text("\n")
    assert "no pairs" in minilm("eval", translator, "--data", path).error


# ----- which figure for which model


@pytest.mark.parametrize(
    "options, message",
    [
        (["--metric", "bleu"], "says nothing of a GPT: for it there is perplexity"),
        (["--metric", "beauty"], "auto or one of perplexity, pseudo-perplexity, accuracy, bleu, rouge, exact-match"),
        (["--context", 17], "at most 16 tokens"),
        (["--stride", 17], "at most the window of 16"),
        (["--limit", 1], "at least 2 tokens"),
        (["--json", "nowhere/x.json"], "no folder nowhere"),
        (["--json", "."], "is a folder"),
        (["--errors", "never"], "--errors is one of strict, replace, ignore, not 'never'"),
    ],
)
def test_options_that_make_no_sense_are_explained(minilm, trained, options, message):
    assert message in minilm("eval", trained, *options).error


def test_a_model_without_a_figure_says_so(minilm, tmp_path):
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] a".split()
    save_checkpoint(tmp_path / "checkpoint-1", BERT(BERTConfig(6, 8, 1, 2, 16, 16)), WordPieceTokenizer(words))
    assert "no figure for a BERT" in minilm("eval", tmp_path / "checkpoint-1", "--data", "x").error


def test_what_is_no_model_is_explained(minilm, tmp_path, text):
    assert "no folder" in minilm("eval", tmp_path / "nothing").error
    assert minilm("eval", tmp_path / "nothing.gguf", "--data", text).error
    assert minilm("eval", text, "--data", text).error, "a text is no model"
