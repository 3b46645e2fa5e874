"""The mirror through which these tests run on a GPU, here with a second piece of host memory as the device."""

import numpy as np
import pytest
import triton
import triton.language as tl

from minilm.kernels.host import empty_like, launch, pointers, strides
from tests.kernels.guards import check_guards, guarded
from tests.kernels.mirror import memory, mirrored


@triton.jit
def shift_kernel(y, x, stride, n, BY: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i + BY, tl.load(x + i * stride, mask=i < n) + 1, mask=i < n)


def test_results_come_back_and_inputs_stay():
    sent = []

    def to_device(array):
        sent.append(array.size)
        return array.copy()

    x = np.arange(24, dtype="float32").reshape(4, 6)[:, 2]
    before = x.base.copy()
    y = empty_like(x)
    with mirrored(to_device, np.copy):
        launch(shift_kernel, 1, *pointers(y, x), *strides(x), 4, BY=0, BLOCK=8)
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(x.base, before)
    assert len(sent) == 2 and sent[1] == 24 * 4 and sent[0] > 4 * 4  # with its guard bands


def test_the_kernel_runs_on_the_copy_alone():
    x, y = np.zeros(4, "float32"), np.zeros(4, "float32")
    with mirrored(np.copy, lambda there: np.zeros_like(there)):
        launch(shift_kernel, 1, *pointers(y, x), 1, 4, BY=0, BLOCK=4)
    assert not y.any()


def test_two_views_of_one_memory_stay_one():
    x = np.arange(8, dtype="int32")
    with mirrored(np.copy, np.copy):
        launch(shift_kernel, 1, *pointers(x[4:], x[:4]), 1, 4, BY=0, BLOCK=4)
    assert x.tolist() == [0, 1, 2, 3, 1, 2, 3, 4]


def test_writes_out_of_bounds_are_still_found_out():
    x, y = guarded(np.zeros(4, "float32")), guarded(np.zeros(4, "float32"))
    with mirrored(np.copy, np.copy):
        launch(shift_kernel, 1, *pointers(y, x), 1, 4, BY=1, BLOCK=4)
    with pytest.raises(AssertionError, match="wrote outside"):
        check_guards()


def test_memory_is_that_of_the_owner():
    x = np.asfortranarray(np.zeros((3, 5)))
    assert memory(x[1:, 2:])[0].size == 120 and memory(x.T[2:])[1] == x.ctypes.data
    assert memory(np.zeros((0, 3)))[0].size == 0
