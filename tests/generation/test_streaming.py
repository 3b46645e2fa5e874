"""Text as it is written: certain piece by piece, whole characters, and never a bit of a stop string."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm import is_grad_enabled
from minilm.errors import ConfigurationError, DataError, TokenizerError
from minilm.generation import SamplingSettings, generate, generate_text, stream_text, until_stop
from minilm.random import Generator
from minilm.text import ByteTokenizer, CharTokenizer, WordTokenizer
from tests.generation.small_models import Script, Table, real_model

GREEDY = SamplingSettings(temperature=0)
CHARACTERS = CharTokenizer("abcdefghijklm")  # as many as the small models know
WORDS = WordTokenizer(["<unk>", "the", "king", "is", ",", "n't", "dead", "."])
LONG_LIVED = "\N{GREEK SMALL LETTER PI}\N{EURO SIGN}\N{MUSICAL SYMBOL G CLEF}a"  # of 2, 3, 4 bytes, and 1


def written(tokenizer, prompt, text, stop=()):
    """The pieces in which a model that writes `text` is shown, and that model."""
    ids = tokenizer.encode(text)
    model = Script(ids, tokenizer.vocab_size)
    return list(stream_text(model, tokenizer, prompt, len(ids), GREEDY, stop=stop)), model


# decoding


@pytest.mark.parametrize(
    "tokenizer, prompt, text",
    [
        (CHARACTERS, "abc", "defabc"),
        (ByteTokenizer(), "\N{EURO SIGN}", LONG_LIVED),
        (WORDS, "The king", "is n't dead, the king."),
        (WORDS, "is", "n't dead"),
        (WORDS, "an unknown word", ", the king, dead"),
    ],
)
def test_the_pieces_are_what_the_new_ids_add_to_the_prompt(tokenizer, prompt, text):
    pieces, _ = written(tokenizer, prompt, text)
    prompt_ids, ids = tokenizer.encode(prompt).tolist(), tokenizer.encode(text).tolist()
    assert tokenizer.decode(prompt_ids) + "".join(pieces) == tokenizer.decode(prompt_ids + ids)
    assert "" not in pieces


def test_a_word_after_the_prompt_is_set_off_as_inside_a_text():
    assert written(WORDS, "the king", "is dead")[0] == [" is", " dead"]
    assert written(WORDS, "the king", ", dead")[0] == [",", " dead"]


def test_a_character_of_several_bytes_comes_whole():
    pieces, model = written(ByteTokenizer(), "a", LONG_LIVED)
    assert pieces == list(LONG_LIVED)
    assert len(model.shown) == 2 + 3 + 4 + 1


def test_an_unfinished_character_is_marked_at_the_end():
    euro = ByteTokenizer().encode("a\N{EURO SIGN}")
    model = Script(euro[:-1], 256)
    assert list(stream_text(model, ByteTokenizer(), "a", 3, GREEDY)) == ["a", "\N{REPLACEMENT CHARACTER}"]


def test_text_is_shown_as_soon_as_it_is_certain():
    ids = CHARACTERS.encode("abc")
    model = Script(ids, CHARACTERS.vocab_size)
    seen = [(piece, len(model.shown)) for piece in stream_text(model, CHARACTERS, "a", 3, GREEDY)]
    assert seen == [("a", 1), ("b", 2), ("c", 3)]


# stop strings

short = st.text("ab", min_size=1, max_size=4)


def cut(text, stops):
    """Character by character: the first end of a stop string, and of those the one that began first."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(st.lists(st.text("ab", max_size=3), max_size=12), st.lists(short, max_size=3))
def test_text_ends_before_the_stop_string_however_it_is_cut_into_pieces(pieces, stops):
    shown = list(until_stop(pieces, stops))
    assert "".join(shown) == cut("".join(pieces), stops)
    assert "" not in shown


@given(st.text("ab", max_size=12), st.lists(short, max_size=3))
def test_no_more_is_held_back_than_a_stop_string_could_begin_with(text, stops):
    given_so_far = ""

    def characters():
        nonlocal given_so_far
        for character in text:
            # what is not shown by now is the beginning of some stop string, or nothing
            held = given_so_far[len("".join(shown)) :]
            assert held == "" or any(stop.startswith(held) for stop in stops)
            given_so_far += character
            yield character

    shown = []
    for piece in until_stop(characters(), stops):
        shown.append(piece)


def test_a_line_break_that_turns_out_to_be_one_only_is_shown_late():
    assert list(until_stop(["a", "b\n", "c", "\n", "\nx", "y"], ["\n\n"])) == ["a", "b", "\nc"]


def test_held_text_is_shown_when_the_end_comes_instead():
    assert list(until_stop(["ab", "c"], ["bcd"])) == ["a", "bc"]


def test_of_stop_strings_that_end_together_the_longer_one_counts():
    assert "".join(until_stop(["xab"], ["b", "ab"])) == "x"


@pytest.mark.parametrize("stop", ["gh", ["m", "gh"], ("gh",)])
def test_generation_ends_where_a_stop_string_is_complete(stop):
    pieces, model = written(CHARACTERS, "abc", "defgabghcd", stop=stop)
    assert "".join(pieces) == "defgab"
    assert len(model.shown) == len("defgabgh")


def test_a_stop_string_may_be_of_characters_that_take_several_tokens():
    pieces, _ = written(ByteTokenizer(), "a", "x\N{EURO SIGN}y\N{EURO SIGN}", stop="y\N{EURO SIGN}")
    assert pieces == ["x", "\N{EURO SIGN}"]


def test_a_stop_string_in_the_prompt_stops_nothing():
    pieces, _ = written(CHARACTERS, "abcgh", "hgdef", stop="gh")
    assert "".join(pieces) == "hgdef"
    pieces, _ = written(CHARACTERS, "abcg", "hdef", stop="gh")  # nor one that the prompt began
    assert "".join(pieces) == "hdef"


def test_a_stop_token_ends_the_text_and_shows_nothing_of_itself():
    ids = CHARACTERS.encode("abcd")
    model = Script(ids, CHARACTERS.vocab_size)
    assert generate_text(model, CHARACTERS, "a", 9, GREEDY, stop_ids=CHARACTERS.encode("c").tolist()) == "ab"


def test_a_model_may_know_more_tokens_than_the_tokenizer_has():
    table = np.zeros((300, 300))
    table[:, 256:] = 100.0  # what it likes best is no byte
    assert len(generate_text(Table(table), ByteTokenizer(), "a", 20, generator=Generator(1))) > 5


# real models


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_a_seed_gives_one_text_with_and_without_a_cache(kind):
    model = real_model(kind)
    settings = SamplingSettings(temperature=0.9, top_k=8)
    texts = [
        generate_text(model, CHARACTERS, "abc", 30, settings, Generator(3), use_cache=use_cache)
        for use_cache in (True, False)
    ]
    ids = generate(model, CHARACTERS.encode("abc"), 30, temperature=0.9, top_k=8, seed=3)
    assert texts == [CHARACTERS.decode(ids)] * 2
    assert texts[0] != generate_text(model, CHARACTERS, "abc", 30, settings, Generator(4))


def test_streaming_without_a_cache_shows_the_model_everything():
    model = Script(CHARACTERS.encode("de"), CHARACTERS.vocab_size)
    assert generate_text(model, CHARACTERS, "a", 2, GREEDY, use_cache=False) == "de"
    assert model.shown == [("whole", [0]), ("whole", [0, 3])]


def test_stopping_leaves_the_model_in_training():
    model = real_model("gpt").train()
    text = generate_text(model, CHARACTERS, "abc", 200, generator=Generator(1), stop="a")
    assert len(text) < 200 and "a" not in text
    assert all(module.training for module in model.modules()) and is_grad_enabled()


# bad input, refused at the call


def test_bad_input_is_refused():
    model = real_model("gpt")
    with pytest.raises(TokenizerError, match="'Z'.* at position 2"):
        stream_text(model, CHARACTERS, "abZ", 5)
    with pytest.raises(DataError, match="the prompt has no tokens"):
        stream_text(model, CHARACTERS, "", 5)
    with pytest.raises(TokenizerError, match="the tokenizer has 256 tokens and the model 13"):
        stream_text(model, ByteTokenizer(), "a", 5)
    for stop in ("", ["a", ""]):
        with pytest.raises(ConfigurationError, match="empty stop string"):
            stream_text(model, CHARACTERS, "a", 5, stop=stop)
    with pytest.raises(ConfigurationError, match="max_new_tokens=-5"):
        generate_text(model, CHARACTERS, "a", -5)
