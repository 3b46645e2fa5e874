"""The documents' fine-tuning runs as it stands, and its program is word for word theirs."""

import ast
import re

from minilm.pretrained import TextClassifier, from_pretrained
from tests.examples.programs import EXAMPLES, run
from tests.training.small_encoder import reviews, write_encoder, write_table

PROGRAM = EXAMPLES / "documents_finetuning.py"
# The lines that the documents print, but for the imports and the name of the folder.
DOCUMENTS = """
training_args = TrainingArguments(
    output_dir=output_dir,
    num_train_epochs=3,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=16,
)
trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=train_dataset,
    eval_dataset=eval_dataset,
)
trainer.train()
"""


def test_it_learns_a_few_sentences(tmp_path):
    table = write_table(tmp_path / "reviews.csv", reviews(120), ("review", "verdict"))
    columns = ["--text-column", "review", "--label-column", "verdict"]
    done = run(PROGRAM, table, "--model", write_encoder(tmp_path / "encoder"), "--out", tmp_path / "out", *columns)
    assert done.returncode == 0, done.stderr
    assert "108 texts to train on, 12 held out; the classes are neg, pos" in done.stdout
    assert re.search(r"held out: accuracy [01]\.\d{4}, macro F1 [01]\.\d{4}, 12 texts", done.stdout)
    assert TextClassifier.load(tmp_path / "out").names == ["neg", "pos"]
    before, after = (from_pretrained(tmp_path / name)[0].state_dict() for name in ("encoder", "out"))
    assert all((array != after[f"bert.{name}"]).any() for name, array in before.items() if "norm" in name)


def test_the_program_is_the_documents():
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    blocks = [node.body for node in ast.walk(tree) if isinstance(node, ast.With)]
    assert [ast.dump(ast.Module(block, [])) for block in blocks] == [ast.dump(ast.parse(DOCUMENTS))]


def test_mistakes_are_explained(tmp_path):
    table = write_table(tmp_path / "reviews.csv", reviews(20))
    done = run(PROGRAM, table, "--label-column", "stars")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and "no column 'stars'" in done.stderr
    done = run(PROGRAM, table, "--model", write_encoder(tmp_path / "encoder"), "--out", table)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "reviews.csv" in done.stderr
    assert "held out: accuracy" not in done.stdout, "told before the training"
    done = run(PROGRAM, table, "--limit", "0")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "--limit 0" in done.stderr
