"""Cases of attention that every rung must get right, and the check against the textbook formula in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minilm.functional as F
from minilm.random import Generator

LENGTHS = [1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 61]
WIDTHS = [8, 16, 20, 33, 64, 80, 128, 256]
# A mask's axes (B, Hq, Tq, Tk), 1 where it is broadcast; fewer letters are fewer axes.
MASKS = [None, "bool k", "bool qk", "bool b11k", "bool bhqk", "additive qk", "additive h1k", "additive bhqk"]
LAYOUTS = ["heads first", "projection", "sliced"]


@dataclass(frozen=True)
class Case:
    """One call: sizes, options, and the layout of the arrays in memory."""

    Tq: int
    Tk: int
    D: int = 16
    Dv: int = 16
    B: int = 2
    Hk: int = 1
    group: int = 1
    dtype: str = "float32"
    is_causal: bool | str = False
    mask: str | None = None
    dropout_p: float = 0.0
    scale: float | None = None
    layout: str = "heads first"
    seed: int = 0

    @property
    def options(self) -> dict[str, Any]:
        names = ("is_causal", "dropout_p", "scale")
        return {name: getattr(self, name) for name in names} | {"enable_gqa": self.group > 1}

    @property
    def needs(self) -> tuple[bool, ...]:
        return True, True, True, (self.mask or "").startswith("additive")

    def arrays(self) -> list[np.ndarray | None]:
        """query, key, value, attn_mask and the cotangent g."""
        rng = np.random.default_rng(self.seed)
        Hq = self.Hk * self.group
        shapes = [(Hq, self.Tq, self.D), (self.Hk, self.Tk, self.D), (self.Hk, self.Tk, self.Dv)]
        query, key, value, g = (
            rng.normal(size=(self.B, *shape)).astype(self.dtype) for shape in (*shapes, (Hq, self.Tq, self.Dv))
        )
        attn_mask = None
        if self.mask is not None:
            kind, axes = self.mask.split()
            shape = tuple({"b": self.B, "h": Hq, "q": self.Tq, "k": self.Tk, "1": 1}[axis] for axis in axes)
            attn_mask = rng.random(shape) < 0.6
            if kind == "additive":
                attn_mask = np.where(attn_mask, rng.normal(size=shape), -np.inf).astype(self.dtype)
        return [query, key, value, attn_mask, g]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any case. What multiplies the work is drawn so that a case stays small in sum."""
    D, Dv = draw(st.sampled_from(WIDTHS)), draw(st.sampled_from(WIDTHS))
    lengths = [T for T in LENGTHS if T * max(D, Dv) <= 61 * 80]
    Hk, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]))
    return Case(
        Tq=draw(st.sampled_from(lengths)),
        Tk=draw(st.sampled_from(lengths)),
        D=D,
        Dv=draw(st.sampled_from([D, Dv])),
        B=draw(st.integers(1, 2)),
        Hk=Hk,
        group=group,
        dtype=draw(st.sampled_from(["float32", "float16"])),
        is_causal=draw(st.sampled_from([False, True, "upper_left", "lower_right"])),
        mask=draw(st.sampled_from(MASKS)),
        dropout_p=draw(st.sampled_from([0.0, 0.0, 0.3])),
        scale=draw(st.sampled_from([None, 0.3])),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 99)),
    )


def as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def laid_out(array: np.ndarray, layout: str, guard: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`array` (B, H, T, D), guarded, in one of the LAYOUTS; between the elements of a slice there is NaN."""
    if layout == "heads first":
        return guard(array)
    by_position = array.swapaxes(1, 2)  # (B, T, H, D) in memory, as a projection (B, T, H D) is
    if layout == "projection":
        return guard(by_position.copy()).swapaxes(1, 2)
    wide = np.full((*by_position.shape, 2), np.nan, dtype=array.dtype)
    wide[..., 0] = by_position
    return guard(wide)[..., 0].swapaxes(1, 2)


def in_float64(array: np.ndarray | None) -> np.ndarray | None:
    return array if array is None or array.dtype == bool else array.astype("float64")


def by_formula(case: Case, arrays: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """Output and gradients of query, key, value and mask, by the textbook formula in the dtype of the arrays."""
    *inputs, g = arrays
    out, vjp = F.scaled_dot_product_attention.body(*inputs, generator=Generator(case.seed), **case.options)
    return [out, *vjp(g, case.needs)]


def by_kernel(
    attention: Callable[..., Any], case: Case, guard: Callable[[np.ndarray], np.ndarray] = as_it_is
) -> list[np.ndarray | None]:
    """The same by another rung, on guarded arrays in the layout of the case."""
    query, key, value, attn_mask, g = case.arrays()
    inputs = [laid_out(array, case.layout, guard) for array in (query, key, value)]
    inputs.append(None if attn_mask is None else guard(attn_mask))
    out, vjp = attention(*inputs, generator=Generator(case.seed), **case.options)
    return [out, *vjp(laid_out(g, case.layout, guard), case.needs)]


def sizes_before_cancelling(case: Case) -> list[float]:
    """For each result the norm of its terms with all signs made positive: what rounding errors are in proportion to.

    dscores = weights (dweights - delta) is a difference: where a query sees one key it is 0, and the rounding
    error of its two terms is all that is left.
    """
    query, key, value, attn_mask, g = (in_float64(array) for array in case.arrays())
    identity = np.broadcast_to(np.eye(case.Tk), (*key.shape[:-1], case.Tk))
    weights = by_formula(case, [query, key, identity, attn_mask, np.zeros((*query.shape[:-1], case.Tk))])[0]
    keys, values = (np.repeat(np.abs(x), case.group, axis=1) for x in (key, value))
    terms = weights * (np.abs(g) @ values.swapaxes(-1, -2))  # (B, Hq, Tq, Tk)
    scale = case.D**-0.5 if case.scale is None else case.scale
    norms = [weights @ values, terms @ keys * scale, terms.swapaxes(-1, -2) @ np.abs(query) * scale]
    return [float(np.linalg.norm(a)) for a in (*norms, weights.swapaxes(-1, -2) @ np.abs(g), terms)]


def check(
    attention: Callable[..., Any],
    case: Case,
    guard: Callable[[np.ndarray], np.ndarray] = as_it_is,
    c: float = 4.0,
) -> None:
    """Fail unless `attention` is as near to the float64 formula as arithmetic in its dtype can be asked to be.

    That is: an error (Frobenius norm) of at most twice that of the formula in the same dtype, or c eps of the size
    that the result has before its terms cancel.
    """
    arrays = case.arrays()
    oracle = by_formula(case, [in_float64(array) for array in arrays])
    plain, actual = by_formula(case, arrays), by_kernel(attention, case, guard)
    names = ["out", "dquery", "dkey", "dvalue", "dmask"]
    for name, size, a, p, o in zip(names, sizes_before_cancelling(case), actual, plain, oracle, strict=True):
        if o is None:
            assert a is None, f"{name}: a gradient that nobody asked for"
            continue
        assert a is not None and (a.shape, a.dtype) == (p.shape, p.dtype), name
        error, plain_error = (float(np.linalg.norm(x.astype("float64") - o)) for x in (a, p))
        allowed = max(2 * plain_error, c * float(np.finfo(a.dtype).eps) * size)
        assert error <= allowed, f"{name}: an error of {error:.3g} where {allowed:.3g} is allowed ({case})"


# One case for each thing that can go wrong by itself: quick, and enough to see any of the planted bugs.
KNOWN = {
    "one number": Case(1, 1, 1, 1, B=1),
    "one key": Case(20, 1, 8, 8),
    "one query": Case(1, 70, 8, 24, Hk=2, group=2),
    "whole blocks": Case(32, 64, 16, 16, Hk=2),
    "ragged": Case(37, 45, 20, 33),
    "causal": Case(40, 40, 16, 16, is_causal=True),
    "causal, more keys": Case(19, 70, 16, 16, is_causal="lower_right"),
    "causal, more queries": Case(70, 19, 16, 16, is_causal="lower_right"),
    "causal, upper left": Case(19, 70, 16, 16, is_causal="upper_left", layout="projection"),
    "grouped": Case(33, 40, 16, 16, Hk=2, group=3, is_causal=True, layout="sliced"),
    "boolean mask": Case(37, 45, 16, 16, mask="bool bhqk", is_causal="lower_right"),
    "additive mask": Case(37, 45, 16, 16, Hk=2, mask="additive h1k"),
    "dropout": Case(37, 45, 16, 16, Hk=2, dropout_p=0.3, is_causal=True, seed=5),
    "everything": Case(
        *(37, 45, 20, 40), Hk=2, group=2, dtype="float16", is_causal="lower_right", mask="additive bhqk",
        dropout_p=0.2, scale=0.4, layout="projection", seed=7,
    ),
    "wide": Case(17, 18, 256, 129, B=1),
}  # fmt: skip
