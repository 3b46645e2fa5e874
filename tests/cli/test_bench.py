"""minilm bench: right before fast, honest about what does not work, and readable by programs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from minilm import backend, use_backend
from minilm.cli import bench_run, bench_static, bench_subjects
from minilm.cli.bench_contestants import converted, rounded, widened
from minilm.cli.bench_run import Bench, Setting, current_setting, relative_error
from minilm.cli.bench_subjects import SUBJECTS, draw
from minilm.testing.timing import Timing
from tests.backend.standin import install, standin
from tests.testing.test_timing import Gpu

# Small sizes of every subject, none of them a multiple of anything.
TINY = {
    "attention": ({"B": 1, "H": 2, "D": 6, "causal": 1}, 9),
    "matmul": ({}, 7),
    "softmax": ({"N": 3}, 5),
    "layer_norm": ({"N": 3}, 6),
    "rms_norm": ({"N": 3}, 6),
    "rotary": ({"B": 1, "H": 2, "D": 4}, 5),
    "swiglu": ({"N": 3}, 5),
    "cross_entropy": ({"N": 3}, 7),
    "lstm": ({"B": 2, "C": 3, "H": 4}, 3),
    "adamw": ({"L": 1}, 4),
}


def options(name):
    sizes, length = TINY[name]
    return ["--lengths", length, *(f"--size={key}={number}" for key, number in sizes.items()), "--repeats", 2]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Ceilings are not measured, and memory is not limited: other tests do that."""
    monkeypatch.setattr(bench_run, "ceilings", lambda *_: {"flop_per_s": 1e11, "byte_per_s": 1e10})


@pytest.fixture
def numpy_bench():
    return Bench(Setting("numpy", np, interpreting=False), "float32", repeats=2)


# what comes out


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_subject_runs_and_all_its_contestants_are_right(minilm, tmp_path, name):
    path = tmp_path / "new" / "result.json"
    outcome = minilm("bench", name, *options(name), "--json", path)
    assert outcome.status == 0, outcome.out + outcome.err
    result = json.loads(path.read_text())
    (entry,) = result["subjects"]
    directions = ["step"] if name == "adamw" else ["forward", "backward"]
    assert list(dict.fromkeys(row["direction"] for row in entry["rows"])) == directions
    assert len({row["contestant"] for row in entry["rows"]}) >= 1 + (name in ("attention", "matmul", "cross_entropy"))
    for row in entry["rows"]:
        assert row["status"] == "ok" and row["relative_error"] < 1e-5 and row["rounds"] == 2
        assert row["median_s"] > 0 and row["spread_s"] >= 0 and row["peak_bytes"] > 0
        assert row["flop_per_s"] == row["flops"] / row["median_s"]
    assert result["machine"]["numpy"] == np.__version__
    assert (result["backend"], result["dtype"], result["interpreter"]) == ("numpy", "float32", False)


def test_the_table_has_units_and_a_line_for_each_contestant(minilm):
    out = minilm("bench", "attention", *options("attention")).out
    for word in ("textbook", "blocked", "loops", "median", "GFLOP/s", "GB/s", "peak MB", "4 * B * H * T * T * D"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 110
    assert "backward" not in minilm("bench", "softmax", *options("softmax"), "--forward-only").out


def test_loops_run_at_tiny_sizes_only():
    sizes = TINY["attention"][0]
    contestants = [SUBJECTS["attention"].contestants("numpy", "numpy", {**sizes, "T": T}) for T in (8, 900)]
    assert [("loops" in found, "blocked" in found) for found in contestants] == [(True, True), (False, True)]


def test_flops_and_bytes_are_those_of_the_formulas():
    sizes = {"B": 8, "H": 16, "T": 1024, "D": 64, "causal": 0}
    flops, moved = SUBJECTS["attention"].cost("forward", sizes, 2)
    assert flops == 4 * 8 * 16 * 1024 * 1024 * 64
    assert moved == pytest.approx(68e6, rel=0.02)  # the fused kernel's 68 MB
    causal = SUBJECTS["attention"].cost("backward", {**sizes, "causal": 1}, 2)[0]
    assert causal == 2.5 * flops / 2
    assert SUBJECTS["matmul"].cost("forward", {"N": 10}, 4) == (2000, 1200)
    assert SUBJECTS["adamw"].cost("step", {"L": 1, "C": 2}, 4)[1] == 28 * sum(
        int(np.prod(shape)) for shape in bench_subjects.gpt_shapes(1, 2)
    )


def test_pictures_are_drawn_into_the_folder(minilm, tmp_path, require_package):
    require_package("matplotlib")
    outcome = minilm("bench", "softmax", *options("softmax"), "--plot", tmp_path / "p")
    assert outcome.status == 0
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["roofline.png", "softmax_time.png"]
    assert "roofline.png" in outcome.out


# right before fast


def test_a_contestant_that_is_wrong_is_shown_and_not_timed(minilm, monkeypatch, tmp_path):
    def wrong(a, b):
        y = a @ b
        y[0, 0] += 1
        return y, (lambda g: g @ b.T, lambda g: a.T @ g)

    monkeypatch.setattr("minilm.kernels.matmul.blocked.matmul", wrong)
    outcome = minilm("bench", "matmul", *options("matmul"), "--json", tmp_path / "r.json")
    assert outcome.status == 1
    assert "wrong: relative error" in outcome.out and "1e-05 is allowed" in outcome.out
    rows = json.loads((tmp_path / "r.json").read_text())["subjects"][0]["rows"]
    bad = [row for row in rows if row["status"] == "wrong"]
    assert [(row["contestant"], row["direction"]) for row in bad] == [("blocked", "forward")]
    assert "median_s" not in bad[0] and "median_s" in rows[0]


def test_a_wrong_gradient_and_a_nan_are_wrong(numpy_bench):
    subject, sizes = SUBJECTS["matmul"], {"N": 5}

    def verdict(body, direction):
        return numpy_bench.check(subject, bench_subjects.of_operation("matmul", body), direction, sizes)[0]

    right = SUBJECTS["matmul"].textbook()
    assert numpy_bench.check(subject, right, "backward", sizes)[0] == "ok"
    assert verdict(lambda a, b: (a @ b, (lambda g: g @ b, lambda g: a.T @ g)), "backward") == "wrong"
    assert verdict(lambda a, b: (a @ b, (lambda g: g @ b, lambda g: a.T @ g)), "forward") == "ok"
    assert verdict(lambda a, b: (a @ b * np.nan, None), "forward") == "wrong"
    assert verdict(lambda a, b: ((a @ b)[:3], None), "forward") == "wrong"


def test_a_call_that_cannot_be_repeated_is_wrong(numpy_bench):
    def once(a, b):
        return a @ b, (lambda g: np.multiply(g, 2, out=g) @ b.T / 2, lambda g: a.T @ g)

    bind = bench_subjects.of_operation("matmul", once)
    assert numpy_bench.check(SUBJECTS["matmul"], bind, "backward", {"N": 5})[0] == "wrong"


def test_the_check_is_made_once_for_lengths_beyond_what_is_checked(numpy_bench, monkeypatch):
    checked = []
    monkeypatch.setattr(numpy_bench, "check", lambda *args: checked.append(args[-1]) or ("ok", None, 0.0))
    for N in (400, 512, 700, 900):
        numpy_bench.verdict(SUBJECTS["matmul"], "numpy", lambda: None, "forward", {"N": N})
    assert checked == [{"N": 400}, {"N": 512}]


def test_relative_error_counts_shapes_and_nan():
    a = np.array([3.0, 4.0])
    assert relative_error(a + 0.05, a) == pytest.approx(0.05 * 2**0.5 / 5)
    assert relative_error(a[:1], a) == float("inf")
    assert not relative_error(a * np.nan, a) <= 1


# memory, time


def test_out_of_memory_is_a_result_and_the_others_go_on(minilm, monkeypatch, tmp_path):
    def hungry(a, b):
        if a.shape[0] > 6:
            raise MemoryError("Unable to allocate 16.0 GiB")
        return a @ b, (lambda g: g @ b.T, lambda g: a.T @ g)

    monkeypatch.setattr("minilm.kernels.matmul.blocked.matmul", hungry)
    monkeypatch.setattr(bench_subjects, "LOOPS_AT_MOST", 0)
    monkeypatch.setattr(bench_run.Bench, "check", lambda *_: ("ok", None, 0.0))
    path = tmp_path / "r.json"
    outcome = minilm("bench", "matmul", "--lengths", "5,9", "--repeats", 2, "--json", path)
    assert outcome.status == 0
    assert "blocked at N 9: out of memory: Unable to allocate 16.0 GiB" in outcome.out
    rows = json.loads(path.read_text())["subjects"][0]["rows"]
    assert {(r["contestant"], r["length"]): r["status"] for r in rows if r["direction"] == "forward"} == {
        ("numpy", 5): "ok",
        ("blocked", 5): "ok",
        ("numpy", 9): "ok",
        ("blocked", 9): "out of memory",
    }


def test_numpy_is_kept_within_the_memory_that_is_free(numpy_bench, monkeypatch):
    monkeypatch.setattr("minilm.testing.timing.free_memory", lambda: 40 << 20)
    sizes = {"B": 1, "H": 1, "D": 8, "causal": 0, "T": 4096}  # 64 MB of scores
    rows = numpy_bench.point(SUBJECTS["attention"], "forward", sizes)
    assert {row["contestant"]: row["status"] for row in rows} == {"textbook": "out of memory", "blocked": "ok"}


def test_a_backward_pass_counts_with_what_the_forward_pass_kept(numpy_bench):
    sizes = {"B": 1, "H": 1, "D": 8, "causal": 0, "T": 512}
    (textbook, blocked) = numpy_bench.point(SUBJECTS["attention"], "backward", sizes)
    assert textbook["peak_bytes"] > 2 * 4 * 512 * 512 > blocked["peak_bytes"]


def test_rounds_become_fewer_where_they_take_long_but_not_fewer_than_five(numpy_bench, monkeypatch):
    asked = []
    monkeypatch.setattr(bench_run, "measure", lambda calls, repeats, *_: asked.append(repeats) or [])
    numpy_bench.repeats = 20
    for seconds in (0.01, 1.0, 100.0):
        numpy_bench.timer = lambda call, seconds=seconds: seconds
        numpy_bench.rounds({"a": int})
    assert asked == [20, 10, 5]


def test_contestants_that_do_not_fit_together_are_timed_alone(numpy_bench, monkeypatch):
    def rounds(calls):
        if len(calls) > 1:
            raise MemoryError
        return [Timing(name, (1.0,)) for name in calls]

    monkeypatch.setattr(numpy_bench, "rounds", rounds)
    rows = numpy_bench.point(SUBJECTS["matmul"], "forward", {"N": 8})
    assert [row["median_s"] for row in rows] == [1.0, 1.0, 1.0]


# dtypes


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes(minilm, dtype):
    assert minilm("bench", "layer_norm", *options("layer_norm"), "--dtype", dtype).status == 0
    assert minilm("bench", "adamw", *options("adamw"), "--dtype", dtype).status == 0


def test_numpy_does_not_cover_bfloat16(minilm):
    outcome = minilm("bench", "softmax", *options("softmax"), "--dtype", "bfloat16", "--forward-only")
    assert outcome.status == 0
    assert "textbook at V 5: not covered: numpy does not compute in bfloat16" in outcome.out


def test_bfloat16_is_rounded_to_the_nearest_and_read_back():
    values = np.array([0.0, 1.0, -2.5, 1 + 2**-8, 1 + 2**-7, 1 + 3 * 2**-8, 3e38])
    back = widened(rounded(values, "bfloat16"))
    np.testing.assert_array_equal(back[:6], [0.0, 1.0, -2.5, 1.0, 1 + 2**-7, 1 + 2**-6])  # ties go to even
    np.testing.assert_allclose(back, values, rtol=2**-8)


def test_arguments_are_the_same_each_time_and_indices_stay_integers():
    one, other = (draw(SUBJECTS["cross_entropy"], {"N": 3, "V": 7}, "float16") for _ in range(2))
    np.testing.assert_array_equal(one.arrays[0], other.arrays[0])
    wide = converted(one, widened)
    assert (wide.arrays[0].dtype, wide.arrays[1].dtype) == (np.float64, np.int64)


# backends


@pytest.fixture
def gpu(monkeypatch):
    """The strict stand-in for CuPy as the backend, with events, a memory pool and a name."""
    fake = Gpu()
    install(monkeypatch)
    for name in ("cuda", "get_default_memory_pool", "__version__"):
        monkeypatch.setattr(standin, name, getattr(fake, name), raising=False)

    def elapsed(start, stop):
        return 2.0

    monkeypatch.setattr(fake.cuda, "get_elapsed_time", elapsed)
    monkeypatch.setattr("minilm.testing.timing.CudaTimer.FLUSHED", 16)
    with use_backend("standin"):
        yield fake


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_subject_runs_on_device_arrays_timed_by_events(minilm, gpu, tmp_path, name):
    path = tmp_path / "r.json"
    outcome = minilm("bench", name, *options(name), "--json", path)
    assert outcome.status == 0, outcome.out + outcome.err
    result = json.loads(path.read_text())
    assert (result["backend"], result["machine"]["gpu"]) == ("standin", "Some GPU")
    assert {row["median_s"] for row in result["subjects"][0]["rows"]} == {2e-3}


def test_on_a_gpu_the_largest_sizes_are_run_and_known_ceilings_are_not_measured(gpu):
    setting = current_setting()
    assert setting.scale == "gpu"
    known = bench_run.known_ceilings(setting, {"gpu": "NVIDIA H100 80GB HBM3"}, "float16", None)
    assert known["flop_per_s"] == 989e12 and "H100" in known["source"]
    assert bench_run.known_ceilings(setting, {"gpu": "NVIDIA H100 80GB HBM3"}, "float32", None)["flop_per_s"] == 67e12
    assert "measured" in bench_run.known_ceilings(setting, {"gpu": "Some GPU"}, "float16", None)["source"]


def run_interpreted(*arguments):
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "minilm", "bench", *map(str, arguments), "--backend", "triton"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_in_the_interpreter_nothing_is_timed_and_bytes_and_flops_are_counted(require_package, tmp_path):
    require_package("triton")
    path = tmp_path / "r.json"
    result = run_interpreted("attention", "--lengths", 32, "--size", "H=1", "--forward-only", "--json", path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "times mean nothing here" in result.stdout and "GFLOP/s" not in result.stdout
    (row,) = json.loads(path.read_text())["subjects"][0]["rows"]
    assert row["status"] == "counted" and "median_s" not in row
    assert row["counts"]["flops"] == row["flops"] == 4 * 32 * 32 * 16
    assert row["counts"]["moved"] == row["bytes"]
    refused = run_interpreted("softmax", "--plot", tmp_path / "p")
    assert refused.returncode == 1 and "there are none" in refused.stderr


# what cannot work


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["atention"], "no subject 'atention': did you mean attention?"),
        (["zzz"], "choose one of attention, matmul"),
        ([], "name a subject"),
        (["softmax", "--lengths", "128,"], "--lengths takes whole numbers above 0"),
        (["softmax", "--lengths", "0"], "--lengths takes whole numbers above 0"),
        (["softmax", "--lengths", "-5"], "--lengths takes whole numbers above 0"),
        (["softmax", "--lengths", "1e3"], "got '1e3'"),
        (["softmax", "--size", "B=2"], "softmax has no size 'B': it has N (V is varied, by --lengths)"),
        (["softmax", "--size", "N"], "--size takes NAME=N"),
        (["softmax", "--size", "N=0"], "a size is at least 1"),
        (["attention", "--size", "causal=2"], "causal is 0 or 1"),
        (["rotary", "--size", "D=3"], "D must be even"),
        (["softmax", "--dtype", "int8"], "no dtype 'int8'"),
        (["softmax", "--out", "x"], "--out goes with --static"),
        (["softmax", "--static"], "leave the subject out"),
        (["softmax", "--backend", "cuda"], "no backend 'cuda'"),
    ],
)
def test_bad_input_gets_one_kind_message(minilm, arguments, message):
    assert message in minilm("bench", *arguments).error


@pytest.mark.parametrize("package", ["cupy", "triton"])
def test_a_backend_that_is_not_installed_says_what_to_install(minilm, monkeypatch, package):
    known = backend.importlib.util.find_spec
    monkeypatch.setattr(
        backend.importlib.util, "find_spec", lambda name, *rest: None if name == package else known(name, *rest)
    )
    monkeypatch.setattr(sys, "platform", "linux")
    assert "pip install 'minilm[" in minilm("bench", "softmax", "--backend", package).error


def test_a_result_that_cannot_be_written_is_refused_before_anything_is_measured(minilm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(bench_run.Bench, "point", lambda *_: pytest.fail("measured first"))
    assert "file" in minilm("bench", "softmax", "--json", tmp_path / "file" / "r.json").error


# the static report


ROW = {
    **{"case": "attention forward", "arch": "sm_90", "dtype": "float16", "sizes": {"B": 8, "D": 64}},
    **{"kernel": "forward_kernel", "tile": {"BLOCK_Q": 128, "BLOCK_K": 64, "D": 64}, "num_warps": 4, "num_stages": 3},
    **{"grid": [8, 16, 8], "registers": 168, "spills": 0, "stack": 0, "shared": 65536, "blocks_per_sm": 3},
    **{"hmma": 0, "hgmma": 24, "ffma": 12, "flops": 34e9, "bytes": 68e6, "intensity": 500.0},
    **{"times_us": {"compute": 35.0, "memory": 20.0, "exponentials": 34.0}, "bound": "compute", "roofline_us": 35.0},
    "counted": {
        **{"sizes": {"T": 256}, "loaded": 9000, "stored": 100, "moved": 5000, "flops": 7000, "programs": 4},
        **{"formula_bytes": 4990, "formula_flops": 7000},
    },
}
REPORT = {
    "triton": "3.9.0",
    "ceilings": {"sm_90": {"gpu": "H100 SXM", "tensor": 989e12, "float32": 67e12, "bandwidth": 3.35e12}},
    "rows": [ROW, {**ROW, "dtype": "bfloat16"}],
}


@pytest.fixture
def report_made_up(monkeypatch):
    """Whoever asks for the report gets one at once, from a process that must not interpret."""
    program = (
        "import os, pathlib, sys; assert 'TRITON_INTERPRET' not in os.environ; folder = pathlib.Path(sys.argv[1]); "
        "folder.mkdir(exist_ok=True); (folder / 'static_report.md').write_text('# Report\\n'); "
        f"(folder / 'static_report.json').write_text({json.dumps(REPORT)!r})"
    )
    monkeypatch.setattr(bench_static, "PROGRAM", program)
    monkeypatch.setattr(bench_static.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def test_static_shows_registers_spills_rooflines_and_counts(minilm, report_made_up):
    outcome = minilm("bench", "--static")
    assert outcome.status == 0, outcome.err
    words = " ".join(outcome.out.split())
    compiled = "Q128 K64 4w 3s float16 168 0 64.0 3 24"
    for word in (compiled, "bfloat16 is left out", "35 us compute", "5 4.99 7 7", "H100 SXM"):
        assert word in words


def test_static_writes_json_markdown_and_pictures(minilm, report_made_up, tmp_path, require_package):
    require_package("matplotlib")
    folder = tmp_path / "report"
    assert minilm("bench", "--static", "--out", folder).status == 0
    assert {path.name for path in folder.iterdir()} == {
        "static_report.json",
        "static_report.md",
        "static_roofline_sm_90.png",
        "static_times_sm_90.png",
    }
    text = (folder / "static_report.md").read_text()
    assert text.startswith("# Report")
    assert "](static_roofline_sm_90.png)" in text and "](static_times_sm_90.png)" in text


def test_static_without_triton_says_what_to_install(minilm, monkeypatch):
    monkeypatch.setattr(bench_static.importlib.util, "find_spec", lambda name: None)
    error = minilm("bench", "--static").error
    assert "pip install 'minilm[triton]'" in error and "no GPU is needed" in error


def test_static_that_fails_shows_why(minilm, report_made_up, monkeypatch):
    monkeypatch.setattr(bench_static, "PROGRAM", "raise RuntimeError('ptxas is missing')")
    assert "RuntimeError: ptxas is missing" in minilm("bench", "--static").error
