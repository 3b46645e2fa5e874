"""minilm doctor: what works on this machine, and what to install for the rest."""

import os
import platform
import re
from importlib import import_module, metadata

# What the extras of pyproject.toml are for, and the module to look for where it is not the package's name.
PURPOSES = {
    "plots": "loss curves",
    "cupy": "arrays on an NVIDIA GPU",
    "triton": "fused kernels on a GPU",
    "notebooks": "to run and build the notebooks",
    "eval": "BLEU and ROUGE",
    "pretrained": "to read published weights",
    "privacy": "to account for privacy",
    "test": "to run the tests",
    "bench": "to compare in benchmarks",
    "dev": "lint, types, builds",
    "book": "to build the documentation",
}
_REQUIREMENT = re.compile(r"""^([\w.-]+)[^;]*;.*extra == ["']([\w-]+)["']""")


def doctor() -> None:
    """Show what works on this machine: backends, packages, corpora.

    For whatever is missing it says how to get it. Nothing is downloaded.
    """
    from minilm import __version__
    from minilm.cli.output import facts, say, table
    from minilm.text.corpora import cache_folder

    say(f"minilm {__version__}")
    say()
    facts(_machine())
    say()
    table(["backend", "works", ""], _backends(), left=3)
    say()
    table(["extra", "installed", "missing", "for"], _extras(), left=4)
    say("Install an extra with: pip install 'minilm[NAME]'")
    say()
    say("Corpora")
    facts(_corpora(), width=16)
    facts([("cache", f"{cache_folder()} (MINILM_CACHE moves it)")], width=16)


def _machine() -> list[tuple[str, str]]:
    import numpy as np

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("NumPy", np.__version__),
        ("BLAS", _blas()),
        ("threads", _threads()),
        ("CPUs", f"{usable} usable of {os.cpu_count()}"),
        ("memory", _memory()),
    ]


def _blas() -> str:
    import numpy as np

    dependencies = np.show_config(mode="dicts")["Build Dependencies"]
    blas = dependencies.get("blas", {})
    name = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    pools = import_module("threadpoolctl").threadpool_info()
    threads = [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
    return name + (f", threads: {max(threads)} (1 inside minilm's own)" if threads else "")


def _threads() -> str:
    count = import_module("minilm.kernels.threads").thread_count()
    return f"{count} (MINILM_THREADS changes it)"


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (page * os.sysconf(name) / 2**30 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows; macOS does not tell what is free
        return "the system does not tell"
    return f"{total:.1f} GiB, {free:.1f} GiB of it unused"


def _backends() -> list[tuple[str, str, str]]:
    from minilm.backend import BACKENDS, why_not

    reasons = {name: why_not(name) for name in BACKENDS}
    return [(name, "no" if reason else "yes", reason or "") for name, reason in reasons.items()]


def _extras() -> list[tuple[str, str, str, str]]:
    """For each extra of the installed minilm: what is there, and what is not."""
    try:
        requirements = metadata.requires("minilm") or []
    except metadata.PackageNotFoundError:
        return [("?", "", "", "minilm runs from its source folder: pip install -e . tells more")]
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        if match := _REQUIREMENT.match(requirement):
            extras.setdefault(match[2], []).append(match[1])
    rows = []
    for extra, packages in extras.items():
        there = [package for package in packages if _has(package)]
        missing = [package for package in packages if package not in there]
        installed = "all" if not missing else ", ".join(there) or "no"
        rows.append((extra, installed, ", ".join(missing), PURPOSES.get(extra, "")))
    return rows


def _has(package: str) -> bool:
    if package.startswith("cupy"):  # any of its builds will do
        from importlib.util import find_spec

        return find_spec("cupy") is not None
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _corpora() -> list[tuple[str, str]]:
    from minilm.text import CORPORA
    from minilm.text.corpora import Download, NotHere

    rows, downloads = [], []
    for name, corpus in CORPORA.items():
        reasons = []
        for place in corpus.places:
            if isinstance(place, Download):
                downloads.append(name)
                break
            try:
                files = place.find(corpus)
            except NotHere as reason:
                reasons.append(str(reason))
            else:
                folder = os.path.commonpath([file.parent for file in files])
                rows.append((name, f"{len(files)} file{'s' if len(files) > 1 else ''} in {folder}"))
                break
        else:
            rows.append((name, f"not found. {reasons[-1]}"))
    if downloads:
        rows.append(("when asked for", f"downloads {', '.join(downloads)}"))
    return rows
