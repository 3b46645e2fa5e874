"""The source pages: every line of a file once, names linked to what they mean, formulas as formulas."""

import ast
import re
from html import unescape
from pathlib import Path

import pytest

from annotate import Annotator, balanced, links_of, local_names, rows_of
from connections import Connections, missing_from_the_table
from minilm.tensor.operation import OPERATIONS
from prose import as_markdown, leading_formula, render
from symbols import Module, Place, SymbolTable, mentioned_order, module_name
from tests.package.source import ROOT, library_files


@pytest.fixture(scope="module")
def table():
    return SymbolTable(ROOT)


@pytest.fixture(scope="module")
def connections(table):
    return Connections(table)


def module_of(source, path="minilm/planted.py"):
    return Module(module_name(Path(path)), Path(path), source, ast.parse(source))


def address(place):
    return f"{place.module}#{place.name}"


def text_of(html):
    return unescape(re.sub(r"<[^>]+>", "", html))


def test_the_pages_are_all_files_of_the_library_each_once(table):
    assert sorted(table.files) == library_files()


def test_the_reading_order_is_that_of_the_docstrings(table):
    order = [path.as_posix() for path in table.files]
    expected = [
        *("minilm/__init__.py", "minilm/errors.py", "minilm/backend.py", "minilm/tensor/tensor.py"),
        *("minilm/tensor/tape.py", "minilm/functional/elementwise.py", "minilm/functional/softmax.py"),
        *("minilm/nn/module.py", "minilm/text/tokenizers/char.py", "minilm/models/gpt.py"),
        "minilm/training/trainer.py",
        *("kernels/__init__.py", "kernels/attention/loops.py", "kernels/attention/blocked.py"),
    ]
    assert [path for path in order if path in expected] == expected


def test_a_list_counts_before_a_sentence_and_what_is_not_named_comes_last():
    text = "About pairs. Read them in this order.\n\n    bytes   first\n    pairs   second\n"
    assert mentioned_order(["extra", "pairs", "bytes"], text) == ["bytes", "pairs", "extra"]


@pytest.mark.parametrize("path", library_files(), ids=str)
def test_each_line_of_a_file_stands_in_one_row_and_every_word_of_it_on_the_page(table, path):
    module = table.modules[module_name(path)]
    rows = rows_of(module)
    lines = module.source.splitlines()
    assert [n for row in rows for n in range(row.first, row.last + 1)] == list(range(1, len(lines) + 1))
    page = text_of(Annotator(table).page(path, address).html)
    code = [lines[n - 1] for row in rows for n in range(row.first, row.last + 1) if n not in row.hidden]
    for line in code:
        assert line.rstrip() in page
    for row in rows:
        for line in range(row.first, row.last + 1):
            if line in row.hidden:  # a docstring or a comment: nothing that runs may be hidden
                assert not re.match(r"\s*(def|class|return|if|for|import|@)\b", lines[line - 1]) or row.prose


def test_a_comment_in_a_body_begins_a_row_and_a_comment_in_an_expression_does_not():
    source = "def f(x):\n    a = x\n    # why b\n    b = [\n        # not here\n        a,\n    ]\n    return b\n"
    rows = rows_of(module_of(source))
    assert [(row.first, row.last, row.prose, row.hidden) for row in rows[-2:]] == [
        (1, 2, [], set()),
        (3, 8, ["why b"], {3}),
    ]


def test_methods_and_documented_inner_functions_begin_rows():
    source = 'class A:\n    "A."\n\n    def m(self):\n        "M."\n\n        def inner():\n            "I."\n'
    rows = rows_of(module_of(source))
    assert [(row.name, row.prose) for row in rows if row.prose] == [("A", ["A."]), ("A.m", ["M."]), ("", ["I."])]


@pytest.mark.parametrize(
    "module, name, place",
    [
        ("minilm.models.gpt", "F.softmax", Place("minilm.functional.softmax", "softmax")),
        ("minilm", "Tensor", Place("minilm.tensor.tensor", "Tensor")),
        ("minilm.functional", "softmax", Place("minilm.functional.softmax", "softmax")),
        ("minilm.nn", "Linear.train", Place("minilm.nn.module", "Module.train")),
        ("minilm.kernels.attention.blocked", "check", Place("minilm.kernels.attention.arguments", "check")),
        ("minilm.functional.softmax", "np.exp", None),
        ("minilm.functional.softmax", "no_such_name", None),
    ],
)
def test_names_lead_to_where_they_are_defined(table, module, name, place):
    assert table.resolve(module, name) == place


def test_a_parameter_hides_the_function_of_its_name(table):
    module = module_of("from minilm.functional import softmax\n\ndef f(softmax):\n    return softmax\n\ny = softmax\n")
    table.collect(module)
    table.modules[module.name] = module
    try:
        linked = links_of(module, table, address)
    finally:
        del table.modules[module.name]
    assert (6, 4) in linked and (4, 11) not in linked
    assert local_names(ast.parse("def f(a, *b):\n    c = 1").body[0]) == {"a", "b", "c"}


def test_names_in_one_line_of_a_list_are_read_in_the_order_of_the_line():
    text = "Read them in this order.\n\n    task, run   what, and how\n    begin, end  the rest\n"
    assert mentioned_order(["begin", "end", "run", "task"], text) == ["task", "run", "begin", "end"]


def test_the_kernels_are_read_as_the_ladder_in_their_readme_climbs(table):
    order = [path.as_posix() for path in table.files if path.parts[0] == "kernels"]
    ladder = (ROOT / "kernels/README.md").read_text(encoding="utf-8").partition("## The ladder")[2]
    linked = [f"kernels/{name}" for name in re.findall(r"\]\(([\w/]+\.py)\)", ladder.partition("\n## ")[0])]
    assert len(linked) > 25 and [path for path in order if path in linked] == linked
    place = {path: i for i, path in enumerate(order)}
    for path in order:
        if "triton" in path:
            assert place["kernels/host.py"] < place[path], path
        if path != "kernels/__init__.py":  # a folder says what it holds before its files
            folder = path.rpartition("/")[0]
            assert place[f"{folder}/__init__.py"] <= place[path], path
    for helper, user in (("attention/arguments", "attention/blocked"), ("rnn/sequence", "lstm_cell/threaded")):
        assert place[f"kernels/{helper}.py"] == place[f"kernels/{user}.py"] - 1


def test_what_several_files_of_a_floor_use_is_read_before_they_are(table):
    """But for what the docstrings put later on purpose: the class that applies the update rules, say."""
    order = {module_name(path): i for i, path in enumerate(table.files)}
    early = {}
    for module in table.modules.values():
        if not module.is_package:
            for used in (module_name(path) for path in table.imports(module.path)):
                if order[used] > order[module.name] and used.rpartition(".")[0] == module.name.rpartition(".")[0]:
                    early.setdefault(used, []).append(module.name)
    later = {*("tensor.recording", "tensor.changes", "optim.optimizer", "functional.erf", "functional.precision")}
    several = {used.removeprefix("minilm.") for used, users in early.items() if len(users) > 1}
    assert {used for used in several - later if not used.startswith("cli.")} == set()


def test_every_registered_operation_has_tests_a_page_and_a_chapter(connections):
    assert set(connections.home_of) >= {n for n, op in OPERATIONS.items() if op.body.__module__.startswith("minilm.")}
    for name in connections.home_of:
        assert connections.tests[name], name
        assert connections.chapters(connections.table.modules[connections.home_of[name].module].path), name


def test_an_operation_knows_its_kernels_and_the_kernel_its_operation(connections):
    place = Place("minilm.kernels.softmax.threaded", "softmax")
    assert ("numpy", place) in connections.kernels["softmax"]
    assert ("softmax", "numpy") in connections.operations_of[place]
    assert connections.chapters(Path("kernels/attention/blocked.py")) == ["16"]


def test_the_table_of_what_is_taught_names_only_what_there_is(table):
    assert missing_from_the_table(table) == []


@pytest.mark.parametrize(
    "first, found",
    [
        ("y = a b;  da = g b,  db = g a.", True),
        ("dx_i = g.", True),
        ("The output y = a b of the product.", False),
        ("Return x = 1.", False),
        ("y = x with its axes in another order", False),
    ],
)
def test_only_an_opening_that_is_a_formula_is_taken_for_one(first, found):
    assert (leading_formula(first) is not None) == found


def test_docstrings_keep_their_signs_lists_and_latex():
    html = render("<v, J u> and a * b * c, g*y*z, `a < b`, $x^2$.\n\nRaises:\n    TypeError: if x < 0\n        or so.")
    assert "&lt;v, J u&gt;" in html and "a * b * c" in html and "g*y*z" in html and "<em>" not in html
    assert r'<span class="arithmatex">\(x^2\)</span>' in html
    assert '<p class="part">Raises</p>' in html
    assert "<dt><code>TypeError</code></dt><dd>if x &lt; 0\nor so.</dd>" in html
    shielded = as_markdown("y = a b.\n\n<v> a*b [i][j] `a*b`")
    assert shielded.startswith('<div class="arithmatex">\\[y=a\\,b\\]</div>\n')
    assert shielded.endswith("\n\n&lt;v> a\\*b &#91;i]&#91;j] `a*b`")
    assert as_markdown("A *step* is 2*B*T.\n\nArgs:\n    *args: all\n") == (
        "A *step* is 2\\*B\\*T.\n\nArgs:\n    \\*args: all"
    )


def test_a_program_in_a_docstring_is_coloured_and_names_are_linked():
    html = render("Use `softmax`:\n\n    y = F.softmax(x, axis=-1)\n", {"softmax": "page.html"}.get)
    assert 'class="highlight"' in html and '<a class="name" href="page.html"><code>softmax</code></a>' in html


def test_a_heading_between_methods_stands_above_the_next_one():
    source = "class A:\n    def a(self):\n        return 1\n\n    # --- walking\n\n    def b(self):\n        return 2\n"
    rows = rows_of(module_of(source))
    assert [(row.name, row.first, row.last, row.prose) for row in rows[-2:]] == [
        ("A.a", 2, 4, []),
        ("A.b", 5, 8, ["**walking**"]),
    ]


def test_the_heading_of_a_group_of_functions_stands_above_the_name(table):
    module = module_of("# ----- sums\n\ndef add(a, b):\n    return a + b\n")
    page = Annotator(table).page(module.path, address, module.source).html
    assert page.index('<p class="division">sums</p>') < page.index('<h2 id="add">')


def test_where_words_are_longer_than_code_the_comments_stay_in_it():
    docstring = "\n\n".join(["Words " * 40] * 4)
    source = f'def f(x):\n    """{docstring}"""\n    a = x\n    # why b\n    b = a\n    return b\n'
    (row,) = [row for row in balanced(rows_of(module_of(source))) if row.name == "f"]
    assert row.last == len(source.splitlines()) and source.splitlines().index("    # why b") + 1 not in row.hidden
    short = source.replace(docstring, "Words.")
    assert [row.prose for row in balanced(rows_of(module_of(short)))][-1] == ["why b"]


def test_imports_for_types_stand_with_the_other_imports():
    source = "import a\n\nif TYPE_CHECKING:\n    import b\n\nc = 1\n"
    assert [(row.first, row.last) for row in rows_of(module_of(source))] == [(1, 5), (6, 6)]


def test_a_source_of_several_lines_is_one_paragraph():
    html = render("Words.\n\nSource: a book,\nand another.\n\nMore words.")
    assert '<p class="part">Source</p>\n<p>a book,\nand another.</p>' in html and "<p>More words.</p>" in html


def test_a_document_with_several_titles_gets_one():
    from build import one_title

    text = "# A\n\n# B\n\n## C\n\n```sh\n# not a title\n```\n"
    assert one_title(text) == "# A\n\n## B\n\n### C\n\n```sh\n# not a title\n```\n"
    assert one_title("# A\n\n## B\n") == "# A\n\n## B\n"


def test_what_has_one_name_twice_has_one_anchor(table):
    """Two of an id, and the search fails at every word of that place: a property and its setter."""
    module = module_of("class A:\n    @property\n    def x(self):\n        return 1\n\n"
                       "    @x.setter\n    def x(self, value):\n        pass\n")
    page = Annotator(table).page(module.path, address, module.source).html
    assert page.count("<code>x</code></h3>") == 2 and page.count('id="A.x"') == 1


def test_words_for_markdown_keep_the_signs_of_code():
    from build import _plain

    assert _plain("a_b, `no_grad` and [c]") == r"a\_b, `no_grad` and \[c]"


def test_a_picture_is_described_by_its_heading_titles_and_axes():
    from build import drawn

    code = """
fig.suptitle("What is kept")
ax.set(xlabel="step", ylabel=r"$\\alpha$ of [x]")
ax.plot(x, label=f"{n}"); ax.plot(y, label="mean"); ax.plot(z, label="mean")
"""
    words = "Picture: Masks; What is kept; across step; upwards α of x; mean"
    assert drawn(code, "Masks") == words
    assert drawn("figure", "The `cache`") == "Picture: The cache"
