"""The probe finds a difference that was put there, finds none where there is none, and counts as the papers do."""

from itertools import combinations

import numpy as np
import pytest

from minilm import Generator
from minilm.errors import DataError
from minilm.inspection import (
    association_effect,
    association_test,
    effect,
    group_difference,
    paired_sentences,
    probe_pairs,
)
from minilm.inspection.bias_probe import OCCUPATIONS, TEMPLATES


def test_pairs_differ_in_one_word():
    groups = [g for group in OCCUPATIONS.values() for g in group]
    pairs = paired_sentences(groups)
    assert len(pairs) == len(groups) * len(TEMPLATES)
    for pair in pairs:
        one, other = pair.first.replace(",", "").split(), pair.second.replace(",", "").split()
        assert {(a, b) for a, b in zip(one, other, strict=True) if a != b} == {("she", "he")}
        assert pair.group in pair.first and " a engineer" not in pair.first


def test_a_difference_is_the_first_sentence_s_minus_the_second_s():
    pairs = paired_sentences(["nurse", "soldier"], templates=["The {group} said that {word} slept."])
    known = {"The nurse said that she slept.": -3.0, "The nurse said that he slept.": -5.0}
    d = probe_pairs(lambda texts: [known.get(text, -4.0) for text in texts], pairs)
    np.testing.assert_array_equal(d, [2.0, 0.0])
    with pytest.raises(DataError, match="finite"):
        probe_pairs(lambda texts: [np.nan] * len(texts), pairs)


def test_the_sign_test_is_that_of_all_signs():
    """With 8 differences the 256 ways to choose their signs can be counted."""
    d = np.array([0.3, 1.2, -0.2, 0.8, 0.9, 0.1, -0.4, 1.5])
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    exact = (np.abs((signs * d).mean(1)) >= abs(d.mean()) - 1e-12).mean()
    found = effect(d, Generator(0), draws=40_000)
    assert found.p == pytest.approx(exact, abs=0.005)
    assert found.mean == pytest.approx(d.mean()) and found.size == pytest.approx(d.mean() / d.std(ddof=1))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    draw, inside, runs = np.random.default_rng(1), 0, 200
    for run in range(runs):
        found = effect(draw.normal(0.5, 1.0, 40), Generator(run), draws=400)
        inside += found.low <= 0.5 <= found.high
    assert 0.88 < inside / runs < 0.99


def test_where_there_is_nothing_p_is_seldom_small_and_else_it_is():
    draw = np.random.default_rng(2)
    nothing = [effect(draw.normal(0, 1, 20), Generator(i), draws=500).p for i in range(200)]
    assert 0.01 < np.mean(np.array(nothing) < 0.05) < 0.10
    assert effect(draw.normal(3, 1, 20), Generator(0)).p < 0.001
    assert effect(np.ones(30), Generator(0)).p > 0  # no number of draws shows 0


@pytest.mark.parametrize("draws, tolerance", [(10_000, 1e-12), (2_000, 0.03)], ids=["all ways", "drawn ways"])
def test_two_lists_are_compared_by_who_might_be_in_which(draws, tolerance):
    values = np.random.default_rng(6).normal(size=14)
    values[:8] += 0.6
    all_ways = [values[list(c)].mean() - np.delete(values, c).mean() for c in combinations(range(14), 8)]  # 3,003
    difference = values[:8].mean() - values[8:].mean()
    exact = np.mean(np.abs(all_ways) >= abs(difference) - 1e-12)
    assert 0.05 < exact < 0.5
    found, p = group_difference(values[:8], values[8:], Generator(3), draws)
    assert found == pytest.approx(difference) and p == pytest.approx(exact, abs=tolerance)


def vectors(seed=0, n=5, C=6):
    draw = np.random.default_rng(seed)
    return tuple(draw.normal(size=(k, C)) for k in (n, n, 4, 3))


def test_weat_is_the_formula_of_the_paper():
    x, y, a, b = vectors()

    def s(w):
        def cos(v):
            return w @ v / np.sqrt(w @ w * (v @ v))

        return np.mean([cos(v) for v in a]) - np.mean([cos(v) for v in b])

    sx, sy = [s(w) for w in x], [s(w) for w in y]
    size = (np.mean(sx) - np.mean(sy)) / np.std(sx + sy, ddof=1)
    both = np.array(sx + sy)
    ways = [both[list(c)].sum() - np.delete(both, c).sum() for c in combinations(range(10), 5)]
    p = np.mean(np.array(ways) >= sum(sx) - sum(sy) - 1e-12)
    found, found_p = association_test(x, y, a, b, Generator(0))
    assert found == pytest.approx(size) == association_effect(x, y, a, b) and found_p == pytest.approx(p)
    assert association_test(x, y, a, b, Generator(0), draws=250)[1] == pytest.approx(p, abs=0.1)


def test_an_association_that_was_put_there_is_found_and_turns_with_the_sets():
    x, y, a, b = vectors(1)
    x, y = x + 4 * a.mean(0), y + 4 * b.mean(0)
    size, p = association_test(x, y, a, b, Generator(0))
    assert size > 1.5 and p <= 1 / 252 + 1e-12
    assert association_effect(y, x, a, b) == pytest.approx(-size) == association_effect(x, y, b, a)
    assert association_test(y, x, a, b, Generator(0))[1] == 1.0
    assert association_effect(10 * x, y, a, 0.1 * b) == pytest.approx(size)  # only directions count


def test_bad_input_is_refused():
    x, y, a, b = vectors()
    with pytest.raises(DataError, match="as many each"):
        association_effect(x[:2], y, a, b)
    with pytest.raises(DataError, match="of one C"):
        association_effect(x, y, a[:, :3], b)
    with pytest.raises(DataError, match="no direction"):
        association_effect(0 * x, y, a, b)
    with pytest.raises(DataError, match="at least 2"):
        effect([1.0], Generator(0))
    with pytest.raises(DataError, match="lacks one"):
        paired_sentences(["nurse"], templates=["The {group} slept."])
