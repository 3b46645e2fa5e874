"""What the recurrent operations share on the fast CPU path: rows on their own threads, products in panels.

    z_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh,    h_t = f(z_t)      f element by element

A step waits for the step before, but no row of the batch waits for another. New against the textbook bodies: a thread
takes its rows through all T steps, in arrays of its own that stay in the cache, and nobody waits in between. What needs
no order comes after the loop, in one section for all rows and steps: the products of dz with x, h and W_ih.

A step's product has few rows b, and G matrices of H x H. A BLAS copies ("packs") a matrix into its own layout before it
multiplies, here for b rows only, at each step again; but OpenBLAS has kernels (AVX-512) that do without, for products
of up to a million multiplications. So the matrices are cut, once a call, into *panels* of 64 columns, which stay below
that. Where there are no such kernels, the panels cost nothing.

Cost of a step for G gates and b rows: 2 b G H (H + C) flops, and G H (H + C) numbers of the weights read, from the
thread's own cache if they fit. Backward: 2 b G H H flops a step, and 2 T B G H (H + 2 C) after the loop.

What this file does not do: the cells themselves (`rnn.threaded`, `gru.threaded`, `lstm_cell.threaded`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minilm.kernels.matmul.threaded import MACS, product_tasks, run
from minilm.kernels.threads import parallel, pieces

MOST = 1_000_000
"""Multiplications up to which OpenBLAS does not pack."""

WIDTHS = (64, 32, 16)
"""Columns of a panel: whole registers."""

PANEL = 4
"""What a panel costs beside its columns, in columns."""

ROWS = 32
"""Rows that go through the steps together, at most: what a step touches has to stay in the cache."""

FEW = 4
"""Steps from which on cutting a matrix into panels pays."""

WORK = 10
"""Steps on each element of a gate, for `minilm.kernels.threads.pieces`."""

Task = Callable[[], Any]
Cell = Callable[..., None]


class Sequence:
    """One layer over one batch of sequences, in one direction: the arrays and products that every cell needs.

    Args:
        gates: G; weights are (G*H, C) and (G*H, H), and z_t is (G, b, H) for b rows of the batch.
    """

    def __init__(
        self,
        gates: int,
        x: np.ndarray,
        h0: np.ndarray,
        weight_ih: np.ndarray,
        weight_hh: np.ndarray,
        reverse: bool,
    ) -> None:
        B, T, C = x.shape
        H = weight_hh.shape[1]
        self.sizes, self.reverse = (T, B, C, H), reverse
        self.inputs = np.ascontiguousarray(time_major(x, reverse))
        self.weight_ih = weight_ih.reshape(gates, H, C)
        self.weight_hh = weight_hh.reshape(gates, H, H)
        self.h = np.empty((T + 1, B, H), dtype=x.dtype)  # before the first step, and after each
        self.h[0] = h0
        # A step of a piece has to be worth a section: the threads get into each other's way at each call of NumPy.
        self.cut = row_pieces(B, gates * H * (H * MACS + WORK))
        self.rows = max((at.stop - at.start for at in self.cut), default=0)

    def forward(self, cell: Cell) -> np.ndarray:
        """Call cell(piece, rows, projected, product) for each piece of the rows, and return the output (B, T, H).

        `projected` yields W_ih x_t, step by step, and product(h) is W_hh h, both (G, b, H); the cell fills self.h.
        """
        T, _, C, H = self.sizes
        weight, tasks = panels(self.weight_hh.swapaxes(1, 2), T, self.rows)
        matrices = self.weight_ih.swapaxes(1, 2)
        if len(self.cut) > 1 and in_panels(T, self.rows, C):
            weight_ih, more = panels(matrices, T, self.rows)
            together(tasks, more)

            def projected(at: slice) -> Iterator[np.ndarray]:
                return map(StepProduct(weight_ih, at.stop - at.start, H), self.inputs[:, at])

        else:  # one thread alone in the loop, or a few steps: one product of all rows and steps, by all threads
            together(tasks)
            z = self._projected(matrices)

            def projected(at: slice) -> Iterator[np.ndarray]:
                return iter(z[:, :, at].swapaxes(0, 1))

        def piece(k: int) -> None:
            at = self.cut[k]
            cell(k, at, projected(at), StepProduct(weight, at.stop - at.start, H))

        parallel(piece, len(self.cut))
        return batch_major(self.h[1:], self.reverse)

    def _projected(self, matrices: np.ndarray) -> np.ndarray:
        """W_ih x_t for all rows and steps, (G, T, B, H)."""
        T, B, C, H = self.sizes
        rows = self.inputs.reshape(T * B, C)
        z = np.empty((len(matrices), T * B, H), dtype=self.h.dtype)
        parts = pieces(T * B, len(matrices) * H * (C * MACS + 1))
        parallel(lambda k: np.matmul(rows[parts[k]], matrices, out=z[:, parts[k]]), len(parts))
        return z.reshape(len(matrices), T, B, H)

    def backward(self, cell: Cell, dy: np.ndarray) -> None:
        """Call cell(piece, rows, dy, product) for each piece of the rows.

        `dy` yields dy_t (b, H) from the last step on, and product(dz) is W_hhᵀ dz, one (b, H) for each gate.
        """
        T, _, _, H = self.sizes
        weight, tasks = panels(self.weight_hh, T, self.rows)
        together(tasks)
        dy = time_major(dy, self.reverse)[::-1]

        def piece(k: int) -> None:
            at = self.cut[k]
            cell(k, at, iter(dy[:, at]), StepProduct(weight, at.stop - at.start, H))

        parallel(piece, len(self.cut))

    def gradients(self, dz: np.ndarray, dz_hh: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        """dx, dW_ih, dW_hh, db_ih, db_hh, those that are needed, from cotangents (T, B, G, H).

        Args:
            dz, dz_hh: the cotangents of W_ih x + b_ih and of W_hh h + b_hh; the same array where the cell adds the two.
        """
        T, B, C, H = self.sizes
        N, GH = T * B, self.weight_ih.shape[0] * H
        rows, rows_hh = dz.reshape(N, GH), dz_hh.reshape(N, GH)
        kinds = [(T, B, C), (GH, C), (GH, H), (GH,), (GH,)]
        dx, dweight_ih, dweight_hh, dbias_ih, dbias_hh = (
            np.empty(shape, dtype=dz.dtype) if need else None for shape, need in zip(kinds, needs, strict=True)
        )
        groups: list[list[Task]] = []
        if dx is not None:
            groups.append(product_tasks(rows, self.weight_ih.reshape(GH, C), dx.reshape(N, C)))
        if dweight_ih is not None:
            groups.append(product_tasks(rows.T, self.inputs.reshape(N, C), dweight_ih))
        if dweight_hh is not None:
            groups.append(product_tasks(rows_hh.T, self.h[:-1].reshape(N, H), dweight_hh))
        if dbias_ih is not None:
            groups.append(column_sum_tasks(rows, dbias_ih))
        if dbias_hh is not None:
            groups.append(column_sum_tasks(rows_hh, dbias_hh))
        together(*groups)
        return None if dx is None else batch_major(dx, self.reverse), dweight_ih, dweight_hh, dbias_ih, dbias_hh


def row_pieces(B: int, work: float) -> list[slice]:
    """The rows of the batch in pieces of at most `ROWS`, as many for each thread."""
    threads = len(pieces(B, work))
    count = min(B, threads * -(-B // (threads * ROWS)))
    return [slice(B * k // count, B * (k + 1) // count) for k in range(count)]


def in_panels(T: int, rows: int, K: int) -> bool:
    """True if T products of `rows` rows with a matrix of K rows are worth panels."""
    return T >= FEW and rows > 1 and 0 < rows * K * WIDTHS[-1] <= MOST


def panels(matrices: np.ndarray, T: int, rows: int) -> tuple[np.ndarray, list[Task]]:
    """(G, K, N) as (G, n, K, w), each in n panels of w columns, zeros beyond the last, and the tasks that fill them.

    As it is, (G, 1, K, N), where panels are not worth it.
    """
    G, K, N = matrices.shape
    if not in_panels(T, rows, K):
        return matrices[:, None], []
    w = min((w for w in WIDTHS if rows * K * w <= MOST), key=lambda w: -(-N // w) * (w + PANEL))
    out = np.empty((G, -(-N // w), K, w), dtype=matrices.dtype)
    transposed = matrices.strides[1] < matrices.strides[2]
    width = min(w, 16) if transposed else w  # more columns at a time take up to four times as long

    def task(gates: slice) -> Task:
        def fill() -> None:
            if N % w:
                out[gates, -1] = 0
            for start in range(0, N, width):
                columns = matrices[gates, :, start : start + width]
                out[gates, start // w, :, start % w : start % w + columns.shape[2]] = columns

        return fill

    return out, [task(gates) for gates in pieces(G, K * N * WORK)]


class StepProduct:
    """rows (b, K) or (G, b, K) with (G, K, N) in panels -> (G, b, N), in an array that each call overwrites."""

    def __init__(self, panels: np.ndarray, rows: int, N: int) -> None:
        G, n, _, w = panels.shape
        out = np.empty((G, rows, n, w), dtype=panels.dtype)
        self.panels, self.out = panels, out.swapaxes(1, 2)
        self.result = out.reshape(G, rows, n * w)[:, :, :N]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        np.matmul(rows[..., None, :, :], self.panels, out=self.out)
        return self.result


def together(*groups: list[Task]) -> None:
    """All tasks in one section; in this thread if no group is cut: then there is too little to share."""
    tasks = [task for group in groups for task in group]
    if any(len(group) > 1 for group in groups):
        run(tasks)
    elif tasks:
        run([lambda: [task() for task in tasks] and None])


def column_sum_tasks(rows: np.ndarray, out: np.ndarray) -> list[Task]:
    """The pieces of out = the sum of the rows."""

    def task(columns: slice) -> Task:
        return lambda: np.sum(rows[:, columns], axis=0, out=out[columns])

    return [task(columns) for columns in pieces(rows.shape[1], 3 * rows.shape[0], 16)]


def summed(gates: int, *biases: np.ndarray | None) -> Any:
    """The sum of the biases that are there, (G, 1, H), or 0."""
    present = [bias.reshape(gates, 1, -1) for bias in biases if bias is not None]
    return sum(present[1:], start=present[0]) if present else 0


def time_major(x: np.ndarray, reverse: bool) -> np.ndarray:
    """A view of (B, T, C) as (T, B, C), in the order in which the steps are read."""
    return x.swapaxes(0, 1)[::-1] if reverse else x.swapaxes(0, 1)


def batch_major(y: np.ndarray, reverse: bool) -> np.ndarray:
    """A view of (T, B, C) as (B, T, C): the inverse of `time_major`."""
    return y[::-1].swapaxes(0, 1) if reverse else y.swapaxes(0, 1)


def check_recurrent(
    gates: int,
    x: np.ndarray,
    states: dict[str, np.ndarray],
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray | None,
    bias_hh: np.ndarray | None,
) -> None:
    """Raise unless x (B, T, C) is floating and all fits: weights (G*H, C) and (G*H, H), states (B, H)."""
    if x.ndim != 3:
        raise ValueError(f"x has the axes (B, T, C), got the shape {x.shape}: a single sequence is x[None]")
    if x.shape[1] == 0:
        raise ValueError(f"x {x.shape} has no time step: T must be at least 1, there is no state to return")
    if weight_hh.ndim != 2 or weight_hh.shape[0] != gates * weight_hh.shape[1]:
        factor = f"{gates}*" if gates > 1 else ""
        raise ValueError(f"weight_hh has the shape ({factor}H, H), got {weight_hh.shape}")
    B, _, C = x.shape
    rows, H = weight_hh.shape
    expected: list[tuple[str, np.ndarray | None, tuple[int, ...]]] = [
        ("weight_ih", weight_ih, (rows, C)),
        ("weight_hh", weight_hh, (rows, H)),
        ("bias_ih", bias_ih, (rows,)),
        ("bias_hh", bias_hh, (rows,)),
        *((name, state, (B, H)) for name, state in states.items()),
    ]
    for name, array, shape in expected:
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{name} must have the shape {shape}, to go with x (B, T, C) {x.shape} and weight_hh "
                f"{weight_hh.shape}; got {array.shape}"
            )
