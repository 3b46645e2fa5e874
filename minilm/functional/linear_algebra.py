"""Products of matrices: matmul, linear, einsum.

For Y = A B with a cotangent G of Y, and A (n, k), B (k, m), Y and G (n, m):

    Y_ij = sum_l A_il B_lj,   dA_il = sum_j G_ij B_lj,   dB_lj = sum_i A_il G_ij

since ∂Y_ij/∂A_il = B_lj, and A_il stands in row i of Y alone, B_lj in column j. As matrices:

    dA = G Bᵀ,   dB = Aᵀ G

All vjps here are these two, with the axes of a batch carried along, or summed where they were broadcast.

Source: Giles 2008, "An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2; NumPy for batches, vectors and einsum.
"""

from __future__ import annotations

import math
from typing import Any

from minilm.backend import Array, xp
from minilm.tensor import Tensor, differentiable, unbroadcast, wide_sum


def _rows(x: Array) -> Array:
    """(..., n) as one matrix (N, n), also where a length is 0 and -1 would not say which N."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@differentiable
def matmul(a: Array, b: Array) -> Any:
    """y = a b;  da = g bᵀ,  db = aᵀ g. As NumPy's `@`: leading axes broadcast, vectors are allowed.

    Shapes: a (..., n, k) and b (..., k, m) make y (..., n, m).
    """
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("a matrix product needs at least one axis on each side: use * for a scalar")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"the last axis of the first ({a.shape[-1]}) and the {'second-to-last' if b.ndim > 1 else 'only'} axis "
            f"of the second ({inner}) must be equal: transpose one of them?"
        )
    matrix_a = a if a.ndim > 1 else a[None, :]
    matrix_b = b if b.ndim > 1 else b[:, None]

    def as_matrix(g: Array) -> Array:
        if b.ndim == 1:
            g = g[..., None]
        return g if a.ndim > 1 else g[..., None, :]

    def da(g: Array) -> Array:
        return unbroadcast(as_matrix(g) @ matrix_b.swapaxes(-1, -2), matrix_a.shape).reshape(a.shape)

    def db(g: Array) -> Array:
        g = as_matrix(g)
        if b.ndim == 2 and a.ndim > 2:  # one matrix for the whole batch: one product instead of a batch and a sum
            return _rows(a).T @ _rows(g)
        return unbroadcast(matrix_a.swapaxes(-1, -2) @ g, matrix_b.shape).reshape(b.shape)

    return a @ b, (da, db)


@differentiable
def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    """y = x Wᵀ + b;  dx = g W,  dW = gᵀ x,  db = sum over rows of g.

    That is the product x Wᵀ with the leading axes of x (and g) made one, the rows; b is added to each row.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features), as in PyTorch.
        bias: (out_features,), optional.

    Returns:
        (..., out_features).
    """
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x (..., in_features) {x.shape} does not fit weight (out_features, in_features) {weight.shape}: "
            f"their last axes must be equal"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias {bias.shape} does not fit weight {weight.shape}: it must be ({weight.shape[0]},)")
    rows, shape = _rows(x), x.shape  # one product of two matrices is faster than a batch of them
    y = rows @ weight.T
    if bias is not None:
        y += bias

    def dx(g: Array) -> Array:
        return (_rows(g) @ weight).reshape(shape)

    def dweight(g: Array) -> Array:
        return _rows(g).T @ rows

    def dbias(g: Array) -> Array:
        return wide_sum(_rows(g), 0)

    return y.reshape(*x.shape[:-1], weight.shape[0]), (dx, dweight, dbias)


# ----- einsum


def _parse(subscripts: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """All subscripts with every axis named: `...` gets letters of its own, an implicit output is written out."""
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"{subscripts!r} names {len(terms)} operands, but {len(shapes)} are given")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in text]
    widest = 0
    for term, shape in zip(terms, shapes, strict=True):
        named = len(term.replace("...", ""))
        if named > len(shape) or ("..." not in term and named != len(shape)):
            raise ValueError(f"{term!r} in {subscripts!r} names {named} axes of an operand of shape {shape}")
        if "..." in term:
            widest = max(widest, len(shape) - named)
    dots = "".join(free[:widest])
    named_terms = []
    for term, shape in zip(terms, shapes, strict=True):
        n = len(shape) - len(term.replace("...", "")) if "..." in term else 0
        named_terms.append(term.replace("...", dots[widest - n :]))
    if not arrow:
        letters = "".join(terms).replace(".", "")
        output = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return named_terms, output.replace("...", dots)


@differentiable
def _einsum(*operands: Array, subscripts: str) -> Any:
    """y = einsum(subscripts, a, b, ...);  for each operand the same sum with g in its place and the output's letters.

    y is a sum of products of elements, and its slope in one of these is the product of the others. So the gradient of
    an operand is the sum, over the letters that it lacks, of g times the other operands; for "ij,jk->ik"

        y_ik = sum_j a_ij b_jk,   da_ij = sum_k g_ik b_jk,   db_jk = sum_i a_ij g_ik

    A letter that only `a` has was summed away, so its gradient is constant along it; a letter twice in `a` is a
    diagonal, which alone gets a gradient; an axis of length 1 that was broadcast is summed. The letters say the shapes.
    """
    m = xp(*operands)
    terms, output = _parse(subscripts, [a.shape for a in operands])
    y = m.einsum(",".join(terms) + "->" + output, *operands)
    lengths: dict[str, int] = {}
    for term, a in zip(terms, operands, strict=True):
        for letter, n in zip(term, a.shape, strict=True):
            lengths[letter] = n if lengths.get(letter, 1) == 1 else lengths[letter]

    def gradient(i: int) -> Any:
        letters, shape = "".join(dict.fromkeys(terms[i])), operands[i].shape  # each letter once
        others = [(t, a) for k, (t, a) in enumerate(zip(terms, operands, strict=True)) if k != i]
        known = set(output).union(*(set(t) for t, _ in others))
        summed_alone = [c for c in letters if c not in known]

        def d(g: Array) -> Array:
            reachable = "".join(c for c in letters if c in known)
            part = m.einsum(",".join([output, *(t for t, _ in others)]) + "->" + reachable, g, *(a for _, a in others))
            # letters whose broadcast partner carried the length, or that were summed alone, get it back
            full = tuple(lengths[c] for c in letters)
            for c in summed_alone:
                part = m.expand_dims(part, letters.index(c))
            part = m.broadcast_to(part, full)
            own = {c: n for c, n in zip(terms[i], shape, strict=True)}
            part = unbroadcast(part, tuple(own[c] for c in letters))
            if letters == terms[i]:
                return part
            total = m.zeros(shape, dtype=g.dtype)
            m.einsum(terms[i] + "->" + letters, total)[...] = part  # a view of the diagonal
            return total

        return d

    return y, tuple(gradient(i) for i in range(len(operands)))


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """NumPy's einsum: `einsum("bhqd,bhkd->bhqk", query, key)`. Ellipsis, diagonals and broadcasting included."""
    return _einsum(*operands, subscripts=subscripts)
