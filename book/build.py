"""Build the site: python book/build.py, or `make book`. See README.md beside this file.

1. build/book-pages is written: a page for each file of the library (annotate.py), for each executed chapter
   (nbconvert), for each document and result, and for each floor of the API; the navigation; MathJax out of an
   installed package.
2. MkDocs makes build/book of it, strictly: a link that leads nowhere is an error.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from readable import readable  # noqa: E402

from annotate import Annotator, first_sentence, is_docstring, plain_page  # noqa: E402
from connections import Connections  # noqa: E402
from prose import formulas_in_markdown  # noqa: E402
from site_map import DOCUMENTS, SiteMap, html_address, relative  # noqa: E402
from symbols import Definition, Place, SymbolTable, module_name  # noqa: E402

MATHJAX = "django-static-mathjax"  # a package that is nothing but MathJax's files
KERNELS = Path("kernels/README.md")
"""What is read before the files of the kernels."""

RUNGS = {"numpy": "threaded (NumPy)", "cupy": "CuPy", "triton": "Triton"}


class Site:
    """The pages of the site, written one after another into a folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.docs, self.html = out, out / "docs", out / "html"
        shutil.rmtree(out, ignore_errors=True)
        self.docs.mkdir(parents=True)
        self.map = SiteMap(ROOT)
        self.table = SymbolTable(ROOT)
        self.connections = Connections(self.table)
        self.chapters = chapters()
        self.summaries: dict[Path, str] = {}

    def write(self, page: str, text: str, fragment: str | None = None) -> None:
        """Write a page, and the HTML that takes the place of its Markdown."""
        path = self.docs / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if fragment is not None:
            path = self.html / f"{page}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fragment, encoding="utf-8")

    # ----- source pages

    def address(self, place: Place, page: str) -> str | None:
        """Where a definition stands, as seen from a page."""
        module = self.table.modules.get(place.module)
        target = self.map.page_of(module.path) if module else None
        if target is None:
            return None
        there = relative(html_address(target), html_address(page))
        there = "" if target == page and place.name else there
        return f"{there}#{place.name}" if place.name else there

    def link(self, path: Path, page: str, words: str | None = None) -> str:
        """A link in HTML to the page of a file."""
        target = self.map.page_of(path)
        assert target is not None, path
        return f'<a href="{relative(html_address(target), html_address(page))}">{escape(words or path.as_posix())}</a>'

    def extras(self, place: Place, page: str) -> str:
        """What belongs to a definition: the kernels, tests and chapters of an operation; the operation of a kernel."""
        lines = []
        here = self.connections
        if name := here.places.get(place):
            kernels = [
                f'<a href="{self.address(target, page)}">{RUNGS[backend]}</a>'
                for backend, target in here.kernels.get(name, [])
            ]
            if here.kernels.get(name):
                rungs = here.rungs(here.kernels[name][0][1])
                shown = {self.table.modules[t.module].path for _, t in here.kernels[name]}
                kernels = [self.link(p, page, p.stem) for p in rungs if p not in shown] + kernels
            lines.append(("Kernels", kernels or ["none: this body on every backend"]))
            named = Counter(p.name for p in here.tests[name])
            tests = {p: p.name if named[p.name] == 1 else f"{p.parent.name}/{p.name}" for p in here.tests[name]}
            lines.append(("Tests", [self.link(p, page, words) for p, words in tests.items()]))
        for name, backend in here.operations_of.get(place, []):
            home = here.home_of.get(name)
            words = f"<code>{name}</code> on the backend {backend}"
            address = self.address(home, page) if home else None
            lines.append(("Computes", [f'<a href="{address}">{words}</a>' if address else words]))
        rows = "".join(f"<dt>{label}</dt><dd>{', '.join(items)}</dd>" for label, items in lines)
        return f'<dl class="connections" data-search-exclude>{rows}</dl>' if rows else ""

    def source_page(self, path: Path, before: Path | None, after: Path | None, source: str | None = None) -> None:
        """The annotated page of a Python file."""
        page = self.map.page_of(path)
        assert page is not None
        annotator = Annotator(self.table, lambda place: self.extras(place, page))
        written = annotator.page(path, lambda place: self.address(place, page), source)
        self.summaries[path] = written.summary
        steps = ""
        if before:
            steps += f'<span>previous: {self.link(before, page)}</span>'
        if after:
            steps += f'<span>next: {self.link(after, page)}</span>'
        taught = [self.link(self.chapters[n], page, title_of(self.chapters[n])) for n in self.taught(path)]
        names = " ".join(
            f'<a class="{kind}" href="#{name}"><code>{escape(name)}</code></a>' for name, kind in written.contents
        )
        title = escape(path.as_posix()).replace("/", "/<wbr>")
        head = [f'<h1 id="top">{title}</h1>', f'<p class="steps" data-search-exclude>{steps}</p>']
        if names:
            head.append(f'<p class="names" data-search-exclude>{names}</p>')
        if taught:
            head.append(f'<p class="taught" data-search-exclude>Taught in: {"; ".join(taught)}</p>')
        html = written.html.replace('<div class="code">', '<div class="code" data-search-exclude>')
        hide = "hide: [navigation, toc, footer]\n" if source else "hide: [navigation, toc]\n"
        search = "search: { exclude: true }\n" if source else ""
        text = f"---\ntitle: {path.as_posix()}\n{hide}{search}---\n\n# {path.as_posix()}\n"
        self.write(page, text, "\n".join(head) + html)

    def taught(self, path: Path) -> list[str]:
        return [number for number in self.connections.chapters(path) if number in self.chapters]

    def source_pages(self) -> list[Any]:
        """The pages of the library, and the navigation between them."""
        files = list(self.table.files)
        files.insert(files.index(Path("kernels/__init__.py")), KERNELS)
        for before, path, after in zip([None, *files], files, [*files[1:], None], strict=False):
            if path != KERNELS:
                self.source_page(path, before, after)
        self.summaries[KERNELS] = _heading(KERNELS).partition(": ")[2]
        lines = [
            "---\nhide: [toc]\n---\n\n# The source, in reading order\n",
            "Each page shows a file: prose and formulas on the left, beside the code that they speak of. Names lead to "
            "their definitions; an operation leads to its kernels, its tests and its chapter.\n",
        ]
        navigation: dict[str, list[Any]] = {}
        for path in files:
            page = self.map.page_of(path)
            assert page is not None
            floor = path.parts[0] if path.parts[0] == "kernels" else path.parts[1].removesuffix(".py")
            floor = {"__init__": "minilm", "__main__": "cli"}.get(floor, floor)
            if floor not in navigation:
                navigation[floor] = []
                lines.append(f"\n## {floor}\n")
            navigation[floor].append({_heading(path) if path == KERNELS else path.as_posix(): page})
            words = f"[{_plain(path.as_posix())}]({relative(page, 'source/index.md')})"
            lines.append(f"- {words}: {_plain(self.summaries[path])}")
        self.write("source/index.md", "\n".join(lines) + "\n")
        return ["source/index.md", *({floor: pages} for floor, pages in navigation.items())]

    # ----- chapters

    def chapter_pages(self) -> list[Any]:
        """The executed notebooks as pages."""
        navigation: list[Any] = ["chapters/index.md"] if (ROOT / "notebooks/README.md").exists() else []
        for path in self.chapters.values():
            page = self.map.page_of(path)
            assert page is not None
            body, pictures = chapter_markdown(path, self.map)
            for name, content in pictures.items():
                target = self.docs / "chapters" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            self.write(page, body)
            navigation.append({title_of(path): page})
        return navigation

    # ----- documents, results, API

    def documents(self) -> tuple[list[Any], list[Any]]:
        """README and the like, and the results; the navigation of both."""
        for name in DOCUMENTS:
            if (ROOT / name).exists():
                self._document(Path(name))
        self._document(KERNELS)
        results = sorted(p.relative_to(ROOT) for p in (ROOT / "benchmarks" / "results").rglob("*.md"))
        for path in results:
            self._document(path)
        benchmarks = ["benchmarks/index.md", *({_heading(p): self.map.page_of(p)} for p in results)]
        project = [{_heading(Path(n)): DOCUMENTS[n]} for n in DOCUMENTS if n.endswith(".md") and "/" not in n]
        project.append({"How this site is made": DOCUMENTS["book/README.md"]})
        return benchmarks, project

    def _document(self, path: Path) -> None:
        page = self.map.page_of(path)
        assert page is not None
        text = one_title((ROOT / path).read_text(encoding="utf-8"))
        self.write(page, formulas_in_markdown(self.map.rewrite(text, path)))

    def api_pages(self) -> list[Any]:
        """A page for each floor: its public names, in the order of the files they come from."""
        navigation: list[Any] = ["api/index.md"]
        lines = ["# API reference\n", "What each floor of the library offers, from its docstrings.\n"]
        packages = [p for p in self.table.files if p.name == "__init__.py"]
        floors = [p for p in packages if len(p.parts) == 3 and p.parts[0] == "minilm"]
        singles = [Path("minilm/errors.py"), Path("minilm/backend.py"), Path("minilm/random.py")]
        order = {path: i for i, path in enumerate(self.table.files)}
        for path in [*singles, *floors]:
            if path.parts[1] == "cli":
                continue
            module = module_name(path)
            places = {self.table.resolve(module, name) for name in public_names(module)}
            found = sorted(
                (p for p in places if p and p.name in self.table.modules[p.module].defined),
                key=lambda p: (order[self.table.modules[p.module].path], p.name),
            )
            if not found:
                continue
            page = f"api/{module}.md"
            self.write(page, "\n".join([f"# {module}\n", self.about(module, page), *self.entries(found, page, 2)]))
            navigation.append({module: page})
            lines.append(f"- [{module}]({module}.md): {self.said(module)}")
        kernels, listed = self.kernel_api_pages()
        navigation.append({"minilm.kernels": kernels})
        lines += [f"- [minilm.kernels](minilm.kernels/index.md): {self.said('minilm.kernels')}", *listed]
        self.write("api/index.md", "\n".join(lines) + "\n")
        return navigation

    def kernel_api_pages(self) -> tuple[list[Any], list[str]]:
        """A page for each folder of kernels, and one before them for what they share; and the lines that list them."""
        first = "api/minilm.kernels/index.md"
        by_folder: dict[str, list[str]] = {}
        for path in self.table.files:
            if path.parts[0] == "kernels" and path.name != "__init__.py":
                by_folder.setdefault(path.parts[1] if len(path.parts) > 2 else "", []).append(module_name(path))
        shared = by_folder.pop("", [])
        navigation: list[Any] = [first]
        lines: list[str] = []
        for folder, modules in [*by_folder.items(), ("", shared)]:
            package = f"minilm.kernels.{folder}" if folder else "minilm.kernels"
            page = f"api/minilm.kernels/{folder}.md" if folder else first
            text = [f"# {package}\n", self.about(package, page)]
            if not folder:
                text += [*(line.strip().replace("minilm.kernels/", "") for line in lines), "\n## What they share\n"]
            for module in modules:
                text.append(f"## {_plain(module.removeprefix(f'{package}.'))}\n")
                text.append(self.about(module, page))
                text += self.entries(self.public_places(module), page, 3)
            self.write(page, "\n".join(text))
            if folder:
                navigation.append({package: page})
                lines.append(f"    - [{package}](minilm.kernels/{folder}.md): {self.said(package)}")
        return navigation, lines

    def public_places(self, module: str) -> list[Place]:
        """What a file of kernels offers, which has no __all__: all that it defines and documents, in its order."""
        here = self.table.modules[module]
        found = []
        for i, node in enumerate(here.tree.body):
            if isinstance(node, Definition):
                name, documented = node.name, ast.get_docstring(node) is not None
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                name, documented = ast.unparse(target), any(map(is_docstring, here.tree.body[i + 1 : i + 2]))
            else:
                continue
            if documented and name.isidentifier() and not name.startswith("_"):
                found.append(Place(module, name))
        return found

    def said(self, module: str) -> str:
        """The first sentence of a module's docstring."""
        return _plain(first_sentence(ast.get_docstring(self.table.modules[module].tree)))

    def about(self, module: str, page: str) -> str:
        """What a module is, and where its source stands."""
        path = self.table.modules[module].path
        source = relative(self.map.page_of(path) or "", page)
        return f"{self.said(module)}. The source: [{_plain(path.as_posix())}]({source}).\n"

    def entries(self, places: Iterable[Place], page: str, level: int) -> list[str]:
        """The lines of a page that describe definitions, each with a link to its source."""
        text = []
        for place in places:
            text.append(f"::: {place.module}.{place.name}\n    options:\n      heading_level: {level}\n")
            there = html_address(self.map.page_of(self.table.modules[place.module].path) or "")
            target = relative(there, html_address(page))
            text.append(f'<p class="to-source"><a href="{target}#{place.name}">source</a></p>\n')
        return text

    def home(self) -> None:
        """The home page: the chapters as a list."""
        text = (HERE / "pages" / "index.md").read_text(encoding="utf-8")
        listed = "\n".join(f"- [{title_of(p)}](chapters/{p.stem}.md)" for p in self.chapters.values())
        self.write("index.md", text.replace("{chapters}", listed))

    def linked_pages(self) -> None:
        """What other pages link to: folders, tests and other code, texts, pictures. The last to be written."""
        for folder in sorted(self.map.folders):
            page = f"source/{folder.as_posix()}/index.md"
            listed = [p.relative_to(ROOT) for p in sorted((ROOT / folder).glob("*.py"))]
            links = [f"- [{_plain(p.name)}]({relative(self.map.page_of(p) or '', page)})" for p in listed]
            self.write(page, f"# {folder.as_posix()}\n\n" + "\n".join(links) + "\n")
        done: set[Path] = set()
        while waiting := self.map.code - done:
            for path in sorted(waiting):
                self.source_page(path, None, None, (ROOT / path).read_text(encoding="utf-8"))
            done |= waiting
        for path in sorted(self.map.wanted):
            page = self.map.page_of(path) or ""
            head = f'<h1 id="top">{escape(path.as_posix())}</h1>'
            text = f"---\ntitle: {path.as_posix()}\nsearch: {{ exclude: true }}\n---\n\n# {path.as_posix()}\n"
            self.write(page, text, head + plain_page((ROOT / path).read_text(encoding="utf-8")))
        for path in sorted(self.map.copied):
            target = self.docs / "files" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, target)

    def library(self) -> None:
        """The library as it is installed, for mkdocstrings: minilm with the folder kernels in it, by links."""
        package = self.out / "library" / "minilm"
        package.mkdir(parents=True)
        for path in [*(ROOT / "minilm").iterdir(), ROOT / "kernels"]:
            (package / path.name).symlink_to(path, target_is_directory=path.is_dir())

    def assets(self) -> None:
        """Style, scripts, and MathJax."""
        shutil.copytree(HERE / "assets", self.docs / "assets")
        files = importlib.metadata.files(MATHJAX) or []
        for file in files:
            if str(file).endswith("es5/tex-svg-full.js"):
                target = self.docs / "assets" / "mathjax" / "tex-svg-full.js"
                target.parent.mkdir()
                shutil.copy(file.locate(), target)
                break
        else:
            raise SystemExit(f"error: the package {MATHJAX} holds no es5/tex-svg-full.js")

    def all(self) -> None:
        """Write everything."""
        source = self.source_pages()
        chapters = self.chapter_pages()
        benchmarks, project = self.documents()
        api = self.api_pages()
        self.home()
        self.linked_pages()
        self.assets()
        self.library()
        navigation = [
            {"Home": "index.md"},
            {"Chapters": chapters},
            {"Source": source},
            {"API": api},
            {"Benchmarks": benchmarks},
            {"Project": project},
        ]
        (self.out / "nav.json").write_text(json.dumps(navigation, indent=1), encoding="utf-8")


def chapters() -> dict[str, Path]:
    """The notebooks by number."""
    found = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return {path.stem[:2]: path.relative_to(ROOT) for path in found}


def title_of(notebook: Path) -> str:
    """The heading of a chapter."""
    cells = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    return "".join(cells[0]["source"]).splitlines()[0].lstrip("# ").strip()


def _heading(path: Path) -> str:
    """The first heading of a document."""
    found = re.search(r"^# (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.stem


def one_title(markdown: str) -> str:
    """A document with a single heading of the first level, so that its contents are listed beside it."""
    pieces = re.split(r"(^(?:```|~~~)[\s\S]*?^(?:```|~~~)[ \t]*$)", markdown, flags=re.MULTILINE)
    if sum(len(re.findall(r"^# ", piece, re.MULTILINE)) for piece in pieces[::2]) < 2:
        return markdown
    pieces[::2] = [re.sub(r"^(?=#+ )", "#", piece, flags=re.MULTILINE) for piece in pieces[::2]]
    return "".join(pieces).removeprefix("#")


def _plain(text: str) -> str:
    """Words in which no sign means anything to Markdown, but for their code, in which none does anyway."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([*_<\[])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def public_names(module: str) -> list[str]:
    """What a module offers: its __all__, or all that it defines without an underscore."""
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None)
    if names is not None:
        return list(names)
    return [n for n, v in vars(loaded).items() if not n.startswith("_") and getattr(v, "__module__", "") == module]


def chapter_markdown(path: Path, pages: SiteMap) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, its links pointing at pages, and its pictures by name."""
    import nbformat
    from nbconvert import MarkdownExporter

    notebook = nbformat.read(ROOT / path, as_version=4)
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1]
            cell.source = spaced_lists(pages.rewrite(cell.source, path))
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["words"] = drawn(cell.source, heading)
    exporter = MarkdownExporter(template_name="chapter", extra_template_basedirs=[str(HERE / "templates")])
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_pictures"}
    body, resources = exporter.from_notebook_node(notebook, resources)
    note = (
        f"\n\n<p class='steps'>This page is a notebook, as it was executed. "
        f"<code>make lab</code> opens {path.as_posix()} so that you can change it and do the exercises.</p>\n"
    )
    body = re.sub(r"\A\s*(# [^\n]+)", lambda found: found[1] + note, body)
    return body, resources.get("outputs", {})


def drawn(code: str, heading: str) -> str:
    """What a picture shows, for those who do not see it: the heading above it, its titles, the names of its axes."""
    kinds = {"title": "", "suptitle": "", "xlabel": "across ", "ylabel": "upwards ", "label": ""}
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", "").removeprefix("set_")
        given = [(keyword.arg, keyword.value) for keyword in node.keywords] + [(name, a) for a in node.args[:1]]
        for kind, value in given:
            parts = value.values if isinstance(value, ast.JoinedStr) else [value]
            texts = [str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts]
            if kind in found and re.search(r"[^\W\d]", "".join(texts)):
                found[kind].append(re.sub(r"\$([^$]*)\$", lambda tex: readable(tex[1]), "".join(texts)))
    said = [first + text for kind, first in kinds.items() for text in dict.fromkeys(found[kind])]
    words = " ".join(f"Picture: {'; '.join([heading, *said])}".split())
    return escape(re.sub(r"[\[\]$\\{}`*]", "", words))


def spaced_lists(markdown: str) -> str:
    """Jupyter begins a list right below a line of text; this Markdown needs an empty line between them."""
    lines: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        item = re.match(r"(?:[-*+]|\d+\.) ", line)
        if item and not fenced and lines and lines[-1].strip() and not re.match(r"\s|(?:[-*+]|\d+\.) ", lines[-1]):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the site into build/book.")
    parser.add_argument("--lenient", action="store_true", help="go on where MkDocs warns (a chapter is being written)")
    options = parser.parse_args()
    start = time.perf_counter()
    Site(ROOT / "build" / "book-pages").all()
    print(f"pages written in {time.perf_counter() - start:.1f} s")
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(HERE / "mkdocs.yml")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # about Zensical, see README.md
    command += [] if options.lenient else ["--strict"]
    status = subprocess.run(command, cwd=HERE, env=environment).returncode
    print(f"site in build/book, {time.perf_counter() - start:.1f} s; open build/book/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
