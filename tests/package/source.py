"""The source tree as the tests here see it: its files, their dotted names, and what each imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"minilm": "minilm", "kernels": "minilm.kernels"}
"""The folders that are installed, each with the name it is installed under."""


def library_files(root: Path = ROOT) -> list[Path]:
    """Every Python file of the library, relative to `root`."""
    found = [path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("*.py")]
    return sorted(found)


def module_name(path: Path) -> str:
    """The dotted name under which the file `path` (relative to the root) is imported."""
    parts = [FOLDERS[path.parts[0]], *path.with_suffix("").parts[1:]]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """Every (line, dotted name) that a file imports: at any depth, relative, and by `import_module("...")`.

    `from a.b import c` gives "a.b.c", whether c is a module or a name in one.
    """
    package = module_name(path)
    if path.name != "__init__.py":
        package = package.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            target = node.args[0]
            if function in ("import_module", "__import__") and isinstance(target, ast.Constant):
                yield node.lineno, str(target.value)
