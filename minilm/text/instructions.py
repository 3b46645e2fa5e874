r"""Instructions and their answers: a language model learns to answer, and the loss is taken on the answers only.

A conversation arrives in parts, ids and whether the model shall learn to write them. It learns the words of the
answer and the token that ends it; who asks, and what, is there to be read. Position t predicts token t + 1, so that
the label of the last token of the question is the first of the answer:

    tokens      <user>   Is   it   good   ?    <model>   Yes    .    <end>   \n
    learned        -      -    -     -    -       -        x    x      x     -

    input_ids   <user>   Is   it   good   ?    <model>   Yes    .    <end>
    labels       -100  -100 -100  -100  -100     Yes      .   <end>  -100

Without the mask ("everything") a model spends most of its training on the questions: they are longer than the answers.

What this file does not do: write a conversation as tokens. That is the model's own way, its chat template
(minilm.pretrained.chat), or the plain one for models that have none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.errors import ConfigurationError, DataError
from minilm.text.batches import IGNORED, Batch
from minilm.text.readers import Errors, PathLike, iter_text
from minilm.text.splits import split_documents

Message = dict[str, Any]  # role, content
Conversation = list[Message]
Part = tuple[Sequence[int], bool]  # ids, and whether the model shall learn to write them
ROLES = ("system", "user", "assistant")


def labelled_example(parts: Sequence[Part], everything: bool = False) -> Batch:
    """{"input_ids": (T - 1,), "labels": (T - 1,)} of a text of T tokens in parts; labels are -100 but where it learns.

    everything: learn all tokens but the first, whatever the parts say.
    """
    ids = np.array([index for part, _ in parts for index in part], dtype=np.int64)  # (T,)
    learned = np.array([learn or everything for part, learn in parts for _ in part], dtype=bool)
    return {"input_ids": ids[:-1], "labels": np.where(learned[1:], ids[1:], IGNORED)}


class InstructionExamples(Sequence[Batch]):
    """The examples of conversations, cut where they are too long; what was cut is counted.

    Args:
        conversations: messages each, with at least one of the assistant.
        write: a conversation -> its parts.
        max_length: of input_ids. A longer example loses its end, and with it the end of its answer; one that would
            lose all of its answers is left out.
        everything: see `labelled_example`.

    Attributes:
        truncated, left_out: how many were cut, and how many are not there.
        kept: the numbers of the conversations that are.

    Raises:
        DataError: if no example is left.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        write: Callable[[Conversation], Sequence[Part]],
        max_length: int,
        everything: bool = False,
    ) -> None:
        self.max_length, self.truncated = max_length, 0
        self.kept: list[int] = []
        self._examples: list[Batch] = []
        for number, conversation in enumerate(conversations):
            parts = write(conversation)
            example = labelled_example(parts, everything)
            answers = labelled_example(parts)["labels"][:max_length]
            if not (answers != IGNORED).any():
                continue
            self.truncated += len(example["labels"]) > max_length
            self.kept.append(number)
            self._examples.append({key: row[:max_length] for key, row in example.items()})
        self.left_out = len(conversations) - len(self.kept)
        if not self.kept:
            raise DataError(
                f"no example is left: in none of {len(conversations):,} conversations an answer begins within "
                f"{max_length} tokens. Allow more, or shorten the questions"
            )

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        return self._examples[index]

    def tokens(self) -> tuple[int, int]:
        """How many tokens are read, and how many are learned."""
        read = sum(len(example["input_ids"]) for example in self)
        return read, sum(int((example["labels"] != IGNORED).sum()) for example in self)

    def cut(self) -> str:
        """What was cut, in words; empty if nothing was."""
        told = []
        if self.truncated:
            told.append(f"{self.truncated:,} of {len(self):,} examples are cut at {self.max_length} tokens")
        if self.left_out:
            told.append(f"{self.left_out:,} are left out: their answers begin after {self.max_length} tokens")
        return "; ".join(told)


def read_conversations(path: PathLike, errors: Errors = "strict") -> list[Conversation]:
    r"""The conversations of a JSON-lines file, in either of two forms, one on a line:

        {"instruction": "Is this review positive or negative?\nA masterpiece.", "answer": "positive"}
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]}

    The first form may have a "system" besides; in the second the roles are system, user and assistant.

    Raises:
        DataError: for a line that is neither, with its number; or if there is none.
    """
    text = "".join(iter_text(path, errors))
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(_conversation(json.loads(line)))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                what = f"no {error}" if isinstance(error, KeyError) else str(error)
                raise DataError(
                    f'{path}, line {number}: not {{"instruction": ..., "answer": ...}}, nor {{"messages": [{{"role": '
                    f'..., "content": ...}}, ...]}}: {what}'
                ) from error
    if not found:
        raise DataError(f"{path} is empty: there are no conversations to read")
    return found


def _conversation(record: Any) -> Conversation:
    if not isinstance(record, dict):
        raise TypeError(f"it is {type(record).__name__}, not an object")
    if "messages" in record:
        messages = [{"role": m["role"], "content": m["content"]} for m in record["messages"]]
    else:
        messages = [{"role": "system", "content": record["system"]}] if "system" in record else []
        messages.append({"role": "user", "content": record["instruction"]})
        messages.append({"role": "assistant", "content": record["answer"]})
    for message in messages:
        if message["role"] not in ROLES:
            raise ValueError(f"a role is one of {', '.join(ROLES)}, not {message['role']!r}")
        if not isinstance(message["content"], str):
            raise TypeError(f"the content of a message is text, not {message['content']!r}")
    if not any(message["role"] == "assistant" and message["content"] for message in messages):
        raise ValueError("there is no answer in it")
    return messages


def split_conversations(
    conversations: Sequence[Conversation], held_out: float, seed: int = 0
) -> tuple[list[Conversation], list[Conversation]]:
    """Those to train on, and those held out: by what was asked, so that no question is in both.

    Raises:
        ConfigurationError: if held_out is not between 0 and 1.
        DataError: if there are too few different questions.
    """
    if not 0 < held_out < 1:
        raise ConfigurationError(f"held_out={held_out}: it is the part of the data that is kept back, between 0 and 1")
    asked = ["\n".join(m["content"] for m in talk if m["role"] == "user") for talk in conversations]
    if len(set(asked)) < 2:
        raise DataError(
            f"{len(conversations):,} conversations that all ask the same: at least two different questions are needed, "
            "one to learn from and one to hold out"
        )
    train, _ = split_documents(asked, (1 - held_out, held_out), seed)
    training = set(train)
    parts: tuple[list[Conversation], list[Conversation]] = ([], [])
    for question, talk in zip(asked, conversations, strict=True):
        parts[question not in training].append(talk)
    return parts
