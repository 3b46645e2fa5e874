"""minilm finetune --task answer: a BERT learns to find answers in texts, from questions in the format of SQuAD.

The head is one Linear layer that says of each token whether the answer begins, or ends, there. No article is on both
sides of the split where there are enough of them, as SQuAD itself was split.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minilm.cli.finetune_task import LSTM, TEST_QUESTIONS, Options, Task, is_own_run
from minilm.errors import CheckpointError, ConfigurationError, DataError
from minilm.evaluation import evaluate_answers
from minilm.generation import find_answers
from minilm.models import BERTForQuestionAnswering
from minilm.pretrained import from_pretrained, save_pretrained
from minilm.pretrained.packages import SENTENCES
from minilm.random import Generator, using_generator
from minilm.text import Question, WordPieceTokenizer, answer_examples, read_questions, split_questions, write_questions
from minilm.text.questions import WINDOW

FEW_ARTICLES = 10  # below that the split is by paragraph


def prepare(model_path: str, data: str, options: Options) -> Task:
    """The model with its head, and the questions of the file as windows of tokens; see `Task`."""
    wanted = f"--task answer takes an encoder, a BERT such as {SENTENCES}"
    if model_path == LSTM or is_own_run(model_path):
        what = "an LSTM learns to classify only" if model_path == LSTM else f"{model_path} is a run of another model"
        raise ConfigurationError(f"{wanted}: {what}")
    # No dropout: in so few epochs it helps little, and drawing its masks would take as long as half of all else.
    with using_generator(Generator(options.seed).spawn("head")):
        try:
            model, tokenizer = from_pretrained(model_path, kind=BERTForQuestionAnswering, dropout=0.0)
        except ConfigurationError as error:
            raise ConfigurationError(f"{wanted}: {model_path} is another model") from error
    if not isinstance(model, BERTForQuestionAnswering) or not isinstance(tokenizer, WordPieceTokenizer):
        raise CheckpointError(f"{model_path} is no BERT with its vocab.txt, which answering questions needs")
    window = min(WINDOW, model.context_length) if options.max_length is None else options.max_length
    if window > model.context_length:
        raise ConfigurationError(f"--max-length {window}: this model reads at most {model.context_length} tokens")
    by, train, test = parts(data, options)
    examples, held_out = (answer_examples(tokenizer, part, window) for part in (train, test))

    def save(folder: Path) -> None:
        save_pretrained(model, tokenizer, folder)
        (folder / TEST_QUESTIONS).parent.mkdir(exist_ok=True)
        write_questions(folder / TEST_QUESTIONS, test)

    return Task(
        model=model,
        tokenizer=tokenizer,
        train=examples,
        held_out=held_out,
        evaluate=lambda: figures(model, tokenizer, test, window),
        save=save,
        head=("span",),
        headings={"exact_match": ("exact match", 1), "f1": ("F1", 1)},
        facts=[
            ("data", f"{len(train):,} questions for training, {len(test):,} held out (no {by} is in both)"),
            ("windows", f"{len(examples):,} and {len(held_out):,}, of at most {window} tokens"),
        ],
        learning_rates={"full": 3e-4, "lora": 1e-3, "last": 5e-4, "frozen": 2e-3},
        epochs={"full": 4, "lora": 4, "last": 4, "frozen": 4},
        try_it='minilm answer {run} --question "..." --context "..."',
    )


def parts(data: str, options: Options) -> tuple[str, list[Question], list[Question]]:
    """By what the questions are split, article or paragraph; those to learn, and those that are held out."""
    questions = read_questions(data)
    if options.limit is not None and options.limit < len(questions):  # from all over the file
        questions = [questions[n * len(questions) // options.limit] for n in range(options.limit)]
    by = "article" if len({q.title for q in questions}) >= FEW_ARTICLES else "paragraph"
    if len({q.context for q in questions}) < 2:
        raise DataError("the questions are all on one paragraph, and none would be left to test on: give more of them")
    train, test = split_questions(questions, (1 - options.held_out, options.held_out), options.seed, by)
    return by, train, test


def figures(model: Any, tokenizer: Any, questions: list[Question], window: int) -> Mapping[str, float]:
    """Exact match and F1, in percent, of the answers to the questions."""
    found = find_answers(model, tokenizer, [(q.question, q.context) for q in questions], window=window)
    right = [[span.text for span in q.answers] for q in questions]
    return evaluate_answers([answer.text for answer in found], right).values
