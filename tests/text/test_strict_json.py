"""JSON of a stranger's file says one thing, or is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.text.strict_json import parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(values)
def test_it_reads_what_json_writes(value):
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' twice"),
        ('[{"x": {"b": 1, "b": 2}}]', "the key 'b' twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "limit"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
)
def test_whatever_is_wrong_is_a_value_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_a_repeated_key_among_many_is_found_at_once():
    with pytest.raises(ValueError, match="the key '99999' twice"):
        parse_json("{" + ", ".join(f'"{i}": 0' for i in range(100_000)) + ', "99999": 1}')
