"""Element by element: arithmetic, powers, exponentials, the smooth and the kinked functions of one number.

Each operation is its formula, its forward and its vjp. y_i depends on x_i alone, so of the Jacobian only the diagonal
is not 0, and the vjp is a product with the derivative f' of one number:

    y_i = f(x_i),   dx_i = sum_j g_j ∂y_j/∂x_i = g_i f'(x_i)

With two inputs the same holds for each of them. What stands after a formula is where its derivative comes from.

Shapes: y is as x; of two inputs, which broadcast as in NumPy, y has the common shape, and the engine sums a gradient
back to the shape of the input that was broadcast. The dtype is kept.

Source: the derivatives are those of every table (NIST's Digital Library of Mathematical Functions, 4.7 for exp, log and
powers, 4.20 for sin and cos, 4.34 for tanh, 7.10 for erf). At ties and kinks, as in PyTorch: maximum and minimum share
the gradient equally, clip passes it on its bounds, abs and relu give 0 at 0. (Brackets are 1 where what stands in them
is true, else 0.)
"""

from __future__ import annotations

from typing import Any, cast

from minilm.backend import Array, xp
from minilm.functional.erf import erf_array
from minilm.tensor import Tensor, differentiable, elementwise

# ----- arithmetic


@elementwise
def add(a: Array, b: Array) -> Any:
    """y = a + b;  da = g,  db = g. From ∂y/∂a = ∂y/∂b = 1."""
    return a + b, (lambda g: g, lambda g: g)


@elementwise
def subtract(a: Array, b: Array) -> Any:
    """y = a - b;  da = g,  db = -g. From ∂y/∂a = 1 and ∂y/∂b = -1."""
    return a - b, (lambda g: g, lambda g: -g)


@elementwise
def multiply(a: Array, b: Array) -> Any:
    """y = a b;  da = g b,  db = g a. From ∂y/∂a = b and ∂y/∂b = a."""
    return a * b, (lambda g: g * b, lambda g: g * a)


@elementwise
def divide(a: Array, b: Array) -> Any:
    """y = a / b;  da = g / b,  db = -g a / b^2. From ∂y/∂a = 1/b and ∂y/∂b = -a/b^2."""
    return a / b, (lambda g: g / b, lambda g: -g * a / (b * b))


@elementwise
def negative(x: Array) -> Any:
    """y = -x;  dx = -g. From ∂y/∂x = -1."""
    return -x, lambda g: -g


@elementwise
def power(a: Array, b: Array) -> Any:
    """y = a^b;  da = g b a^(b-1),  db = g a^b log a.

    In a it is a power, in b an exponential: a^b = e^(b log a), whose slope is a^b log a.

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
    """y = e^x;  dx = g y. The exponential is its own derivative."""
    y = xp(x).exp(x)
    return y, lambda g: g * y


@elementwise
def log(x: Array) -> Any:
    """y = log x;  dx = g / x. From e^y = x: e^y y' = 1, so y' = 1/x."""
    return xp(x).log(x), lambda g: g / x


@elementwise
def sqrt(x: Array) -> Any:
    """y = sqrt(x);  dx = g / (2 y). From y^2 = x: 2 y y' = 1."""
    y = xp(x).sqrt(x)
    return y, lambda g: g / (2 * y)


@elementwise
def sin(x: Array) -> Any:
    """y = sin x;  dx = g cos x. From sin' = cos."""
    return xp(x).sin(x), lambda g: g * xp(x).cos(x)


@elementwise
def cos(x: Array) -> Any:
    """y = cos x;  dx = -g sin x. From cos' = -sin."""
    return xp(x).cos(x), lambda g: -g * xp(x).sin(x)


# ----- sigmoids


@elementwise
def tanh(x: Array) -> Any:
    """y = tanh x;  dx = g (1 - y^2). From tanh = sinh / cosh: y' = (cosh^2 - sinh^2) / cosh^2 = 1 - y^2."""
    y = xp(x).tanh(x)
    return y, lambda g: g * (1 - y * y)


def sigmoid_array(x: Array) -> Array:
    """1 / (1 + e^-x) on an array, by the side on which e^-|x| cannot overflow."""
    m = xp(x)
    e = m.exp(-m.abs(x))
    return m.where(x >= 0, 1, e) / (1 + e)


@elementwise
def sigmoid(x: Array) -> Any:
    """y = 1 / (1 + e^-x);  dx = g y (1 - y). From y' = e^-x / (1 + e^-x)^2 and 1 - y = e^-x / (1 + e^-x)."""
    y = sigmoid_array(x)
    return y, lambda g: g * y * (1 - y)


@elementwise
def erf(x: Array) -> Any:
    """y = 2/√π ∫_0^x e^(-t^2) dt;  dx = g 2/√π e^(-x^2). An integral's slope at its end is what is integrated."""
    return erf_array(x), lambda g: g * (1.1283791670955126 * xp(x).exp(-x * x))


# ----- kinks


@elementwise
def relu(x: Array) -> Any:
    """y = max(x, 0);  dx = g [x > 0]. From y' = 1 above 0 and y' = 0 below; at 0 it is taken to be 0."""
    return xp(x).maximum(x, 0), lambda g: g * (x > 0)


@elementwise
def abs(x: Array) -> Any:
    """y = |x|;  dx = g sign(x). From y = x above 0 and y = -x below; at 0, where sign is 0, dx is 0."""
    return xp(x).abs(x), lambda g: g * xp(x).sign(x)


def _share(winner: Array, tie: Array, dtype: Any) -> Array:
    """1 where this side wins, 1/2 at a tie, else 0."""
    return winner.astype(dtype) + tie * dtype.type(0.5)


@elementwise
def maximum(a: Array, b: Array) -> Any:
    """y = max(a, b);  da = g ([a > b] + [a = b] / 2),  db = g ([b > a] + [a = b] / 2).

    y is the larger one, and moves with it alone; at a tie each gets half of g, so that da + db = g everywhere.
    """
    y = xp(*(v for v in (a, b) if hasattr(v, "dtype"))).maximum(a, b)
    return y, (lambda g: g * _share(a > b, a == b, y.dtype), lambda g: g * _share(b > a, a == b, y.dtype))


@elementwise
def minimum(a: Array, b: Array) -> Any:
    """y = min(a, b);  da = g ([a < b] + [a = b] / 2),  db = g ([b < a] + [a = b] / 2).

    y is the smaller one, and moves with it alone; at a tie each gets half of g, so that da + db = g everywhere.
    """
    y = xp(*(v for v in (a, b) if hasattr(v, "dtype"))).minimum(a, b)
    return y, (lambda g: g * _share(a < b, a == b, y.dtype), lambda g: g * _share(b < a, a == b, y.dtype))


@elementwise
def clip(x: Array, low: Any = None, high: Any = None) -> Any:
    """y = min(max(x, low), high);  dx = g [low <= x <= high].

    Between the bounds y is x, beyond them a constant. The bounds are constants that broadcast to x, or None.
    """
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
    """y = a if c else b;  da = g [c],  db = g [not c].

    Each element of y is one of a or one of b, and moves with it alone. The condition c is a constant.
    """
    m = xp(*(v for v in (condition, a, b) if hasattr(v, "dtype")))
    condition = m.asarray(condition, dtype=bool)
    return m.where(condition, a, b), (lambda g: g * condition, lambda g: g * ~condition)


# ----- copies


@differentiable
def astype(x: Array, dtype: Any) -> Any:
    """y = x;  dx = g. The dtype of y is the given one, that of dx is x's: to round counts as to do nothing."""
    old = x.dtype
    return x.astype(dtype), lambda g: g.astype(old)


def at_least_float32(x: Tensor) -> Tensor:
    """x, in float32 if it is float16: what a loss is computed in, so that it has digits and can be scaled."""
    return cast(Tensor, astype(cast(Any, x), "float32")) if x.dtype == "float16" else x


@differentiable
def clone(x: Array) -> Any:
    """y = x;  dx = g. With memory of its own."""
    return x.copy(), lambda g: g
