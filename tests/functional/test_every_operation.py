"""What every registered operation owes: a checked gradient, its dtype, its memory. All of it over the samples."""

import gc
import threading
import weakref

import numpy as np
import pytest

from minilm import Tensor, no_grad
from minilm.random import Generator
from minilm.tensor import OPERATIONS, backpropagate
from minilm.testing import SAMPLES, check_operations, gradcheck
from minilm.testing.samples import LAYOUTS

ALL = [sample for samples in SAMPLES.values() for sample in samples]
IDS = [f"{sample.operation}: {sample.name}" for sample in ALL]
each_operation = pytest.mark.parametrize("name", sorted(OPERATIONS))


def each_sample(test):
    """One test for each operation, which goes through its samples."""

    def over_all_samples(name):
        for sample in SAMPLES[name]:
            try:
                test(sample)
            except BaseException as error:
                error.add_note(f"in the sample {sample.name!r} of {name}")
                raise

    over_all_samples.__name__ = test.__name__
    return each_operation(over_all_samples)


def drawn(sample, dtype="float64", layout=None):
    return sample.draw(Generator(0).spawn(f"{sample.operation}/{sample.name}"), dtype, layout)


def flat(output):
    """The Tensors in nested tuples."""
    return [output] if isinstance(output, Tensor) else [t for part in output for t in flat(part)]


def leaves(inputs):
    return [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]


def cotangents(outputs):
    generator = Generator(1)
    return [generator.normal(y.shape, dtype="float64").astype(y.dtype) for y in outputs]


def gradients(outputs, vs, inputs, retain_graph=False):
    """The gradient of each leaf among the inputs, or None."""
    live = [(y, v) for y, v in zip(outputs, vs, strict=True) if y.requires_grad]
    found = {id(leaf): array for leaf, array in backpropagate(*zip(*live, strict=True), retain_graph)}
    return [found.get(id(x)) for x in leaves(inputs)]


# ----- gradients


def test_every_operation_has_a_sample():
    missing = sorted(set(OPERATIONS) - set(SAMPLES))
    assert missing == [], (
        f"no sample for {', '.join(missing)}: add one with add_sample(name, ...) in "
        f"minilm/testing/samples_fused.py, and its gradient is checked everywhere"
    )
    unknown = sorted(set(SAMPLES) - set(OPERATIONS))
    assert unknown == [], f"samples for what is no operation: {', '.join(unknown)}"


def test_samples_have_different_names():
    assert len(set(IDS)) == len(IDS)


@each_sample
def test_the_gradient_is_right_in_every_memory_layout(sample):
    for layout in LAYOUTS:
        assert gradcheck(sample.fn, drawn(sample, layout=layout))


def test_the_table_of_the_command_line_is_all_green():
    results = check_operations()
    assert [r.operation for r in results] == sorted(OPERATIONS)
    assert [(r.operation, r.error) for r in results if not r.ok] == []
    assert max(r.worst for r in results) < 0.2  # the tolerances have room


@each_sample
def test_a_gradient_asked_for_alone_is_the_one_among_others(sample):
    """Joint vjps are told what is needed; what they leave out must not change the rest."""
    inputs = drawn(sample)
    together = gradients(ys := flat(sample.fn(*inputs)), cotangents(ys), inputs)
    for i in range(len(together)):
        inputs = drawn(sample)
        for k, x in enumerate(leaves(inputs)):
            x.requires_grad = k == i
        outputs = flat(sample.fn(*inputs))
        (alone,) = gradients(outputs, cotangents(outputs), inputs)
        np.testing.assert_allclose(alone, together[i], rtol=1e-12, atol=1e-12)


# ----- dtypes


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # float16 ends at 65504
@each_sample
def test_the_dtype_does_not_change(sample):
    for dtype in ("float32", "float16"):
        inputs = drawn(sample, dtype)
        outputs = flat(sample.fn(*inputs))
        assert [y.dtype for y in outputs] == [np.dtype(dtype)] * len(outputs)
        for gradient in gradients(outputs, cotangents(outputs), inputs):
            assert gradient is None or gradient.dtype == np.dtype(dtype)


@each_sample
def test_float32_agrees_with_float64(sample):
    results = {}
    for dtype in ("float64", "float32"):
        inputs = drawn(sample, dtype)
        outputs = flat(sample.fn(*inputs))
        vs = cotangents(outputs)
        results[dtype] = [y.data for y in outputs], gradients(outputs, vs, inputs)
    for wide, narrow in zip(*map(lambda r: [*r[0], *r[1]], results.values()), strict=True):
        if wide is not None and wide.size:
            tolerance = 2e-4 * max(1.0, float(np.abs(wide).max()))
            np.testing.assert_allclose(narrow, wide, rtol=2e-4, atol=tolerance)


@each_operation
def test_two_float_dtypes_are_refused(name):
    """Each array input in turn is given in float32 among float64 ones."""
    sample = max(SAMPLES[name], key=lambda s: sum(hasattr(x, "kind") for x in s.inputs))
    count = len(leaves(drawn(sample)))
    if count < 2:
        return
    for i in range(count):
        inputs = drawn(sample)
        x = leaves(inputs)[i]
        x.data = x.data.astype("float32")
        with pytest.raises(TypeError, match=r"astype\("):
            sample.fn(*inputs)


# ----- memory


@each_sample
def test_no_array_is_shared_between_gradients_inputs_outputs_and_the_cotangent(sample):
    inputs = drawn(sample)
    outputs = flat(sample.fn(*inputs))
    vs = cotangents(outputs)
    kept = [v.copy() for v in vs]
    first = gradients(outputs, vs, inputs, retain_graph=True)
    values = [y.data.copy() for y in outputs]
    others = [*vs, *(y.data for y in outputs), *(x.data for x in inputs if isinstance(x, Tensor))]
    known = [g for g in first if g is not None]
    for i, g in enumerate(known):
        assert g.flags.writeable
        assert not any(np.may_share_memory(g, other) for other in (*others, *known[i + 1 :]))
    copies = [None if g is None else g.copy() for g in first]
    for g in known:  # whatever the user does with them
        g[...] = np.nan
    again = gradients(outputs, vs, inputs)
    np.testing.assert_equal([g for g in again if g is not None], [g for g in copies if g is not None])
    np.testing.assert_equal([y.data for y in outputs], values)
    np.testing.assert_equal(vs, kept)


@each_sample
def test_the_graph_is_freed_without_the_garbage_collector(sample):
    def nodes(tensors):
        found, stack = {}, [t._node for t in tensors if t._node is not None]
        while stack:
            node = stack.pop()
            if id(node) not in found:
                found[id(node)] = node
                stack.extend(e[0] for e in node.edges if e is not None and not isinstance(e[0], Tensor))
        return list(found.values())

    inputs = drawn(sample)
    gc.disable()
    try:
        outputs = flat(sample.fn(*inputs))
        vjps = [node.vjp for node in nodes(outputs)]
        functions = [f for v in vjps for f in (v if isinstance(v, tuple) else (v,)) if f is not None]
        kept = [weakref.ref(o) for o in (*outputs, *nodes(outputs), *functions)]
        del outputs, vjps, functions
        assert [ref() for ref in kept if ref() is not None] == []
    finally:
        gc.enable()


@each_operation
def test_a_change_in_place_is_reported_if_and_only_if_a_vjp_needs_the_array(name):
    """First by hand, which the engine cannot see: does a gradient depend on the array? Then by a method, which it can.

    An input that no sample needs must be reported by none: a vjp that closes over an array for its shape alone keeps
    it alive, too.
    """
    needed_somewhere, reported_somewhere = set(), set()
    for sample in SAMPLES[name]:
        for i in range(len(sample.inputs)):
            inputs = drawn(sample)
            if not isinstance(inputs[i], Tensor) or not inputs[i].size:
                continue
            outputs = flat(sample.fn(*inputs))
            vs = cotangents(outputs)
            right = gradients(outputs, vs, inputs, retain_graph=True)
            inputs[i].data[...] = inputs[i].data == 0
            try:
                with np.errstate(all="ignore"):
                    changed = gradients(outputs, vs, inputs, retain_graph=True)
                needed = not all(np.array_equal(a, b) for a, b in zip(right, changed, strict=True) if a is not None)
            except RuntimeError:  # checkpoint runs its function again, on other values
                needed = True
            with no_grad():
                inputs[i].copy_(inputs[i])
            try:
                with np.errstate(all="ignore"):
                    gradients(outputs, vs, inputs)
                reported = False
            except RuntimeError as error:
                assert "changed in place" in str(error)
                reported = True
            assert reported or not needed, f"{sample.name}: the vjp needs input {i}, and its change was not reported"
            needed_somewhere |= {i} if needed else set()
            reported_somewhere |= {i} if reported else set()
    assert reported_somewhere <= needed_somewhere


@each_operation
def test_nothing_is_recorded_under_no_grad(name):
    for sample in SAMPLES[name]:
        with no_grad():
            outputs = flat(sample.fn(*drawn(sample)))
        assert not any(y.requires_grad or not y.is_leaf for y in outputs)


def test_operations_work_in_several_threads_at_once():
    sample = SAMPLES["softmax"][0]
    expected = sample.fn(*drawn(sample)).tolist()
    seen = []

    def work(recorded):
        for _ in range(50):
            inputs = drawn(sample)
            if recorded:
                y = sample.fn(*inputs)
                gradients([y], cotangents([y]), inputs)
            else:
                with no_grad():
                    y = sample.fn(*inputs)
            seen.append((y.requires_grad == recorded, y.tolist() == expected))

    threads = [threading.Thread(target=work, args=(recorded,)) for recorded in (True, False, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 200 and all(recorded and equal for recorded, equal in seen)
