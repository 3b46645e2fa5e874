"""minilm train --preset summarize, minilm summarize and minilm eval: from documents to lines that name them."""

import io
import json
import sys
from pathlib import Path

import pytest

from minilm.cli import main, pair_run
from minilm.text import read_pairs
from minilm.text.parallel import families

THINGS = ("cats", "dogs", "trees", "stars", "boats", "bells", "clocks", "roads", "birds", "lamps", "rivers", "stones")
VERBS = ("counts", "draws", "sorts", "finds", "shows", "sells", "paints", "cleans", "moves", "names")
SIZES = "--no-plot --n-layer=1 --n-head=2 --n-embd=32 --n-hidden=64 --vocab-size=400 --block-size=24 --lr=6e-3".split()


@pytest.fixture(scope="session")
def documents(tmp_path_factory):
    """A JSONL of 120 documents, each with the line that it should become; the end of a document matters to nobody."""
    path = tmp_path_factory.mktemp("documents") / "documents.jsonl"
    rows = [
        {
            "text": f"This little program {verb} {thing} for everybody who asks. " + f"It knows {thing} well. " * 6,
            "line": f"{verb} {thing}",
        }
        for verb in VERBS
        for thing in THINGS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def learnt(documents, tmp_path_factory):
    """The folder of a transformer that has learnt to name them."""
    folder = tmp_path_factory.mktemp("summaries") / "run"
    command = ["train", "transformer", "--data", str(documents), "--source-column", "text", "--target-column", "line"]
    command += ["--preset", "summarize", "--out", str(folder), "--steps=120", "--eval-every=120", "--batch-size=800"]
    assert main([*command, *SIZES]) == 0
    return folder


def test_a_run_cuts_its_sources_and_keeps_families_apart(learnt):
    settings = json.loads((learnt / "run.json").read_text())
    assert settings["cut_sources"] and settings["keep_apart"] == "sentences"
    parts = [read_pairs(learnt / "data" / f"{name}.tsv") for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 120 and len(parts[2]) == 12
    key = families(pair.source for part in parts for pair in part)
    names = [{key[pair.source] for pair in part} for part in parts]
    assert not names[0] & names[2] and not names[0] & names[1]
    run = pair_run.reopen(learnt, pair_run.pair_presets.load(learnt / "run.json"))
    lengths = [len(example["input_ids"]) for example in pair_run.batches(run, "train").dataset]
    assert len(lengths) == len(parts[0]) and max(lengths) == 24, "none is left out"


def test_it_summarizes_documents_that_it_has_not_seen(minilm, learnt):
    unseen = read_pairs(learnt / "data" / "test.tsv")
    right = [minilm("summarize", source, "--model", learnt).out == target + "\n" for source, target in unseen]
    assert sum(right) >= 0.7 * len(unseen)


def test_a_file_and_stdin_are_one_document_and_what_is_cut_is_told(minilm, learnt, tmp_path, monkeypatch):
    [source, _], *_ = read_pairs(learnt / "data" / "test.tsv")
    document = source.replace(". ", ".\n\n")
    (tmp_path / "document.txt").write_text(document)
    expected = minilm("summarize", source, "--model", learnt)
    assert expected.out.count("\n") == 1 and "the model reads the first 24 of" in expected.err
    assert minilm("summarize", "--file", tmp_path / "document.txt", "--model", learnt).out == expected.out
    for dash in (["-"], []):
        monkeypatch.setattr(sys, "stdin", io.StringIO(document))
        assert minilm("summarize", *dash, "--model", learnt).out == expected.out
    assert minilm("summarize", "It counts cats.", "--model", learnt).err == "", "nothing was cut"


def test_eval_scores_its_summaries(minilm, learnt, documents, tmp_path, require_package):
    require_package("rouge_score")
    figures = tmp_path / "figures.json"
    assert minilm("eval", learnt, "--json", figures).status == 0, "for documents ROUGE is what there is, not BLEU"
    numbers = json.loads(figures.read_text())
    assert numbers["metric"] == "rouge" and numbers["documents"] == 12 and numbers["rouge1"] > 70
    assert minilm("eval", learnt, "--data", documents, "--json", figures).status == 0, "in the columns of its training"
    assert json.loads(figures.read_text())["documents"] == 120
    last = max(learnt.glob("checkpoint-*"))
    assert minilm("eval", last, "--limit", 2, "--json", figures).status == 0
    assert json.loads(figures.read_text())["metric"] == "rouge"


def test_documents_are_cut_for_any_metric(minilm, learnt, tmp_path):
    """The model has learnt to read their beginning; what it does with more of them says nothing."""
    figures = tmp_path / "figures.json"
    done = minilm("eval", learnt, "--metric", "exact-match", "--limit", 3, "--beam", 1, "--json", figures)
    assert done.status == 0, done.err
    assert json.loads(figures.read_text())["documents"] == 3


def test_what_cannot_be_summarized_is_told_kindly(minilm, learnt, documents, trained, tmp_path):
    wrong = [
        (["summarize", " ", "--model", learnt], "empty"),
        (["summarize", "one", "--file", documents, "--model", learnt], "one of them at a time"),
        (["summarize", "one", "--model", trained], "no model that summarizes: train one with minilm train transformer"),
        (["summarize", "--file", tmp_path / "missing.txt", "--model", learnt], "there is no file"),
        (["train", "transformer", "--data", documents, "--out", tmp_path / "a"], "--source-column"),
        (["train", "gpt", "--data", documents, "--source-column", "text", "--out", tmp_path / "a"], "--text-column"),
        (["train", "transformer", "--data", documents, "--text-column", "text", "--out", tmp_path / "a"], "have two"),
    ]
    for arguments, reason in wrong:
        assert reason in minilm(*arguments).error
    assert not Path(tmp_path / "a").exists()
