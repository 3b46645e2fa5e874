"""The errors that a user's input can cause, and that the command line shows without a traceback.

Every message says what was wrong, where, and the way out. Programming mistakes (a wrong shape, a wrong
dtype) stay `ValueError`, `TypeError` and `IndexError`, as in NumPy; the classes here also derive from the
built-in error a Python programmer would expect, so that `except ValueError` still works.
"""


LONGEST_MESSAGE = 2000  # characters


class MinilmError(Exception):
    """Base of the errors below: what the command line prints as one message and exit status 1."""

    def __str__(self) -> str:
        """The message. It may quote a file from a stranger: what is too long is left out in the middle, and what is
        no character to be seen, such as a command to the terminal, is written as its number."""
        text = super().__str__()
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
        return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class DataError(MinilmError, ValueError):
    """A text, a token file or a corpus that cannot be used: empty, too short, badly encoded, a missing column."""


class TokenizerError(MinilmError, ValueError):
    """A text or an id that a tokenizer does not know, or a tokenizer that does not match the model."""


class CheckpointError(MinilmError, ValueError):
    """A checkpoint that is missing, truncated, tampered with, or made for another model."""


class BackendError(MinilmError, RuntimeError):
    """A backend that cannot work on this machine: the message says what is missing and how to get it."""


class TrainingError(MinilmError, RuntimeError):
    """Training that cannot go on: a loss that is not finite, a disk that is full."""


class ConfigurationError(MinilmError, ValueError):
    """Settings that contradict each other or lie outside their range."""
