"""The threaded AdamW takes the steps of the NumPy rule bit for bit, wherever the row of parameters is cut."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minilm
from minilm import Tensor, backend
from minilm.kernels.adamw import threaded
from minilm.optim import Adam, AdamW
from minilm.random import Generator
from minilm.testing.samples import LAYOUTS, with_layout
from tests.kernels.against_textbook import cut


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A backend of NumPy arrays without kernels: "plain"."""
    monkeypatch.setitem(backend.BACKENDS, "plain", replace(backend.BACKENDS["numpy"], name="plain", kernels={}))
    monkeypatch.setattr(backend, "why_not", lambda name: None)


def problem(shapes, dtypes, steps, seed=3):
    generator = Generator(seed)
    starts = [generator.normal(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return starts, [[generator.normal(start.shape, dtype=start.dtype.name) for start in starts] for _ in range(steps)]


def train(name, make, starts, gradients, layout="C"):
    """The parameters after one step for each list of gradients (None: that one has none), and the optimizer."""
    parameters = [Tensor.wrap(with_layout(start, layout)) for start in starts]
    for parameter in parameters:
        parameter.requires_grad = True
    optimizer = make(parameters)
    with minilm.use_backend(name):
        for arrays in gradients:
            for parameter, array in zip(parameters, arrays, strict=True):
                parameter.grad = None if array is None else with_layout(array, layout)
            optimizer.step()
    return [parameter.data for parameter in parameters], optimizer


MAKERS = {
    "adam": lambda params: Adam(params, lr=0.1),
    "adamw": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
    "all decay": lambda params: AdamW(params, lr=0.1, weight_decay=0.5, eps=0.1, decay_filter=lambda name, p: True),
    "groups": lambda params: AdamW(
        [{"params": params[:1], "lr": 0.3, "betas": (0.5, 0.9)}, {"params": params[1:], "eps": 1e-3}][: len(params)],
        weight_decay=0.2,
    ),
}
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(3, 3), (4, 2), (2, 2)], ["float32"] * 5, "adamw", [], 8, 2, "C")  # a block ends within a parameter
@given(
    shapes=st.lists(shapes, min_size=1, max_size=5),
    dtypes=st.lists(st.sampled_from(["float32", "float64", "float16"]), min_size=5, max_size=5),
    maker=st.sampled_from(sorted(MAKERS)),
    late=st.lists(st.integers(0, 4), max_size=2),
    block=st.sampled_from([1, 5, 8, 64, 1 << 18]),
    threads=st.integers(1, 3),
    layout=st.sampled_from(LAYOUTS),
)
def test_it_takes_the_steps_of_the_rule_bit_for_bit(shapes, dtypes, maker, late, block, threads, layout):
    """Some parameters get their first gradient late, so they are of another age."""
    starts, gradients = problem(shapes, dtypes[: len(shapes)], steps=3)
    gradients[0] = [None if slot in late else g for slot, g in enumerate(gradients[0])]
    with cut(threads), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", block)
        ours, optimizer = train("numpy", MAKERS[maker], starts, gradients, layout)
    theirs, plain = train("plain", MAKERS[maker], starts, gradients, layout)
    for one, other, start in zip(ours, theirs, starts, strict=True):
        assert one.dtype == start.dtype
        np.testing.assert_array_equal(one, other)
    state, other = (o.state_dict() for o in (optimizer, plain))
    assert state["steps"] == other["steps"]
    for name, array in other["tensors"].items():
        np.testing.assert_array_equal(state["tensors"][name], array)


def test_it_is_the_kernel_of_numpys_arrays(monkeypatch):
    """Otherwise the test above compares the rule with itself."""
    starts, gradients = problem([(9, 15), (3,)], ["float32", "float16"], steps=2)
    steps = []
    plain_step = threaded._step
    monkeypatch.setattr(threaded, "_step", lambda block, *rest: steps.append(block) or plain_step(block, *rest))
    train("plain", MAKERS["adamw"], starts, gradients)
    assert steps == []
    train("numpy", MAKERS["adamw"], starts, gradients)
    assert len(steps) == 4  # a run of what decays and one of what does not, twice


def test_every_element_is_in_one_stretch_of_one_block():
    sizes = [5, 1, 0, 700, 64, 63, 65, 1, 1]
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1].tolist()
    moving = [slot for slot, size in enumerate(sizes) if size]
    chosen = [None] * len(sizes)
    (run,) = threaded._runs(moving, starts, sizes, chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threaded, "BLOCK", 64)
        cut_row = threaded._blocks(run, starts, sizes, chosen)
    seen = []
    for block in cut_row:
        assert block.at.stop - block.at.start <= 64
        for slot, there, here in block.stretches:
            assert 0 <= there.start < there.stop <= sizes[slot]
            assert block.at.start + here.start == starts[slot] + there.start
            seen += range(starts[slot] + there.start, starts[slot] + there.stop)
    assert seen == list(range(sum(sizes)))


def test_a_step_allocates_a_block_for_each_thread_and_nothing_as_large_as_the_row(monkeypatch):
    monkeypatch.setattr(threaded, "BLOCK", 1 << 12)
    starts, gradients = problem([(512, 512), (17,)], ["float32"] * 2, steps=1)
    parameters = [Tensor(start, requires_grad=True) for start in starts]
    optimizer = AdamW(parameters)
    for parameter, g in zip(parameters, gradients[0], strict=True):
        parameter.grad = g
    with cut(2):
        optimizer.step()
        tracemalloc.start()
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < starts[0].nbytes / 8
