"""The loop: the cache changes nothing, a seed means one sequence, the caller's model stays as it was."""

import math
import sys

import numpy as np
import pytest

from minilm import is_grad_enabled, no_grad
from minilm.errors import ConfigurationError, DataError, TokenizerError, TrainingError
from minilm.generation import NextToken, SamplingSettings, generate, generate_tokens, sample
from minilm.random import Generator, current_generator, using_generator
from tests.generation.small_models import CONTEXT, Table, V, real_model

KINDS = ["gpt", "lstm", "gru", "rnn"]
UNIFORM = np.zeros((10, 10))


def plain_logits(model, ids):
    """By the definition: the whole sequence (what fits of it) through the model, without a state."""
    window = ids if model.context_length is None else ids[-model.context_length :]
    with no_grad():
        return model(np.array([window])).numpy()[0, -1]


# with and without a cache


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [1, 5, CONTEXT, CONTEXT + 3])
def test_cached_logits_equal_those_of_the_whole_sequence_at_every_step(kind, first):
    model = real_model(kind).eval()
    cached, uncached = NextToken(model), NextToken(model, use_cache=False)
    ids = Generator(first).integers(0, V, 3 * CONTEXT).tolist()
    for t in range(first, len(ids) + 1):
        expected = plain_logits(model, ids[:t])
        assert expected.std() > 0.3  # else nearly equal would be easy
        np.testing.assert_allclose(cached.logits(ids[:t]), expected, atol=1e-5)
        np.testing.assert_allclose(uncached.logits(ids[:t]), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_several_tokens_may_come_at_once(kind):
    model = real_model(kind).eval()
    ids = Generator(4).integers(0, V, CONTEXT).tolist()
    cached = NextToken(model)
    for t in (2, 3, 6, CONTEXT):
        np.testing.assert_allclose(cached.logits(ids[:t]), plain_logits(model, ids[:t]), atol=1e-5)


SETTINGS = [
    SamplingSettings(),
    SamplingSettings(temperature=0),
    SamplingSettings(temperature=0.8, top_k=5, top_p=0.9, repetition_penalty=1.2),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_seed_gives_the_same_tokens_with_and_without_a_cache(kind, settings):
    model = real_model(kind)
    runs = [
        list(generate_tokens(model, [1, 2, 3], 4 * CONTEXT, settings, Generator(7), use_cache))
        for use_cache in (True, False)
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_the_largest_logits_one_after_the_other(kind):
    model = real_model(kind).eval()
    ids = [3, 1]
    for token in generate_tokens(model, ids, 2 * CONTEXT, SamplingSettings(temperature=0)):
        assert token == plain_logits(model, ids).argmax()
        ids.append(token)
    assert len(ids) == 2 + 2 * CONTEXT


def test_the_model_is_shown_each_token_once_until_its_context_is_full_then_the_last_ones():
    model = Table(UNIFORM, context_length=4)
    new = generate(model, [5, 6], 5, seed=0).tolist()
    ids = [5, 6, *new]
    assert model.shown == [
        ("next", [5, 6]),
        ("next", ids[2:3]),
        ("next", ids[3:4]),
        ("whole", ids[1:5]),
        ("whole", ids[2:6]),
    ]


def test_without_a_cache_the_model_is_shown_everything_each_time():
    model = Table(UNIFORM, context_length=4)
    new = generate(model, [5, 6], 4, seed=0, use_cache=False).tolist()
    ids = [5, 6, *new]
    assert model.shown == [("whole", ids[:2]), ("whole", ids[:3]), ("whole", ids[:4]), ("whole", ids[1:5])]


def test_of_a_longer_prompt_the_last_tokens_count():
    model = real_model("gpt")
    prompt = Generator(3).integers(0, V, 5 * CONTEXT)
    for prefix in (prompt, prompt[-CONTEXT:]):
        np.testing.assert_array_equal(
            generate(model, prefix, 10, seed=1), generate(model, prompt[-CONTEXT:], 10, seed=1)
        )
    assert NextToken(model).logits(prompt.tolist()).shape == (V,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_prompt_in_pieces_gives_the_same_logits(kind, monkeypatch):
    model = real_model(kind).eval()
    ids = Generator(4).integers(0, V, CONTEXT).tolist()
    monkeypatch.setattr(sys.modules["minilm.generation.generate"], "PROMPT_PIECE", 3)
    np.testing.assert_allclose(NextToken(model).logits(ids), plain_logits(model, ids), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 4])
def test_after_going_back_the_logits_are_those_of_the_other_way_on(kind, length):
    model = real_model(kind).eval()
    first, other = Generator(4).integers(0, V, (2, CONTEXT - 1)).tolist()
    next_token = NextToken(model)
    next_token.logits(first)
    next_token.rewind(length)
    ids = first[:length] + other[length:]
    np.testing.assert_allclose(next_token.logits(ids), plain_logits(model, ids), atol=1e-5)
    assert np.abs(plain_logits(model, ids) - plain_logits(model, first)).max() > 0.1


def test_going_back_from_beyond_the_context_starts_again():
    model = real_model("gpt").eval()
    ids = Generator(4).integers(0, V, CONTEXT + 4).tolist()
    next_token = NextToken(model)
    for t in (CONTEXT - 1, CONTEXT + 4):
        next_token.logits(ids[:t])
    next_token.rewind(CONTEXT - 1)
    np.testing.assert_allclose(next_token.logits(ids[:CONTEXT]), plain_logits(model, ids[:CONTEXT]), atol=1e-5)


def test_logits_of_nothing_new_are_refused():
    next_token = NextToken(real_model("gpt").eval())
    next_token.logits([1, 2, 3])
    with pytest.raises(ValueError, match="3 tokens were seen and 3 are given"):
        next_token.logits([1, 2, 3])


def test_going_back_keeps_what_is_cached():
    model = real_model("gpt").eval()
    next_token = NextToken(model)
    next_token.logits([1, 2, 3, 4, 5])
    shown, decode = [], model.decode
    model.decode = lambda ids, state: (shown.append(ids[0].tolist()), decode(ids, state))[1]
    next_token.rewind(3)
    next_token.logits([1, 2, 3, 6, 7])
    assert shown == [[6, 7]]


# stop tokens, and a vocabulary that was rounded up


def test_generation_ends_before_a_stop_token_and_asks_for_nothing_more():
    model = Table(np.roll(np.eye(6), 1, axis=1) * 100)  # 0 1 2 3 4 5 0 1 ...
    assert generate(model, [0], 10, temperature=0, stop_ids=[4, 5]).tolist() == [1, 2, 3]
    assert len(model.shown) == 4
    assert generate(model, [0], 3, temperature=0, stop_ids=[4]).tolist() == [1, 2, 3]
    assert list(generate_tokens(model, [4], 3, SamplingSettings(temperature=0), stop_ids=[4])) == [5, 0, 1]
    with pytest.raises(TokenizerError, match="token id 6 at position 1"):
        generate_tokens(model, [0], 3, stop_ids=[1, 6])


def test_tokens_beyond_the_vocabulary_are_never_drawn():
    row = np.array([0.0, 1.0, 2.0, 50.0, 60.0])
    drawn = list(generate_tokens(Table(np.tile(row, (5, 1))), [0], 60, generator=Generator(1), vocab_size=3))
    assert set(drawn) == {0, 1, 2}


# randomness

# Generator(2024).random(): 0.2706, 0.6189, 0.0387, 0.6907, 0.6472, 0.4179, 0.5262, 0.7804, 0.0362, 0.2292
FIRST_DIGITS = [2, 6, 0, 6, 6, 4, 5, 7, 0, 2]


def test_a_seed_means_the_same_everywhere():
    # With ten equal logits a token is the first digit of the number drawn.
    assert generate(Table(UNIFORM), [0], 10, seed=2024).tolist() == FIRST_DIGITS
    # A chain: from 0 to 1 and 2 with 3 : 1, from 1 to 0 and 2 evenly, from 2 to itself and 0 with 9 : 1.
    table = np.full((3, 3), -math.inf)
    table[0, 1], table[0, 2], table[1, 0], table[1, 2] = math.log(3), 0, 0, 0
    table[2, 2], table[2, 0] = math.log(9), 0
    # from 0, 0.27 < 3/4: 1; 0.61 > 1/2: 2; 0.03 < 1/10: 0; 0.69 < 3/4: 1; 0.64: 2; 0.41 > 1/10: 2; 2; 2; 0; 1
    assert generate(Table(table), [0], 10, seed=2024).tolist() == [1, 2, 0, 1, 2, 2, 2, 2, 0, 1]


def test_a_seed_leaves_the_current_generator_alone_and_without_one_it_goes_on():
    with using_generator(Generator(2024)):
        generate(Table(UNIFORM), [0], 20, seed=5)
        assert generate(Table(UNIFORM), [0], 4).tolist() == FIRST_DIGITS[:4]
        assert list(generate_tokens(Table(UNIFORM), [0], 6)) == FIRST_DIGITS[4:]


def test_seeds_differ():
    runs = {tuple(generate(Table(UNIFORM), [0], 20, seed=seed)) for seed in range(20)}
    assert len(runs) == 20


def test_settings_reach_the_draw():
    row = np.log([0.4, 0.3, 0.2, 0.1])
    for settings in ({"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.65}):
        generator = Generator(8)
        expected = [sample(row, generator, **settings) for _ in range(30)]
        assert generate(Table(np.tile(row, (4, 1))), [0], 30, seed=8, **settings).tolist() == expected
        assert generate(Table(np.tile(row, (4, 1))), [0], 30, seed=8).tolist() != expected


def test_the_repetition_penalty_knows_the_prompt_and_what_was_written():
    row = np.arange(1.0, 7.0)  # id 5 is the most probable, then 4, ...
    new = generate(Table(np.tile(row, (6, 1))), [4, 1], 4, temperature=0, repetition_penalty=1e6)
    assert new.tolist() == [5, 3, 2, 0]


# the caller's model


def test_between_two_tokens_the_caller_records_and_trains():
    model = Table(UNIFORM).train()
    for _ in generate_tokens(model, [0], 3):
        assert is_grad_enabled() and model.training
    assert model.modes == [(False, False)] * 3


def test_a_reader_that_stops_early_leaves_the_model_as_it_was():
    model = real_model("gpt", dropout=0.5).train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    tokens = generate_tokens(model, [1], 100)
    next(tokens)
    assert [module.training for module in model.modules()] == modes
    tokens.close()
    assert [module.training for module in model.modules()] == modes and is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_dropped_while_generating(kind):
    dropping, plain = real_model(kind, dropout=0.5).train(), real_model(kind)
    offset = current_generator().offset
    np.testing.assert_array_equal(generate(dropping, [1], 20, seed=2), generate(plain, [1], 20, seed=2))
    assert current_generator().offset == offset


def test_the_state_that_training_carries_is_not_touched():
    model = real_model("lstm").train()
    rows = np.array([[1, 2, 3], [4, 5, 6]])
    model.loss({"input_ids": rows[:, :-1], "labels": rows[:, 1:], "continues": np.array([False, False])})
    before = {name: array.copy() for name, array in model.get_extra_state().items()}
    generate(model, [1], 5, seed=0)
    after = model.get_extra_state()
    assert before.keys() == after.keys() and before
    assert all(np.array_equal(before[name], after[name]) for name in before)


# how many


def test_the_model_computes_nothing_that_nobody_asked_for():
    model = Table(UNIFORM)
    assert generate(model, [0], 0).tolist() == [] and model.shown == []
    tokens = generate_tokens(model, [0], 5)
    assert model.shown == []
    next(tokens), next(tokens)
    assert len(model.shown) == 2
    assert len(list(tokens)) == 3 and len(model.shown) == 5
    assert generate(model, [0], 7).dtype == np.int64


# bad input, refused at the call and not at the first token


@pytest.mark.parametrize("call", [generate_tokens, generate])
def test_bad_prompts_are_refused(call):
    model = Table(UNIFORM)
    for empty in ([], np.zeros(0, np.int64)):
        with pytest.raises(DataError, match="give at least one"):
            call(model, empty, 5)
    with pytest.raises(TokenizerError, match=r"token id 10 at position 1 .* 0 \.\. 9"):
        call(model, [3, 10], 5)
    with pytest.raises(TokenizerError, match="token id -1 at position 0"):
        call(model, [-1], 5)
    with pytest.raises(TypeError, match="integers"):
        call(model, [0.5], 5)
    with pytest.raises(ValueError, match=r"one sequence \(T,\), got the shape \(1, 2\)"):
        call(model, [[1, 2]], 5)
    with pytest.raises(ConfigurationError, match="max_new_tokens=-1"):
        call(model, [0], -1)
    with pytest.raises(ConfigurationError, match="temperature=-1"):
        generate(model, [0], 5, temperature=-1)
    assert model.shown == []


def test_a_model_with_damaged_weights_says_so():
    model = real_model("gpt")
    model.final_norm.weight.data[0] = np.nan
    with pytest.raises(TrainingError, match="damaged"):
        generate(model, [0], 5)
