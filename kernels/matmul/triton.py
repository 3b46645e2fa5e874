"""Rung 2: a Triton kernel. What is new: one program a tile of y, all at once, and work done before y is written.

    y = f(a b + bias) + residual        for a (M, K), b (K, N), bias (N,), residual (M, N), and a batch of such products

The loop is rung 1's, with BLOCK_K slices of a and b fetched ahead (`num_stages`) while the tensor cores
multiply; acc, the tile of y, stays in registers, always in float32. What follows the product (its *epilogue*)
works on acc there: each step done apart would read and write M N numbers. Strides come in from outside, so a
transpose costs nothing: the backward passes da = g bᵀ and db = aᵀ g are calls of the same kernel.

Cost: 2 M N K flops; M N K (1/BLOCK_M + 1/BLOCK_N) numbers fetched, most of them from the L2 cache, since
programs run in the order of `minilm.kernels.matmul.blocked.order`; M N written, M N more for a residual. Where
there is an activation, z = a b + bias is written too, since its derivative needs it: M N numbers, against 2 M N
K flops (half as many as the backward has anyway) to compute z again. At K = 1024 in float16 an H100 writes z
three times as fast. A call that nobody differentiates pays for z as well: the kernel cannot know.

What it does not do: dtypes but float32, float16, bfloat16. float32 is exact ("ieee"): no tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import triton
import triton.language as tl

from minilm.kernels.activation.triton import activated, derivative
from minilm.kernels.column_sum.triton import column_sum
from minilm.kernels.host import Ptr, cdiv, empty, empty_like, launch, pointers, strides, tile
from minilm.kernels.operands import as_rows, check_dtypes, contiguous, zeros
from minilm.kernels.static_report import StaticCase


@triton.jit
def tile_of_program(pid, tiles_m, tiles_n, GROUP_M: tl.constexpr):
    """`order` of rung 1: GROUP_M rows of tiles at a time, column by column."""
    group = pid // (GROUP_M * tiles_n)
    first_m = group * GROUP_M
    rows = tl.minimum(tiles_m - first_m, GROUP_M)  # the last group may be lower
    within = pid - first_m * tiles_n
    return first_m + within % rows, within // rows


@triton.jit
def matmul_kernel(
    a, b, y, bias, residual, z, M, N, K, batch_in,
    stride_ao, stride_ai, stride_am, stride_ak,
    stride_bo, stride_bi, stride_bk, stride_bn,
    stride_yo, stride_yi, stride_ym, stride_yn,
    stride_rm, stride_rn,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    """One program computes one tile of a @ b, then the epilogue."""
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    batch = tl.program_id(0) // (tiles_m * tiles_n)
    pid = tl.program_id(0) % (tiles_m * tiles_n)

    pid_m, pid_n = tile_of_program(pid, tiles_m, tiles_n, GROUP_M)

    # Where this tile begins, in 64 bits; within the tile 32 bits do.
    outer = (batch // batch_in).to(tl.int64)
    inner = (batch % batch_in).to(tl.int64)
    start_m = (pid_m * BLOCK_M).to(tl.int64)
    start_n = (pid_n * BLOCK_N).to(tl.int64)
    a += outer * stride_ao + inner * stride_ai + start_m * stride_am
    b += outer * stride_bo + inner * stride_bi + start_n * stride_bn
    at_y = outer * stride_yo + inner * stride_yi + start_m * stride_ym + start_n * stride_yn

    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    in_m = pid_m * BLOCK_M + m < M
    in_n = pid_n * BLOCK_N + n < N
    in_a = m[:, None] * stride_am + k[None, :] * stride_ak
    in_b = k[:, None] * stride_bk + n[None, :] * stride_bn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start_k in range(0, K, BLOCK_K):
        in_k = start_k + k < K  # zeros beyond K add nothing
        a_tile = tl.load(a + in_a, mask=in_m[:, None] & in_k[None, :], other=0.0)
        b_tile = tl.load(b + in_b, mask=in_k[:, None] & in_n[None, :], other=0.0)
        acc = tl.dot(a_tile, b_tile, acc, input_precision="ieee")
        a += BLOCK_K * stride_ak
        b += BLOCK_K * stride_bk

    inside = in_m[:, None] & in_n[None, :]
    in_y = m[:, None] * stride_ym + n[None, :] * stride_yn
    if bias is not None:
        acc += tl.load(bias + start_n + n, mask=in_n, other=0.0).to(tl.float32)[None, :]
    if z is not None:
        tl.store(z + at_y + in_y, acc.to(z.dtype.element_ty), mask=inside)
    acc = activated(acc, ACTIVATION)
    if residual is not None:
        residual += start_m * stride_rm + start_n * stride_rn
        in_r = m[:, None] * stride_rm + n[None, :] * stride_rn
        acc += tl.load(residual + in_r, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at_y + in_y, acc.to(y.dtype.element_ty), mask=inside)


@triton.jit
def activation_backward_kernel(
    g, z, dz, part, N, C, rows_per_part, ACTIVATION: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """dz = g f'(z) for z (N, C), and the sums of dz over the rows of one part: the first stage of the bias gradient."""
    pid = tl.program_id(1)
    columns = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = pid * rows_per_part
    last = tl.minimum(first + rows_per_part, N)
    total = tl.zeros((BLOCK_N, BLOCK_C), dtype=tl.float32)
    for n in range(first, last, BLOCK_N):
        rows = n + tl.arange(0, BLOCK_N)
        inside = (rows < last)[:, None] & (columns < C)[None, :]
        at = rows.to(tl.int64)[:, None] * C + columns[None, :]
        z_tile = tl.load(z + at, mask=inside, other=0.0).to(tl.float32)
        g_tile = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        dz_tile = g_tile * derivative(z_tile, ACTIVATION)
        tl.store(dz + at, dz_tile.to(dz.dtype.element_ty), mask=inside)
        total += dz_tile  # 0 beyond the edge, since g is
    if part is not None:
        tl.store(part + pid.to(tl.int64) * C + columns, tl.sum(total, axis=0), mask=columns < C)


# ----- from arrays to launches


def _batch_axes(a: Any, b: Any, y: Any) -> list[tuple[int, int, int, int]]:
    """(length, stride of a, of b, of y) of each axis of the batch: 0 where an operand is broadcast, and axes that
    lie one behind the other in all three merged into one."""
    axes: list[tuple[int, int, int, int]] = []
    steps_a, steps_b = ([0 if n == 1 else s for n, s in zip(x.shape, strides(x), strict=True)] for x in (a, b))
    for axis, (n, step_y) in enumerate(zip(y.shape[:-2], strides(y), strict=False)):
        if n == 1:
            continue
        here = (n, steps_a[axis], steps_b[axis], step_y)
        if axes and axes[-1][1:] == tuple(step * n for step in here[1:]):
            axes[-1] = (axes[-1][0] * n, *here[1:])
        else:
            axes.append(here)
    return axes


def _in_vectors(x: Any) -> bool:
    """True if a kernel can load x 16 bytes at a time: neighbours along one axis, everything else a multiple of 16."""
    steps = strides(x)
    outer = [step for step, n in zip(steps[:-2], x.shape[:-2], strict=True) if n > 1]
    inner = [step for step in steps[-2:] if step != 1]
    along = [n for step, n in zip(steps[-2:], x.shape[-2:], strict=True) if step == 1]
    return bool(along) and all(number % 16 == 0 for number in (*outer, *inner, *along, Ptr(x).data_ptr()))


def _fill(a: Any, b: Any, y: Any, bias: Any, residual: Any, z: Any, activation: str) -> None:
    """y = f(a b + bias) + residual; all of one number of axes, those of the batch equal or 1."""
    axes = _batch_axes(a, b, y)
    if len(axes) > 2:  # strides for two axes go into a launch: an axis more, and there are several launches
        for i in range(y.shape[0]):
            _fill(a[min(i, a.shape[0] - 1)], b[min(i, b.shape[0] - 1)], y[i], bias, residual, z, activation)
        return
    (M, K), N = a.shape[-2:], b.shape[-1]
    (n_out, *outer), (n_in, *inner) = [(1, 0, 0, 0)] * (2 - len(axes)) + axes
    batch_strides = list(zip(outer, inner, strict=True))
    dtype = "float32" if y.dtype.name == "float32" else "float16"
    plain = activation == "none" and residual is None
    access = "vectors" if _in_vectors(a) and _in_vectors(b) else "elements"
    meta = tile("matmul", dtype=dtype, M=M, N=N, epilogue="plain" if plain else "full", access=access)
    tiles = cdiv(M, meta["BLOCK_M"]) * cdiv(N, meta["BLOCK_N"])
    launch(
        matmul_kernel,
        (n_out * n_in * tiles,),
        *(*pointers(a, b, y, bias, residual, z), M, N, K, n_in),
        *(*batch_strides[0], *strides(a)[-2:], *batch_strides[1], *strides(b)[-2:]),
        *(*batch_strides[2], *strides(y)[-2:], *((0, 0) if residual is None else strides(residual))),
        ACTIVATION=activation,
        **meta,
    )


def product(
    a: Any, b: Any, bias: Any = None, activation: str = "none", residual: Any = None, z: Any = None
) -> Any:
    """y = f(a b + bias) + residual, for a (..., M, K), b (..., K, N): leading axes broadcast, any strides.

    With an epilogue, a and b are single matrices. `z`, if given, is filled with what f was applied to.
    """
    axes = max(a.ndim, b.ndim)
    a, b = (x.reshape((1,) * (axes - x.ndim) + x.shape) if x.ndim < axes else x for x in (a, b))
    batch = tuple(n if m == 1 else m for m, n in zip(a.shape[:-2], b.shape[:-2], strict=True))
    y = empty((*batch, a.shape[-2], b.shape[-1]), a.dtype, a)
    if y.size:
        _fill(a, b, y, bias, residual, z, activation)
    return y


def _summed_to(d: Any, shape: tuple[int, ...]) -> Any:
    """d summed over the axes along which an operand of this shape was broadcast; in float32."""
    if d.shape == shape:
        return d
    extra = d.ndim - len(shape)
    ones = tuple(extra + i for i, n in enumerate(shape) if n == 1)
    return d.sum(axis=(*range(extra), *ones), keepdims=True, dtype="float32").reshape(shape).astype(d.dtype)


# ----- the operations


def matmul(a: Any, b: Any) -> tuple[Any, Any]:
    """minilm.functional.matmul: the output and the vjps of a and b."""
    check_dtypes("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("a matrix product needs at least one axis on each side: use * for a scalar")
    a_shape, b_shape = a.shape, b.shape
    a = a if a.ndim > 1 else a[None, :]
    b = b if b.ndim > 1 else b[:, None]
    batches = zip(a.shape[-3::-1], b.shape[-3::-1], strict=False)  # from the right
    if a.shape[-1] != b.shape[-2] or any(m != n and 1 not in (m, n) for m, n in batches):
        raise ValueError(f"{a_shape} @ {b_shape}: the inner axes must be equal, and leading axes equal or 1")
    matrix_shapes = a.shape, b.shape

    def as_matrix(g: Any) -> Any:
        g = g if len(b_shape) > 1 else g[..., None]
        return g if len(a_shape) > 1 else g[..., None, :]

    def da(g: Any) -> Any:
        return _summed_to(product(as_matrix(g), b.swapaxes(-1, -2)), matrix_shapes[0]).reshape(a_shape)

    def db(g: Any) -> Any:
        g = as_matrix(g)
        if len(b_shape) == 2 and a.ndim > 2:  # one matrix for the whole batch: one product over all rows
            return product(as_rows(a).T, as_rows(g))
        return _summed_to(product(a.swapaxes(-1, -2), g), matrix_shapes[1]).reshape(b_shape)

    y = product(a, b)
    y = y if len(b_shape) > 1 else y[..., 0]
    return (y if len(a_shape) > 1 else y[..., 0, :] if len(b_shape) > 1 else y[..., 0]), (da, db)


def _check_linear(x: Any, weight: Any, bias: Any) -> None:
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x (..., in_features) {x.shape} does not fit weight (out_features, in_features) {weight.shape}: "
            f"their last axes must be equal"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias {bias.shape} does not fit weight {weight.shape}: it must be ({weight.shape[0]},)"
        )


def linear(x: Any, weight: Any, bias: Any = None) -> tuple[Any, Any]:
    """minilm.functional.linear: the output and the vjps of x, weight and bias."""
    check_dtypes("linear", x, weight, bias)
    _check_linear(x, weight, bias)
    rows, shape = as_rows(x), x.shape
    y = product(rows, weight.T, contiguous(bias))

    def dx(g: Any) -> Any:
        return product(as_rows(g), weight).reshape(shape)

    def dweight(g: Any) -> Any:
        return product(as_rows(g).T, rows)

    def dbias(g: Any) -> Any:
        return column_sum(as_rows(g))

    return y.reshape(*shape[:-1], y.shape[1]), (dx, dweight, dbias)


def activation_backward(g: Any, z: Any, activation: str, with_sum: bool) -> tuple[Any, Any]:
    """dz = g f'(z) for g and z (N, C), and the sum of dz over the rows (None unless `with_sum`)."""
    N, C = z.shape
    dz = empty_like(z)
    if dz.size == 0:
        return dz, column_sum(dz) if with_sum else None
    meta = tile("activation_backward")
    rows_per_part = max(meta.pop("ROWS_PER_PART"), cdiv(N, meta.pop("MAX_PARTS")))
    grid = (cdiv(C, meta["BLOCK_C"]), cdiv(N, rows_per_part))
    part = empty((grid[1], C), "float32", z) if with_sum else None
    arguments = (*pointers(contiguous(g), z, dz, part), N, C, rows_per_part)
    launch(activation_backward_kernel, grid, *arguments, ACTIVATION=activation, **meta)
    return dz, column_sum(part, z.dtype) if with_sum else None


def linear_activation(
    x: Any, weight: Any, bias: Any = None, activation: str = "gelu_tanh", residual: Any = None
) -> tuple[Any, Callable[..., Any]]:
    """minilm.functional.linear_activation: the output and the joint vjp of x, weight, bias and residual."""
    check_dtypes("linear_activation", x, weight, bias, residual)
    _check_linear(x, weight, bias)
    if activation not in ("gelu_tanh", "gelu", "silu", "relu"):
        raise ValueError(f"activation is one of 'gelu_tanh', 'gelu', 'silu', 'relu', got {activation!r}")
    rows, x_shape, y_shape = as_rows(x), x.shape, (*x.shape[:-1], weight.shape[0])
    if residual is not None and residual.shape != y_shape:
        raise ValueError(f"residual {residual.shape} must have the shape of the output {y_shape}")
    z = empty((rows.shape[0], weight.shape[0]), x.dtype, x)
    y = product(
        rows, weight.T, contiguous(bias), activation, None if residual is None else as_rows(residual), z
    )

    def vjp(g: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if not any(needs[:3]):
            return None, None, None, g if needs[3] else None
        dz, dbias = activation_backward(as_rows(g), z, activation, needs[2])
        dx = product(dz, weight).reshape(x_shape) if needs[0] else None
        return dx, product(dz.T, rows) if needs[1] else None, dbias, g if needs[3] else None

    return y.reshape(y_shape), vjp


def static_cases() -> Iterator[StaticCase]:
    """A square product, as a linear layer needs it forward and backward; the epilogue; heads as a batch."""

    def run_forward(dtype: str, M: int, N: int, K: int) -> None:
        linear(zeros(dtype, M, K), zeros(dtype, N, K), zeros(dtype, N))

    def run_epilogue(dtype: str, M: int, N: int, K: int) -> None:
        arrays = (zeros(dtype, M, K), zeros(dtype, N, K), zeros(dtype, N))
        linear_activation(*arrays, "gelu_tanh", zeros(dtype, M, N))

    def run_gradients(dtype: str, M: int, N: int, K: int) -> None:
        g = zeros(dtype, M, N)
        product(g, zeros(dtype, N, K))
        product(g.T, zeros(dtype, M, K))

    def run_derivative(dtype: str, M: int, N: int) -> None:
        activation_backward(zeros(dtype, M, N), zeros(dtype, M, N), "gelu_tanh", with_sum=True)

    def run_batch(dtype: str, B: int, H: int, T: int, D: int) -> None:
        query, key = (zeros(dtype, B, T, H, D).swapaxes(1, 2) for _ in range(2))
        product(query, key.swapaxes(-1, -2))

    sizes, counted = {"M": 4096, "N": 4096, "K": 4096}, {"M": 256, "N": 256, "K": 256}
    kernels = ("matmul_kernel",)
    yield StaticCase(
        name="linear",
        kernels=kernels,
        sizes=sizes,
        counted=counted,
        run=run_forward,
        flops=lambda M, N, K: 2 * M * N * K,
        bytes=lambda itemsize, M, N, K: itemsize * (M * K + N * K + M * N + N),
    )
    yield StaticCase(
        name="linear, GELU and residual",
        kernels=kernels,
        sizes=sizes,
        counted=counted,
        run=run_epilogue,
        flops=lambda M, N, K: 2 * M * N * K,
        bytes=lambda itemsize, M, N, K: itemsize * (M * K + N * K + 3 * M * N + N),  # residual, z and y
    )
    yield StaticCase(
        name="linear backward",
        kernels=kernels,
        sizes=sizes,
        counted=counted,
        run=run_gradients,
        flops=lambda M, N, K: 4 * M * N * K,
        bytes=lambda itemsize, M, N, K: itemsize * 2 * (M * K + N * K + M * N),
    )
    yield StaticCase(
        name="GELU backward and bias gradient",
        kernels=("activation_backward_kernel",),
        sizes={"M": 4096, "N": 4096},
        counted={"M": 128, "N": 256},
        run=run_derivative,
        flops=lambda M, N: 25 * M * N,
        bytes=lambda itemsize, M, N: itemsize * 3 * M * N,
        tensor_cores=False,
    )
    yield StaticCase(
        name="batched matmul",
        kernels=kernels,
        sizes={"B": 8, "H": 16, "T": 1024, "D": 64},
        counted={"B": 1, "H": 2, "T": 256, "D": 64},
        run=run_batch,
        flops=lambda B, H, T, D: 2 * B * H * T * T * D,
        bytes=lambda itemsize, B, H, T, D: itemsize * B * H * (2 * T * D + T * T),
    )
