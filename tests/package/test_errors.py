"""What a file from a stranger holds may be quoted in an error, and does no harm there."""

import pytest

from minilm.errors import CheckpointError, MinilmError


@pytest.mark.parametrize(
    "said, shown",
    [
        ("a \n\tnaïve 語 \U0001f600 stays", "a \n\tnaïve 語 \U0001f600 stays"),
        ("a \x1b]0;title\x07 b", "a \\x1b]0;title\\x07 b"),
        ("a lone \ud800", "a lone \\ud800"),
        ("to the left \u202e", "to the left \\u202e"),
    ],
)
def test_commands_to_a_terminal_are_written_as_numbers(said, shown):
    assert str(CheckpointError(said)) == shown
    shown.encode()


def test_a_message_without_end_loses_its_middle():
    text = str(MinilmError("config.json: " + "x" * 10**6 + " should be a number"))
    assert text.startswith("config.json: xxx") and text.endswith("xxx should be a number") and len(text) < 2100
