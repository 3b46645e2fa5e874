"""What the source pages know of the repository: its files in reading order, and where each name is defined.

    table = SymbolTable(ROOT)
    table.files                                       # every file of minilm/ and kernels/, in reading order
    table.resolve("minilm.functional", "softmax")     # Place("minilm.functional.softmax", "softmax")

The reading order is that of the docstrings: minilm/__init__.py names the floors, each package's docstring its files.
That of the kernels is the ladder in their README, which goes from folder to folder.
Names are found by reading the source (ast), imports are followed to where a thing is defined. What is only known
when the program runs (the attributes of a variable, say) is left without a link: no link is better than a wrong one.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = {"minilm": "minilm", "kernels": "minilm.kernels"}
"""The folders of the library, each with the name it is imported under."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Place:
    """Where a name is defined: the module, and the name in it ("" for the module itself)."""

    module: str
    name: str = ""


@dataclass
class Module:
    """One file: its tree, what it defines, and what it imports."""

    name: str
    path: Path
    source: str
    tree: ast.Module
    defined: dict[str, int] = field(default_factory=dict)  # the line of each
    imported: dict[str, Place] = field(default_factory=dict)
    bases: dict[str, list[ast.expr]] = field(default_factory=dict)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def module_name(path: Path) -> str:
    """The dotted name of a file (its path relative to the repository): minilm/nn/linear.py is minilm.nn.linear."""
    parts = [*FOLDERS.get(path.parts[0], path.parts[0]).split("."), *path.with_suffix("").parts[1:]]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def mentioned_order(names: list[str], text: str) -> list[str]:
    """`names` in the order in which a docstring speaks of them; those it does not name come last.

    A line of a list that begins with the name counts before a mention after the words "reading order" or "one file
    each", and that before any other mention.
    """
    start = max((found.end() for found in re.finditer(r"eading order|one file each", text)), default=0)

    def key(name: str) -> tuple[int, int, str]:
        word = re.escape(name)
        in_list = re.search(rf"^[ \t]*(?:[\w/]+, )*{word}/?(?=[ ,:(]|$)", text[start:], re.MULTILINE)
        later = re.search(rf"(?<![\w.]){word}(?!\w)", text[start:])
        anywhere = re.search(rf"(?<![\w.]){word}(?!\w)", text)
        if in_list and not (later and start):
            return 0, start + in_list.end(), name
        if later and start:
            return 0, start + later.start(), name
        return (1, anywhere.start(), name) if anywhere else (2, 0, name)

    return sorted(names, key=key)


class SymbolTable:
    """All files of the library and the names in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[str, Module] = {}
        for folder in FOLDERS:
            for path in sorted((root / folder).rglob("*.py")):
                self._read(path.relative_to(root))
        for module in self.modules.values():
            self.collect(module)
        self.files = [*self._ordered(Path("minilm")), *self._climbed(Path("kernels"))]

    def _read(self, path: Path) -> None:
        source = (self.root / path).read_text(encoding="utf-8")
        name = module_name(path)
        self.modules[name] = Module(name, path, source, ast.parse(source))

    def collect(self, module: Module) -> None:
        """Find what a module defines and imports."""

        def visit(body: list[ast.stmt], prefix: str) -> None:
            for node in body:
                if isinstance(node, Definition):
                    module.defined.setdefault(prefix + node.name, node.lineno)
                    if isinstance(node, ast.ClassDef):
                        module.bases[prefix + node.name] = node.bases
                        visit(node.body, f"{prefix}{node.name}.")
                elif isinstance(node, ast.Assign | ast.AnnAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    for target in targets:
                        if isinstance(target, ast.Name):
                            module.defined.setdefault(prefix + target.id, node.lineno)
                elif isinstance(node, ast.If | ast.Try | ast.With):
                    visit(node.body, prefix)

        visit(module.tree.body, "")
        package = module.name if module.is_package else module.name.rpartition(".")[0]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        module.imported[alias.asname] = Place(alias.name)
                    else:
                        module.imported[alias.name.partition(".")[0]] = Place(alias.name.partition(".")[0])
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = package.split(".")
                    base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
                for alias in node.names:
                    module.imported[alias.asname or alias.name] = Place(base, alias.name)

    def _ordered(self, folder: Path) -> list[Path]:
        """The files below a folder, the package's own first."""
        here = [path.name for path in (self.root / folder).iterdir() if (path / "__init__.py").exists()]
        here += [p.stem for p in (self.root / folder).glob("*.py") if p.name != "__init__.py"]
        package = self.modules[module_name(folder / "__init__.py")]
        text = ast.get_docstring(package.tree) or ""
        files = [folder / "__init__.py"]
        for name in mentioned_order(here, text):
            if (self.root / folder / name / "__init__.py").exists():
                files += self._ordered(folder / name)
            else:
                files.append(folder / f"{name}.py")
        return files

    def _climbed(self, folder: Path) -> list[Path]:
        """The kernels: as the ladder in their README links them.

        What it does not link stands before the first that imports it, else where its package's docstring has it
        among its neighbours, else last.
        """
        readme = (self.root / folder / "README.md").read_text(encoding="utf-8")
        ladder = readme.partition("\n## The ladder")[2].partition("\n## ")[0]
        linked = dict.fromkeys(folder / name for name in re.findall(r"\]\(([\w/]+\.py)\)", ladder))
        every = self._ordered(folder)
        done = dict.fromkeys(every[:1])

        def put(path: Path) -> None:
            if path in done:
                return
            done[path.parent / "__init__.py"] = None
            for used in self.imports(path):
                if used in every and used not in linked:
                    put(used)
            done[path] = None

        for path in linked:
            inside = [p for p in every if p.parent == path.parent and p.name != "__init__.py"]
            here = inside.index(path)
            if path.parent != folder:
                before = [p for p in inside[:here] if p not in linked]
                after = [] if any(p in linked and p not in done for p in inside[here + 1 :]) else inside[here + 1 :]
                for beside in [*before, path, *after]:
                    put(beside)
            put(path)
        for path in every:
            put(path)
        return list(done)

    def imports(self, path: Path) -> list[Path]:
        """The files of the library that a file imports when it is imported itself."""
        nodes = self.modules[module_name(path)].tree.body
        names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        return [self.modules[name].path for name in names if name in self.modules]

    def resolve(self, module: str, dotted: str, depth: int = 0) -> Place | None:
        """Where the name `dotted`, used in `module`, is defined; None if that is not in the library, or not known."""
        if depth > 12:  # two modules that import a name from each other
            return None
        here = self.modules.get(module)
        if here is None:
            return None
        first, _, rest = dotted.partition(".")
        if first in here.defined:
            return self._member(module, first, rest, depth)
        if first in here.imported:
            target = here.imported[first]
            return self._follow(target, rest, depth)
        if f"{module}.{first}" in self.modules:  # a submodule, seen from its package
            return self._follow(Place(f"{module}.{first}"), rest, depth)
        if here.name == "minilm" and (found := self._lazy(first)):
            return self._follow(found, rest, depth)
        return None

    def _follow(self, target: Place, rest: str, depth: int) -> Place | None:
        """The definition behind an import, and then the attributes `rest` of it."""
        if target.name:
            dotted = f"{target.name}.{rest}" if rest else target.name
            found = self.resolve(target.module, dotted, depth + 1)
            if found is None and f"{target.module}.{target.name}" in self.modules:
                return self._follow(Place(f"{target.module}.{target.name}"), rest, depth + 1)
            return found
        if target.module not in self.modules:
            return None
        return self.resolve(target.module, rest, depth + 1) if rest else target

    def _member(self, module: str, name: str, rest: str, depth: int = 0) -> Place | None:
        """An attribute of something that a module defines: of a class, or of one of its bases."""
        if not rest:
            return Place(module, name)
        here = self.modules[module]
        if name not in here.bases:
            return None
        if f"{name}.{rest}" in here.defined:
            return Place(module, f"{name}.{rest}")
        for base in here.bases[name]:
            found = self.resolve(module, f"{ast.unparse(base)}.{rest}", depth + 1)
            if found is not None:
                return found
        return None

    def _lazy(self, name: str) -> Place | None:
        """minilm/__init__.py hands its names on when they are first used: it says where they live in _HOMES."""
        for node in self.modules["minilm"].tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
                home = ast.literal_eval(node.value).get(name)
                return Place(f"minilm.{home}", name) if home else None
        return None
