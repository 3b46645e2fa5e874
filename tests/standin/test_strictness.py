"""The stand-in is as strict as it says: each of its refusals happens."""

import numpy as np
import pytest

from minilm.backend import asarray, to_numpy
from tests.backend.standin import DeviceArray, Mixed, Race, Synchronized, no_synchronization, standin, watched

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize(
    "mixing",
    [
        lambda a, b: np.asarray(a),
        lambda a, b: a + b,
        lambda a, b: b + a,
        lambda a, b: a.__iadd__(b),
        lambda a, b: b.__iadd__(a),
        lambda a, b: standin.exp(b),
        lambda a, b: np.exp(a),
        lambda a, b: np.sum(a),
        lambda a, b: np.size(a),
        lambda a, b: np.concatenate([a, a]),
        lambda a, b: standin.concatenate([a, b]),
        lambda a, b: np.testing.assert_array_equal(a, a),
        lambda a, b: a[np.array([0])],
        lambda a, b: a.__setitem__(0, np.array(1.0)),
        lambda a, b: b.__setitem__(slice(None), a),
        lambda a, b: a * np.array(2.0),
        lambda a, b: standin.add.at(a, np.array([0]), 1.0),
        lambda a, b: a.reshape(b),
    ],
)
def test_arrays_of_the_host_do_not_mix_with_those_of_the_device(mixing):
    with pytest.raises(TypeError):
        mixing(asarray([1.0, 2.0]), np.ones(2))


def test_numbers_mix_also_numpys():
    a = asarray([1.0, 2.0], "float32")
    for value in (2.0, 2, np.float32(2), True):
        assert isinstance(a * value, DeviceArray) and (value * a).dtype == np.float32


def test_reductions_and_elements_are_arrays_without_axes():
    a = asarray([[1.0, 2.0]])
    for value in (a.sum(), a.max(), a[0, 0], a.mean(), a @ a.T[:, 0], standin.argmax(a)):
        assert isinstance(value, DeviceArray) and value.ndim in (0, 1)
    assert a.sum().shape == () and not isinstance(a, np.ndarray)


@pytest.mark.parametrize("name", ["errstate", "ndindex", "vectorize", "vecdot", "float128", "testing", "shares_memory"])
def test_what_cupy_lacks_is_lacking(name):
    with pytest.raises(AttributeError, match="no attribute"):
        getattr(standin, name)


def test_methods_and_arguments_that_cupy_lacks_are_lacking():
    a = asarray([1.0, 2.0])
    for name in ("ctypes", "__index__", "tostring", "setflags"):
        assert not hasattr(a, name)
    for call in (
        lambda: a.sum(where=a > 0),
        lambda: standin.add(a, a, where=a > 0),
        lambda: a.max(initial=0.0),
        lambda: standin.clip(a, 0),
        lambda: standin.maximum(a, [1.0, 2.0]),
        lambda: a + [1.0, 2.0],
        lambda: standin.where(True, a, 0.0),
        lambda: a.flags.writeable,
    ):
        with pytest.raises((TypeError, AttributeError)):
            call()


@pytest.mark.parametrize(
    "wait",
    [
        lambda a: bool(a[0] > 0),
        lambda a: float(a[0]),
        lambda a: int(a[0]),
        lambda a: a[0].item(),
        lambda a: a.tolist(),
        lambda a: a[a > 0],
        lambda a: standin.nonzero(a),
        lambda a: (a > 0).nonzero(),
        lambda a: "yes" if (a > 0).all() else "no",
        lambda a: a.get(),
        lambda a: to_numpy(a),
    ],
)
def test_nothing_waits_where_it_may_not(wait):
    a = asarray([1.0, 2.0])
    wait(a)
    with no_synchronization(), pytest.raises(Synchronized):
        wait(a)
    if not isinstance(wait(a), np.ndarray):
        with no_synchronization(transfers=1), pytest.raises(Synchronized):
            wait(a)


def test_what_crosses_is_counted():
    a = asarray(np.ones(4, "float32"))
    with no_synchronization(transfers=2) as traffic:
        (a + a).get()
        asarray(np.ones(8, "float32")).get()
        asarray([1, 2])
        asarray(3.0)  # a number goes along with the launch
        with pytest.raises(Synchronized, match="copy number 3"):
            a.get()
    assert (traffic.uploads, traffic.uploaded) == (2, 32 + 16)
    with watched() as traffic:
        float(a[0])
    assert traffic.waits == ("float()",) and traffic.transfers == 0


def test_repeated_indices_leave_garbage_where_the_values_differ():
    a, twice = standin.zeros(4), asarray([1, 3, 1])
    a[twice] = asarray([5.0, 6.0, 7.0])
    values = to_numpy(a)
    assert np.isnan(values[1]) and values[[0, 2, 3]].tolist() == [0.0, 0.0, 6.0]
    a = standin.zeros(4)
    a[twice] += 1.0  # equal values: no doubt, but added once
    assert a.tolist() == [0.0, 1.0, 0.0, 1.0]
    standin.add.at(a, twice, 1.0)
    assert a.tolist() == [0.0, 3.0, 0.0, 2.0]


def test_indices_out_of_range_wrap_without_a_word():
    a = asarray([1.0, 2.0, 3.0])
    assert a[asarray([3, -4, 7])].tolist() == [1.0, 3.0, 2.0]
    assert asarray([[1.0, 2.0]])[..., asarray([2])].tolist() == [[1.0]]
    with pytest.raises(IndexError):
        a[3]


def test_memory_from_empty_is_garbage():
    assert np.isnan(to_numpy(standin.empty((2, 2)))).all()
    assert (to_numpy(standin.empty_like(asarray([1, 2]))) > 1e18).all()


def test_a_result_over_its_own_operand_is_a_race():
    a = standin.arange(6.0)
    for racing in (
        lambda: a.__setitem__(slice(1, None), a[:-1]),
        lambda: a[1:].__iadd__(a[:-1]),
        lambda: standin.exp(a[:-1], out=a[1:]),
        lambda: standin.multiply(a, a[::-1], out=a),
    ):
        with pytest.raises(Race):
            racing()
    standin.exp(a, out=a)
    a[:3] += a[3:]
    a[0::2] = a[1::2]


def test_results_are_in_c_order():
    a = asarray(np.asfortranarray(np.ones((2, 3)))).T
    assert (a + a).flags.c_contiguous and standin.exp(a).flags.c_contiguous


def test_a_view_knows_the_one_array_that_owns_its_memory():
    a = standin.zeros((2, 3))
    assert a.base is None and a[0].base is a and a.T[1:].base is a and a.reshape(3, 2)[0].base is a
    view = standin.ones(4)[1:]  # the owner is kept alive
    assert view.base.shape == (4,) and view.base is view.base
    assert a.astype(a.dtype, copy=False) is a and asarray(a) is a
    assert isinstance(standin.broadcast_to(a[0], (4, 3)).base, DeviceArray)


def test_arrays_do_not_go_back_by_themselves():
    with pytest.raises(Mixed, match=r"\.get\(\)"):
        np.array([asarray([1.0])])
