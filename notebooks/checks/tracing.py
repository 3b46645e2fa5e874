"""What a Triton kernel touches, program by program, while the interpreter runs it; and pictures one after the other.

    need_triton()
    with tracing(Q=query, out=out) as events:
        launch(kernel, ...)
    events[0]        # Access(program=(0, 0, 0), how="load", name="Q", rows=(0, 16), columns=(0, 32))

It replaces methods of the interpreter's builder while the block lasts, as minilm.kernels.counting does. Arrays are
contiguous matrices (or vectors: one column); an access to anything else is left out.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class NoTriton(ImportError):
    """Triton is not here, or was imported in the wrong way; Jupyter shows the message alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def need_triton() -> None:
    """Import triton for the interpreter, or say how to get it.

    Raises:
        NoTriton: if the package is not installed, or was imported before for the compiler.
    """
    if importlib.util.find_spec("triton") is None:
        raise NoTriton(
            "This chapter runs Triton kernels, and the package triton is not installed here. On Linux: "
            "pip install 'minilm[triton]' (no GPU is needed). Elsewhere there is no such package; the outputs that "
            "stand below were made where it is installed, so that you can read on without running anything."
        )
    late = "triton" in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"
    from minilm.kernels.counting import interpreting

    if not interpreting():
        how = "was imported before TRITON_INTERPRET was set" if late else "does not interpret"
        raise NoTriton(f"triton {how}, and it decides at its import: restart the kernel and run from the first cell.")


@dataclass(frozen=True)
class Access:
    """One load or store of one program: which part of which array; ranges as in slices."""

    program: tuple[int, ...]
    how: str
    name: str
    rows: tuple[int, int]
    columns: tuple[int, int]


@contextlib.contextmanager
def tracing(**arrays: np.ndarray) -> Iterator[list[Access]]:
    """Within the block the loads and stores of these arrays are listed, without what a mask leaves out."""
    from triton.runtime import interpreter

    builder, events, program = interpreter.interpreter_builder, [], [(0, 0, 0)]

    def note(how: str, pointers: Any, mask: Any) -> None:
        addresses, on = np.broadcast_arrays(pointers.data, mask.data)
        addresses = addresses[on].astype(np.int64)
        if not addresses.size:
            return
        for name, array in arrays.items():
            first = array.ctypes.data
            if first <= addresses.min() and addresses.max() < first + array.nbytes:
                at = (addresses - first) // array.itemsize
                rows, columns = np.divmod(at, array.shape[1] if array.ndim > 1 else 1)
                spans = [(int(x.min()), int(x.max()) + 1) for x in (rows, columns)]
                events.append(Access(program[0], how, name, *spans))

    def load(pointers: Any, mask: Any, *rest: Any, **named: Any) -> None:
        note("load", pointers, mask)

    def store(pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> None:
        note("store", pointers, mask)

    def begin(*index: int) -> None:
        program[0] = index

    notes = {"create_masked_load": load, "create_masked_store": store, "set_grid_idx": begin}
    previous = {name: vars(builder)[name] for name in notes if name in vars(builder)}

    def before(name: str) -> Any:
        method = getattr(builder, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            notes[name](*args, **kwargs)
            return method(*args, **kwargs)

        return noted

    vars(builder).update({name: before(name) for name in notes})
    try:
        yield events
    finally:
        for name in notes:
            del vars(builder)[name]
        vars(builder).update(previous)


def animated(figures: Sequence[Any], seconds: float = 0.9, dpi: int = 80, description: str = "") -> Any:
    """The figures one after the other, as a GIF inside the page: it moves without any script."""
    from IPython.display import HTML
    from PIL import Image

    frames = []
    for figure in figures:
        figure.set_dpi(dpi)
        figure.canvas.draw()
        picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
        frames.append(picture.quantize(48, dither=Image.Dither.NONE))
    buffer = io.BytesIO()
    duration = [int(1000 * seconds)] * (len(frames) - 1) + [int(3000 * seconds)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return HTML(f'<img alt="{description}" style="max-width: 100%" src="data:image/gif;base64,{data}">')
