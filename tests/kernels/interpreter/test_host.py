"""The ground of the kernels: pointers, outputs, tiles, and launches in the interpreter."""

import numpy as np
import pytest
import triton
import triton.language as tl

from minilm.kernels import host, tiles
from minilm.kernels.host import (
    Ptr,
    cdiv,
    counting,
    dry,
    empty,
    empty_like,
    launch,
    pointers,
    strides,
    tile,
    using_tile,
    using_tiles_of,
)
from tests.kernels.guards import BAND, check_guards, close, guarded


@triton.jit
def scale_kernel(x, y, n, factor, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    tl.store(y + i, tl.load(x + i, mask=inside) * factor, mask=inside)


@triton.jit
def careless_kernel(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i))


@triton.jit
def optional_kernel(x, bias, y, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n)
    if bias is not None:
        v += tl.load(bias + i, mask=i < n)
    tl.store(y + i, v, mask=i < n)


@triton.jit
def product_kernel(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    row = a + tl.program_id(0) * M * K
    left = tl.load(row + m[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + n[None, :])
    out = tl.exp(tl.dot(left, right, input_precision="ieee"))
    tl.store(c + tl.program_id(0) * M * N + m[:, None] * N + n[None, :], out)


def test_this_process_interprets():
    assert host.interpreting() and host.architecture() == "interpreter"
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1 makes this process interpret"), dry("sm_90"):
        pass


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "uint8"])
@pytest.mark.parametrize("n", [1, 31, 32, 100])
def test_a_launch_reads_and_writes_numpy_arrays(n, dtype):
    x = np.arange(n).astype(dtype)
    y = empty_like(x)
    launch(scale_kernel, cdiv(n, 32), *pointers(x, y), np.int64(n), 2, BLOCK=32, num_warps=4, num_stages=2)
    np.testing.assert_array_equal(y, x * np.asarray(2, dtype), strict=True)


def test_an_operand_can_be_absent():
    x, b = np.ones(5, "float32"), np.full(5, 2, "float32")
    for bias, expected in ((b, 3), (None, 1)):
        y = empty_like(x)
        launch(optional_kernel, 1, *pointers(x, bias, y), 5, BLOCK=8)
        assert (y == expected).all()


def test_an_empty_grid_runs_nothing():
    y = empty((4,), "float32", like=np.ones(1))
    launch(scale_kernel, (0, 3), *pointers(y, y), 4, 2.0, BLOCK=4)
    assert np.isnan(y).all()


def test_arguments_that_would_be_misread_are_refused():
    x = np.ones(4, "float32")
    with pytest.raises(TypeError, match=r"argument 1 of scale_kernel is a ndarray: wrap an array with pointers"):
        launch(scale_kernel, 1, Ptr(x), x, 4, 2.0, BLOCK=4)
    bits = np.ones(4, "uint16")
    with pytest.raises(NotImplementedError, match="argument 0 of scale_kernel is bfloat16.*float16 or float32"):
        launch(scale_kernel, 1, *pointers(bits, bits), 4, 2.0, BLOCK=4)


def test_strides_count_elements():
    x = np.empty((4, 6, 10), "float16")
    assert strides(x) == (60, 10, 1)
    assert strides(x[:, ::2].transpose(2, 0, 1)) == (1, 60, 20)
    assert strides(np.broadcast_to(x[:1], x.shape)) == (0, 10, 1)


def test_the_name_of_a_dtype():
    assert [Ptr(np.empty(1, d)).dtype for d in ("float16", "uint16", "bool")] == ["float16", "bfloat16", "bool"]
    assert Ptr(np.empty(1, "uint16"), "uint16").dtype == "uint16"
    assert repr(Ptr(np.empty((2, 3), "float32"))) == "Ptr(float32[2, 3])"
    assert pointers(None) == (None,)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint16", "bool"])
def test_outputs_are_poisoned_where_the_tests_ask_for_it(dtype, monkeypatch):
    monkeypatch.setattr(host, "_allocate", lambda module, shape, dtype: module.empty(shape, dtype=dtype))
    monkeypatch.setenv("MINILM_POISON", "1")
    y = empty((3, 2), dtype, like=np.ones(1))
    assert y.shape == (3, 2) and y.dtype == dtype
    if y.dtype.kind == "f":
        assert np.isnan(y).all()
    else:
        assert (y == {"int64": 2**63 - 1, "uint16": 0x7FC0, "bool": True}[dtype]).all()


def test_an_output_is_in_c_order():
    assert strides(empty_like(np.ones((3, 5)).T)) == (3, 1)


# ----- guards


def test_a_kernel_that_writes_out_of_bounds_is_found_out():
    x, y = guarded(np.ones(20, "float32")), empty((20,), "float32", like=np.ones(1))
    launch(careless_kernel, 1, *pointers(x, y), 20, BLOCK=32)
    with pytest.raises(AssertionError, match="wrote outside an array of 20 elements of float32"):
        check_guards()


def test_a_kernel_that_reads_out_of_bounds_reads_nan():
    x = guarded(np.ones(20, "float32"))
    y = np.zeros(32, "float32")
    launch(careless_kernel, 1, *pointers(x, y), 20, BLOCK=32)
    assert np.isnan(y[20:]).all() and (y[:20] == 1).all()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_guarded_array_keeps_values_and_the_order_of_strides(order):
    x = np.arange(60.0).reshape(3, 4, 5).transpose(order)
    inner = guarded(x)
    np.testing.assert_array_equal(inner, x, strict=True)
    assert strides(inner) == strides(x)
    memory = inner
    while memory.base is not None:
        memory = memory.base
    assert np.isnan(memory[:BAND]).all() and np.isnan(memory[-BAND:]).all() and memory.size == 60 + 2 * BAND


def test_the_tolerance():
    oracle = np.random.default_rng(0).normal(size=1000)
    eps = np.finfo("float32").eps
    close((oracle * (1 + 3 * eps)).astype("float32"), oracle)
    with pytest.raises(AssertionError, match="relative error .* is allowed in float32"):
        close((oracle * (1 + 9 * eps)).astype("float32"), oracle)
    close((oracle * (1 + 9 * eps)).astype("float32"), oracle, (oracle * (1 + 6 * eps)).astype("float32"))
    close(np.zeros(3, "float32"), np.zeros(3))
    for wrong in (np.full(1000, np.nan, "float32"), oracle[:-1].astype("float32")):
        with pytest.raises(AssertionError):
            close(wrong, oracle)


# ----- tiles

TABLE = {
    "k": {
        "interpreter": [({"D": 64, "dtype": "float32"}, {"BLOCK": 16}), ({"D": 64}, {"BLOCK": 32, "num_warps": 4})],
        "sm_80": [({}, {"BLOCK": 80})],
        "sm_90": [({}, {"BLOCK": 90})],
    }
}


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(host, "TILES", TABLE)


def test_a_tile_is_the_first_row_that_fits(table):
    assert tile("k", D=64, dtype="float32") == {"BLOCK": 16}
    assert tile("k", D=3, dtype="float16") == {"BLOCK": 32, "num_warps": 4}
    tile("k", D=3, dtype="float16")["BLOCK"] = 0  # a copy
    assert tile("k", D=3, dtype="float16")["BLOCK"] == 32


def test_an_architecture_without_rows_takes_those_of_the_nearest_older_one(table, monkeypatch):
    for here, block in (("sm_80", 80), ("sm_86", 80), ("sm_90", 90), ("sm_120", 90)):
        monkeypatch.setattr(host, "architecture", lambda here=here: here)
        assert tile("k", D=1) == {"BLOCK": block}
    monkeypatch.setattr(host, "architecture", lambda: "sm_75")
    with pytest.raises(LookupError, match="k has no tiles for sm_75"):
        tile("k", D=1)


def test_a_missing_tile_says_what_there_is(table):
    with pytest.raises(LookupError, match="no tiles for a kernel 'q': kernels/tiles.py has k"):
        tile("q")
    with pytest.raises(LookupError, match="k has no tile for D=65, dtype=float16 on interpreter: the rows cover"):
        tile("k", D=65, dtype="float16")


def test_a_tile_can_be_set_for_a_block(table):
    with using_tile("k", BLOCK=1):
        with using_tile("k", BLOCK=2):
            assert tile("k") == {"BLOCK": 2}
        assert tile("k", D=999) == {"BLOCK": 1}
    assert tile("k", D=1, dtype="float16")["BLOCK"] == 32
    with pytest.raises(ZeroDivisionError), using_tile("k", BLOCK=1):
        raise ZeroDivisionError
    assert tile("k", D=1, dtype="float16")["BLOCK"] == 32


def test_the_tiles_of_a_gpu_can_be_used_here(table):
    with using_tiles_of("sm_90"):
        assert tile("k", D=1) == {"BLOCK": 90}
        with using_tiles_of("sm_86"):
            assert tile("k", D=1) == {"BLOCK": 80}
        assert tile("k", D=1) == {"BLOCK": 90}
    assert tile("k", D=1, dtype="float32") == {"BLOCK": 16}


def test_every_kernel_of_the_table_has_rows_for_the_interpreter_and_gpus():
    for kernel, rows in tiles.TILES.items():
        assert {"interpreter", "sm_80"} <= set(rows), kernel  # newer GPUs have their own rows or take these
        for architecture, entries in rows.items():
            assert entries, (kernel, architecture)
            for _, sizes in entries:
                assert all(type(size) in (int, bool) for size in sizes.values()), (kernel, architecture)


# ----- counting


def test_accesses_are_counted_by_element_and_masks_are_respected():
    x = np.ones(100, "float16")
    y = empty_like(x)
    with counting() as counts:
        launch(scale_kernel, 4, *pointers(x, y), 100, 2, BLOCK=32)
    assert counts.as_dict() == {
        "loaded": 200, "stored": 200, "read": 200, "written": 200, "moved": 400, "flops": 0, "exps": 0, "programs": 4,
    }  # fmt: skip


def test_what_several_programs_read_counts_each_time_and_once():
    P, M, N, K = 3, 16, 32, 16
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype("float32") for s in ((P * M, K), (K, N)))
    c = empty((P * M, N), "float32", like=a)
    with counting() as counts:
        launch(product_kernel, P, *pointers(a, b, c), M=M, N=N, K=K)
    close(c, np.exp(a.astype("float64") @ b), np.exp(a @ b))
    assert counts.flops == P * 2 * M * N * K
    assert counts.exps == P * M * N
    assert counts.loaded == 4 * P * (M * K + K * N) and counts.read == 4 * (P * M * K + K * N)
    assert counts.stored == counts.written == 4 * P * M * N
    assert counts.moved == counts.read + counts.written


def test_an_element_counts_once_in_each_launch():
    x = np.ones(10, "float32")
    y = empty_like(x)
    with counting() as counts:
        for _ in range(3):
            launch(scale_kernel, 1, *pointers(x, y), 10, 2.0, BLOCK=16)
    assert (counts.loaded, counts.read, counts.written, counts.moved) == (120, 120, 120, 240)


def test_counting_can_look_at_some_kernels_only():
    x = np.ones(10, "float32")
    y = empty_like(x)
    with counting("optional_kernel") as counts:
        launch(scale_kernel, 1, *pointers(x, y), 10, 2.0, BLOCK=16)
        assert counts.loaded == counts.programs == 0
        launch(optional_kernel, 1, *pointers(x, None, y), 10, BLOCK=16)
    assert (counts.loaded, counts.stored, counts.programs) == (40, 40, 1)


def test_counting_changes_no_number_and_ends_with_its_block():
    x = np.arange(10, dtype="float32")
    plain, counted, after = (empty_like(x) for _ in range(3))
    launch(scale_kernel, 1, *pointers(x, plain), 10, 3.0, BLOCK=16)
    with counting() as outer:
        with counting() as inner:
            launch(scale_kernel, 1, *pointers(x, counted), 10, 3.0, BLOCK=16)
        launch(scale_kernel, 1, *pointers(x, counted), 10, 3.0, BLOCK=16)
    launch(scale_kernel, 1, *pointers(x, after), 10, 3.0, BLOCK=16)
    np.testing.assert_array_equal(plain, counted)
    assert (inner.loaded, outer.loaded) == (40, 80)
    assert not set(vars(triton.runtime.interpreter.interpreter_builder)) & {"create_masked_load", "create_dot"}


def test_many_addresses_are_sorted_on_the_way():
    from minilm.kernels.counting import _Addresses

    addresses = _Addresses()
    for start in range(0, 3 << 19, 1 << 18):  # each overlaps the one before by half
        addresses.add(4, np.arange(start, start + (1 << 19), dtype="uint64"))
    addresses.add(2, np.zeros(5, "uint64"))
    assert addresses.waiting < 1 << 20
    assert addresses.bytes() == 4 * ((3 << 19) + (1 << 18)) + 2
