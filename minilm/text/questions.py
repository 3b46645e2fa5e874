"""Questions whose answer stands in a text (Rajpurkar et al. 2016, SQuAD): read, split, and cut to what a BERT reads.

    read_questions      the questions of a file in the format of SQuAD
    write_questions     the same format, written
    split_questions     training and test parts that share no article (or no paragraph)
    answer_windows      a question with its text: [CLS] question [SEP] text [SEP], or several pieces of a long text
    answer_examples     the same with the places of the answer, for BERTForQuestionAnswering to learn

A text that is longer than the window is read in pieces that overlap, so that an answer at the end of one piece is in
the midst of another. Every piece begins with the question. A piece that the answer is not in, or not as a whole, is
learnt as well: there, both places are those of [CLS].

    text      t0 t1 t2 t3 t4 t5 t6        room for 4 tokens beside the question, stride 2
    pieces    t0 t1 t2 t3
                    t2 t3 t4 t5
                          t4 t5 t6

What this file does not do: questions without an answer, as SQuAD 2.0 has them.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minilm.errors import ConfigurationError, DataError
from minilm.text.corpora import CORPORA, find_corpus
from minilm.text.files import atomic_write
from minilm.text.parallel import source_key
from minilm.text.readers import PathLike, read_text
from minilm.text.splits import split_documents
from minilm.text.tokenizers.wordpiece import WordPieceTokenizer

WINDOW = 384  # tokens of question and text together, as published for BERT
LONGEST_QUESTION = 64  # tokens; what is longer is cut
PARTS = (0.85, 0.15)


class Span(NamedTuple):
    """A piece of a text: what it says, and the number of its first character."""

    text: str
    begin: int


class Question(NamedTuple):
    """A question on a text, and its right answers, one or more: pieces of the text."""

    id: str
    title: str  # of the article that the text is a paragraph of
    context: str
    question: str
    answers: tuple[Span, ...]


class AnswerWindow(NamedTuple):
    """What BERT reads of a question and its text, all with the axis T.

    offsets (T, 2): where in the text each token begins and ends; -1 for tokens that are not of the text.
    """

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]


# ----- reading and splitting


def read_questions(data: PathLike) -> list[Question]:
    """The questions of a file in the format of SQuAD 1.1 (JSON), or of the corpus `xquad`.

    Raises:
        DataError: if there is no such file, it has another format, or an answer is not where the file says.
    """
    name = str(data)
    path = find_corpus(name)[0] if name in CORPORA and not Path(name).exists() else Path(name)
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON, and questions are read from files like SQuAD's: {error}") from error
    questions = [
        _question(entry, _text(article, "title", path, ""), _text(paragraph, "context", path), path)
        for article in _list(content, "data", path)
        for paragraph in _list(article, "paragraphs", path)
        for entry in _list(paragraph, "qas", path)
    ]
    if not questions:
        raise DataError(f"{path} holds no questions")
    return questions


def _question(entry: Any, title: str, context: str, path: Path) -> Question:
    question = _text(entry, "question", path)
    answers = []
    for answer in _list(entry, "answers", path):
        text, begin = _text(answer, "text", path), answer.get("answer_start")
        if type(begin) is not int or begin < 0:
            raise DataError(f"{path}: the answer {text!r} to {question!r} has no \"answer_start\", a number from 0")
        if not text.strip() or context[begin : begin + len(text)] != text:
            there = context[begin : begin + len(text)]
            raise DataError(
                f"{path}: the answer {text!r} to {question!r} is not at character {begin} of its paragraph: there "
                f"stands {there!r}"
            )
        answers.append(Span(text, begin))
    if not answers:
        raise DataError(
            f"{path}: {question!r} has no answer. minilm looks for answers that are there: leave such questions out "
            "(SQuAD 2.0 marks them as impossible), or use SQuAD 1.1"
        )
    return Question(str(entry.get("id", "")), title, context, question, tuple(answers))


def _list(value: Any, key: str, path: Path) -> list[Any]:
    return _field(value, key, list, "a list", path)


def _text(value: Any, key: str, path: Path, default: str | None = None) -> str:
    return _field(value, key, str, "a text", path, default)


def _field(value: Any, key: str, kind: type, what: str, path: Path, default: Any = None) -> Any:
    found = value.get(key, default) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        has = ", ".join(map(repr, list(value)[:8])) or "nothing" if isinstance(value, dict) else repr(value)[:60]
        raise DataError(
            f'{path} is not in the format of SQuAD: there should be {what} "{key}" where there is {has}. The format '
            'is {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", '
            '"answer_start"}]}]}]}]}'
        )
    return found


def write_questions(path: PathLike, questions: Iterable[Question]) -> None:
    """A file that `read_questions` reads; articles and paragraphs in the order in which they first occur."""
    articles: dict[str, dict[str, list[Any]]] = {}
    for question in questions:
        answers = [{"text": span.text, "answer_start": span.begin} for span in question.answers]
        entry = {"id": question.id, "question": question.question, "answers": answers}
        articles.setdefault(question.title, {}).setdefault(question.context, []).append(entry)
    data = [
        {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs.items()]}
        for title, paragraphs in articles.items()
    ]
    with atomic_write(path) as file:
        file.write((json.dumps({"version": "1.1", "data": data}, indent=1) + "\n").encode())


def split_questions(
    questions: Sequence[Question], fractions: Sequence[float] = PARTS, seed: int = 0, by: str = "article"
) -> tuple[list[Question], ...]:
    """The questions dealt out to the parts, all questions of an article (or of a paragraph) to the same one.

    A paragraph that several articles have counts as one of the first of them: no paragraph is ever in two parts, and
    two that differ in case, spaces or punctuation only are the same. Which part it is depends on the titles (the
    paragraphs) and the seed.

    Args:
        by: "article", as SQuAD itself was split: nothing that training could tell of its subject helps in the test.
            "paragraph" where there are few articles.

    Raises:
        DataError: if there are fewer articles (paragraphs) than parts.
    """
    if by not in ("article", "paragraph"):
        raise ValueError(f'questions are split by "article" or by "paragraph", not by {by!r}')
    group: dict[str, str] = {}
    for question in questions:
        key = source_key(question.context)
        group.setdefault(key, question.title if by == "article" else key)
    parts = split_documents(sorted(set(group.values())), fractions, seed)
    part_of = {name: number for number, part in enumerate(parts) for name in part}
    dealt: tuple[list[Question], ...] = tuple([] for _ in fractions)
    for question in questions:
        dealt[part_of[group[source_key(question.context)]]].append(question)
    return dealt


# ----- what the model reads


def answer_windows(
    tokenizer: WordPieceTokenizer, question: str, context: str, window: int = WINDOW, stride: int | None = None
) -> list[AnswerWindow]:
    """[CLS] question [SEP] text [SEP], in as many pieces as the text needs.

    Args:
        window: the most tokens of a piece, the question and the three marks among them.
        stride: tokens of the text from piece to piece; half of what a piece holds of it if None.

    Raises:
        DataError: if question or text are without tokens.
        ConfigurationError: if the window is too small, or the stride larger than what a piece holds.
    """
    if window < 8:
        raise ConfigurationError(f"a window of {window} tokens has no room for a question and a text: give 8 or more")
    asked = tokenizer.encode(question)[: min(LONGEST_QUESTION, (window - 3) // 2)]
    ids, offsets = tokenizer.encode_with_offsets(context)
    if not len(asked):
        raise DataError(f"the question {question!r} has no words")
    if not len(ids):
        raise DataError(f"there is no text to look for the answer in: it is {context[:60]!r}")
    room = window - len(asked) - 3
    stride = max(1, room // 2) if stride is None else stride
    if not 1 <= stride <= room:
        raise ConfigurationError(
            f"a stride of {stride}: beside this question a window of {window} tokens holds {room} tokens of the text, "
            "and a longer stride would leave some out"
        )
    windows = []
    for begin in range(0, max(1, len(ids) - room + stride), stride):
        piece = slice(begin, begin + room)
        pair = tokenizer.pair(asked, ids[piece])
        places = np.full((len(pair.input_ids), 2), -1, dtype=np.int64)
        places[len(asked) + 2 : -1] = offsets[piece]
        windows.append(AnswerWindow(pair.input_ids, pair.token_type_ids, places))
    return windows


def answer_places(window: AnswerWindow, begin: int, end: int) -> tuple[int, int]:
    """The first and the last token of the answer text[begin:end]; (0, 0), [CLS], unless the window holds all of it.

    A token that the answer begins or ends within ("1990" in "1990s") counts as a whole.
    """
    first, last = window.offsets.T
    of_text = np.flatnonzero(first >= 0)
    if not len(of_text) or begin < first[of_text[0]] or end > last[of_text[-1]]:
        return 0, 0
    inside = of_text[(last[of_text] > begin) & (first[of_text] < end)]
    return (int(inside[0]), int(inside[-1])) if len(inside) else (0, 0)


def answer_examples(
    tokenizer: WordPieceTokenizer, questions: Iterable[Question], window: int = WINDOW, stride: int | None = None
) -> list[dict[str, Any]]:
    """Examples {"input_ids" (T,), "token_type_ids" (T,), "start_positions", "end_positions"}, one for each window.

    Of several right answers the first one is learnt.
    """
    examples = []
    for question in questions:
        text, begin = question.answers[0]
        begin, text = begin + len(text) - len(text.lstrip()), text.strip()
        for piece in answer_windows(tokenizer, question.question, question.context, window, stride):
            start, end = answer_places(piece, begin, begin + len(text))
            own = {"input_ids": piece.input_ids, "token_type_ids": piece.token_type_ids}
            examples.append({**own, "start_positions": start, "end_positions": end})
    return examples
