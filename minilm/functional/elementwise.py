"""Element by element: arithmetic, powers, exponentials, the smooth and the kinked functions of one number.

Each operation is its formula, its forward and its vjp. Inputs broadcast as in NumPy; the vjps here are plain calculus,
since the engine sums a gradient back to the shape of an input that was broadcast.

At ties and kinks, as in PyTorch: maximum and minimum share the gradient equally, clip passes it on its bounds, abs
and relu give 0 at 0.
"""

from __future__ import annotations

from typing import Any, cast

from minilm.backend import Array, xp
from minilm.functional.erf import erf_array
from minilm.tensor import Tensor, differentiable, elementwise

# ----- arithmetic


@elementwise
def add(a: Array, b: Array) -> Any:
    """y = a + b;  da = g,  db = g."""
    return a + b, (lambda g: g, lambda g: g)


@elementwise
def subtract(a: Array, b: Array) -> Any:
    """y = a - b;  da = g,  db = -g."""
    return a - b, (lambda g: g, lambda g: -g)


@elementwise
def multiply(a: Array, b: Array) -> Any:
    """y = a b;  da = g b,  db = g a."""
    return a * b, (lambda g: g * b, lambda g: g * a)


@elementwise
def divide(a: Array, b: Array) -> Any:
    """y = a / b;  da = g / b,  db = -g a / b^2."""
    return a / b, (lambda g: g / b, lambda g: -g * a / (b * b))


@elementwise
def negative(x: Array) -> Any:
    """y = -x;  dx = -g."""
    return -x, lambda g: -g


@elementwise
def power(a: Array, b: Array) -> Any:
    """y = a^b;  da = g b a^(b-1),  db = g a^b log a.

    Where the base is 0, db is 0 (the limit for b > 0), and a constant exponent 0 gives da = 0. A negative base is
    allowed with a constant integer exponent; the gradient with respect to its exponent is NaN, as log a is.
    """
    y = a**b

    def da(g: Array) -> Array:
        if not hasattr(b, "dtype"):  # a plain number: x ** 0 at x = 0 must give 0, not 0 * inf
            return g * 0 if b == 0 else g * (b * a ** (b - 1))
        zero = b == 0
        return g * xp(b).where(zero, 0, b * a ** xp(b).where(zero, 1, b - 1))

    def db(g: Array) -> Array:
        m = xp(y)
        base = m.asarray(a, dtype=y.dtype)
        return g * m.where(base == 0, 0, y * m.log(m.where(base == 0, 1, base)))

    return y, (da, db)


# ----- exponentials and roots


@elementwise
def exp(x: Array) -> Any:
    """y = e^x;  dx = g y."""
    y = xp(x).exp(x)
    return y, lambda g: g * y


@elementwise
def log(x: Array) -> Any:
    """y = log x;  dx = g / x."""
    return xp(x).log(x), lambda g: g / x


@elementwise
def sqrt(x: Array) -> Any:
    """y = sqrt(x);  dx = g / (2 y)."""
    y = xp(x).sqrt(x)
    return y, lambda g: g / (2 * y)


@elementwise
def sin(x: Array) -> Any:
    """y = sin x;  dx = g cos x."""
    return xp(x).sin(x), lambda g: g * xp(x).cos(x)


@elementwise
def cos(x: Array) -> Any:
    """y = cos x;  dx = -g sin x."""
    return xp(x).cos(x), lambda g: -g * xp(x).sin(x)


# ----- sigmoids


@elementwise
def tanh(x: Array) -> Any:
    """y = tanh x;  dx = g (1 - y^2)."""
    y = xp(x).tanh(x)
    return y, lambda g: g * (1 - y * y)


def sigmoid_array(x: Array) -> Array:
    """1 / (1 + e^-x) on an array, by the side on which e^-|x| cannot overflow."""
    m = xp(x)
    e = m.exp(-m.abs(x))
    return m.where(x >= 0, 1, e) / (1 + e)


@elementwise
def sigmoid(x: Array) -> Any:
    """y = 1 / (1 + e^-x);  dx = g y (1 - y)."""
    y = sigmoid_array(x)
    return y, lambda g: g * y * (1 - y)


@elementwise
def erf(x: Array) -> Any:
    """y = erf(x) = 2/sqrt(pi) * integral of e^(-t^2) from 0 to x;  dx = g 2/sqrt(pi) e^(-x^2)."""
    return erf_array(x), lambda g: g * (1.1283791670955126 * xp(x).exp(-x * x))


# ----- kinks


@elementwise
def relu(x: Array) -> Any:
    """y = max(x, 0);  dx = g where x > 0 (0 at 0)."""
    return xp(x).maximum(x, 0), lambda g: g * (x > 0)


@elementwise
def abs(x: Array) -> Any:
    """y = |x|;  dx = g sign(x) (0 at 0)."""
    return xp(x).abs(x), lambda g: g * xp(x).sign(x)


def _share(winner: Array, tie: Array, dtype: Any) -> Array:
    """1 where this side wins, 1/2 at a tie, else 0."""
    return winner.astype(dtype) + tie * dtype.type(0.5)


@elementwise
def maximum(a: Array, b: Array) -> Any:
    """y = max(a, b);  the larger one gets g; at a tie each gets g / 2."""
    y = xp(*(v for v in (a, b) if hasattr(v, "dtype"))).maximum(a, b)
    return y, (lambda g: g * _share(a > b, a == b, y.dtype), lambda g: g * _share(b > a, a == b, y.dtype))


@elementwise
def minimum(a: Array, b: Array) -> Any:
    """y = min(a, b);  the smaller one gets g; at a tie each gets g / 2."""
    y = xp(*(v for v in (a, b) if hasattr(v, "dtype"))).minimum(a, b)
    return y, (lambda g: g * _share(a < b, a == b, y.dtype), lambda g: g * _share(b < a, a == b, y.dtype))


@elementwise
def clip(x: Array, low: Any = None, high: Any = None) -> Any:
    """y = min(max(x, low), high);  dx = g where low <= x <= high. The bounds are constants that broadcast to x."""
    m = xp(x)
    y = x.copy()
    inside = m.ones(x.shape, dtype=bool)
    if low is not None:
        low = m.asarray(low, dtype=x.dtype)
        y, inside = m.maximum(y, low), inside & (x >= low)
    if high is not None:
        high = m.asarray(high, dtype=x.dtype)
        y, inside = m.minimum(y, high), inside & (x <= high)
    if y.shape != x.shape:
        raise ValueError(f"the bounds of clip must broadcast to x {x.shape}, and with them the result is {y.shape}")
    return y, lambda g: g * inside


@elementwise
def where(condition: Any, a: Array, b: Array) -> Any:
    """y = a where condition, else b;  da = g where condition, db = g elsewhere. The condition is a constant."""
    m = xp(*(v for v in (condition, a, b) if hasattr(v, "dtype")))
    condition = m.asarray(condition, dtype=bool)
    return m.where(condition, a, b), (lambda g: g * condition, lambda g: g * ~condition)


# ----- copies


@differentiable
def astype(x: Array, dtype: Any) -> Any:
    """y = x in another dtype;  dx = g in the dtype of x."""
    old = x.dtype
    return x.astype(dtype), lambda g: g.astype(old)


def at_least_float32(x: Tensor) -> Tensor:
    """x, in float32 if it is float16: what a loss is computed in, so that it has digits and can be scaled."""
    return cast(Tensor, astype(cast(Any, x), "float32")) if x.dtype == "float16" else x


@differentiable
def clone(x: Array) -> Any:
    """y = x in memory of its own;  dx = g."""
    return x.copy(), lambda g: g
