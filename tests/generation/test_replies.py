"""Greedy replies are those of generate, though what prompts have in common is read once."""

from minilm.generation import generate, greedy_replies
from minilm.random import Generator
from minilm.text import ByteTokenizer
from tests.generation.small_models import real_model


class Letters(ByteTokenizer):
    """The 13 ids of the small models, as letters."""

    type = "letters of the test"
    vocab_size = 13

    def decode(self, ids):
        return "".join(chr(97 + int(i)) for i in ids)


def model_of(kind):
    """One that does not always say the same."""
    model, generator = real_model(kind), Generator(5)
    for parameter in model.parameters():
        parameter.data = generator.normal(parameter.shape) if parameter.ndim > 1 else 0 * parameter.data + 1
    return model


PROMPTS = [[1, 2, 3], [1, 2, 3, 4], [1, 2], [1, 2], [5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]


def test_the_replies_are_those_of_generate_for_each_prompt_alone():
    for kind in ("gpt", "lstm"):
        model = model_of(kind)
        expected = [Letters().decode(generate(model, prompt, 4, temperature=0)) for prompt in PROMPTS]
        assert greedy_replies(model, Letters(), PROMPTS, 4) == expected
        assert len(set(expected)) > 1


def test_a_reply_ends_before_the_token_that_stops_it():
    model = model_of("gpt")
    (whole,) = greedy_replies(model, Letters(), [[1, 2]], 4)
    (cut,) = greedy_replies(model, Letters(), [[1, 2]], 4, stop_ids=[ord(whole[2]) - 97])
    assert cut == whole[: whole.index(whole[2])]


def test_what_a_prompt_shares_with_the_one_before_is_not_read_again(monkeypatch):
    model, read = model_of("gpt"), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda ids, state=None: (read.append(ids.shape[1]), decode(ids, state))[1])
    greedy_replies(model, Letters(), [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 5]], 1)
    assert read == [4, 1, 1]
