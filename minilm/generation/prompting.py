r"""Few-shot prompting: the prompt shows a task by examples; no weight changes (Brown et al. 2020, section 2).

    Review: a masterpiece .
    Sentiment: positive
                                         <- separator
    Review: two hours of nothing .
    Sentiment: negative

    Review: the text in question
    Sentiment:                           <- the model goes on from here

With K examples that is "K-shot"; with none, "zero-shot", the model has only the words of the form to go by. Which
examples, and in which order, matters to a small model: draw several sets, and tell the spread.

What this file does not do: ask the model. `minilm.evaluation.option_log_likelihoods` compares given answers,
`generate_text` writes one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.errors import ConfigurationError, DataError
from minilm.random import Generator

PLACE = "{text}"


@dataclass(frozen=True)
class FewShotPrompt:
    """The form in which examples and the question are written.

    Attributes:
        form: one question, up to where its answer begins: with the place {text}, and no space at the end. An answer
            follows after a space, which byte-level tokenizers keep in one token with the word.
        separator: between an example and the next one.

    Raises:
        ConfigurationError: for a form without {text} or with a space at its end.
    """

    form: str
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        if PLACE not in self.form or self.form != self.form.rstrip():
            raise ConfigurationError(
                f"the form {self.form!r} of a prompt must have the place {PLACE}, and no space at its end"
            )

    def question(self, text: str) -> str:
        """The form with a text in its place."""
        return self.form.replace(PLACE, text)

    def write(self, text: str, examples: Sequence[tuple[str, str]] = ()) -> str:
        """The prompt for a text, after examples (text, answer)."""
        shown = [self.question(example) + self.option(answer) for example, answer in examples]
        return self.separator.join([*shown, self.question(text)])

    def option(self, answer: str) -> str:
        """An answer as it follows the prompt."""
        return " " + answer


def balanced_examples(
    examples: Sequence[tuple[str, str]], number: int, generator: Generator
) -> list[tuple[str, str]]:
    """`number` of the examples (text, answer), in random order, each answer as often as the others, or once more.

    Raises:
        DataError: if there are not enough examples of an answer.
    """
    if number < 0:
        raise ConfigurationError(f"{number} examples: it is a number from 0")
    by_answer: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for example in examples:
        by_answer[example[1]].append(example)
    answers = sorted(by_answer)
    favoured = generator.permutation(len(answers))  # whose turn it is first, where the number does not divide
    chosen: list[tuple[str, str]] = []
    for place, index in enumerate(favoured.tolist()):
        answer = answers[index]
        wanted = (number + len(answers) - 1 - place) // len(answers)
        if wanted > len(by_answer[answer]):
            raise DataError(f"{wanted} examples of {answer!r} are wanted, and there are {len(by_answer[answer])}")
        chosen += [by_answer[answer][i] for i in generator.permutation(len(by_answer[answer]))[:wanted].tolist()]
    if len(chosen) < number:
        raise DataError(f"{number} examples are wanted, and there are none at all")
    return [chosen[i] for i in generator.permutation(len(chosen)).tolist()]
