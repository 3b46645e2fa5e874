"""Formulas of docstrings: each that can be set is set, and what is no formula keeps its lines."""

import inspect
import re
from html import unescape

import pytest
from blocks import aligned, read_block
from inline import with_formulas_set
from readable import readable

from annotate import rows_of
from formulas import latex
from minilm import functional
from minilm.tensor.operation import OPERATIONS
from prose import as_markdown, block_html, formulas_in_markdown, render
from symbols import SymbolTable
from tests.book.test_annotate import module_of
from tests.package.source import ROOT

DRAWINGS = {
    "minilm/text/buckets.py": "rows in order of their length",
    "minilm/evaluation/windows.py": "windows over a row of tokens",
    "kernels/adamw/triton.py": "a table with three columns of words",
    "kernels/tiles.py": "a Python dictionary",
}
"""Files with a block that has signs of a formula in it, and is none."""

# An equation, or what only formulas have. Quotation marks are those of programs.
FORMULA = re.compile(
    r"^[^\"=]*[\w)\]'²\u0302] (?:=|\+=|<-|≈|<=|>=) [^\"]+$|[²³ᵀ√Σ∂]|\w\^|\bsqrt\b|\b(?:sum|mean|max)_\w", re.MULTILINE
)


def unset_formulas(modules):
    """(file, block) of each block with an equation in it that a page shows as it stands in the docstring."""
    found = []
    for module in modules:
        html = "".join(render(text) for row in rows_of(module) for text in row.prose)
        kept = map(unescape, re.findall(r'<div class="formula">(.*?)</div>', html, re.DOTALL))
        found += [(module.path.as_posix(), block) for block in kept if FORMULA.search(block)]
        lines = map(unescape, re.findall(r'<td class="words"[^>]*>(.*?)</td>', html))  # between formulas
        found += [(module.path.as_posix(), line) for line in lines if re.match(r"[^=]{1,30} = ", line)]
    return found


def test_every_formula_of_a_docstring_is_set():
    left = unset_formulas(SymbolTable(ROOT).modules.values())
    assert [(path, block) for path, block in left if path not in DRAWINGS] == []
    assert {path for path, _ in left} == set(DRAWINGS)


@pytest.mark.parametrize(
    "block, line",
    [("y = x ⊛ z", "y = x ⊛ z"), ("y = f(x", "y = f(x"), ("y = 2\n    x = 2 $ 3", "x = 2 $ 3")],
)
def test_a_formula_in_a_notation_that_nobody_taught_is_seen(block, line):
    module = module_of(f'"""Words.\n\n    {block}\n\nMore words.\n"""\n')
    assert unset_formulas([module]) == [("minilm/planted.py", line)]


@pytest.mark.parametrize("name", sorted(name for name in functional.__all__ if name in OPERATIONS))
def test_an_operation_says_its_formula_its_vjp_its_shapes_and_its_source(name):
    body = OPERATIONS[name].body
    text = f"{inspect.getdoc(inspect.getmodule(body))}\n\n{inspect.getdoc(body)}"
    html = render(inspect.getdoc(inspect.getmodule(body))) + render(inspect.getdoc(body))
    formulas = re.findall(r"\\[\[(](.*?)\\[\])]<", html, re.DOTALL)
    assert any("=" in formula for formula in formulas), "no formula that is set"
    assert any(re.search(r"\\mathrm\{d", formula) for formula in formulas), "no vjp that is set"
    assert re.search(r"[Ss]hape|\(\.\.\., ", text), "no shapes"
    assert re.search(r"\b(?:19|20)\d\d\b|NumPy", text), "no source"


@pytest.mark.parametrize(
    "plain, expected",
    [
        ("y = tanh x", r"y=\tanh x"),
        ("y_i = e^(x_i) / sum_j e^(x_j)", r"y_{i}=\frac{e^{x_{i}}}{\sum _{j}e^{x_{j}}}"),
        ("db = -g a / b^2", r"\mathrm{d}b=-\frac{g\,a}{b^{2}}"),
        ("y = 1/n sum_i x_i", r"y=1/n\,\sum _{i}x_{i}"),
        ("z (x / 2)", r"z\,\mathopen{}\left(\frac{x}{2}\right)"),
        ("p = C[k, k] / sum_i C[i, k]", r"p=\frac{C[k,k]}{\sum _{i}C[i,k]}"),
        ("a / b / c", r"\frac{\frac{a}{b}}{c}"),
        ("x = (s - w) / (n - w) clipped", r"x=\frac{s-w}{n-w}\ \mathrm{clipped}"),
        ("dW = gᵀ x", r"\mathrm{d}W=g^\top\,x"),
        ("S = Q Kᵀ / sqrt(D)", r"S=\frac{Q\,K^\top}{\sqrt{D}}"),
        ("u = √(2/π) x", r"u=\sqrt{2/\pi }\,x"),
        ("z / sqrt 2", r"\frac{z}{\sqrt{2}}"),
        ("y = ∫_0^x e^(-t^2) dt", r"y=\int _{0}^{x}e^{-t^{2}}\,\mathrm{d}t"),
        ("x̂ = (x - μ) r", r"\hat{x}=(x-\mu )\,r"),
        ("p = mhat / (norm + 1e-6)", r"p=\frac{\hat{m}}{\mathrm{norm}+10^{-6}}"),
        ("h_(t-1)", "h_{t-1}"),
        ("p(x_t | x_<t)", r"p(x_{t}\mid x_{<t})"),
        ("e^l_w", "e^{l_{w}}"),
        ("c = a ^ b", r"c=a\oplus b"),
        ("db = sum over rows of g", r"\mathrm{d}b=\sum_{\text{rows}} g"),
        ("dx = sum over k with p(k) = i of g_k", r"\mathrm{d}x=\sum_{k\text{ with }p(k)=i} g_{k}"),
        ("v = max over t of h_t", r"v=\max_{t} h_{t}"),
        ("q in {0, 1}", r"q\in \{0,1\}"),
        ("|g_i| / 2", r"\frac{|g_{i}|}{2}"),
        ("y = f(", None),
        ('y = "text"', None),
        ("y = x & z", None),
        ("x / ", None),
        ("the y of the x is in the z", None),
    ],
)
def test_formulas_in_plain_characters_become_latex(plain, expected):
    assert latex(plain) == expected


def test_equations_stand_below_each_other_and_long_chains_are_broken():
    assert aligned(read_block("y = a b;  da = g b,  db = g a")).count(r"\\") == 2
    assert aligned(read_block("y = a b = b a")).count(r"\\") == 0
    chain = "delta = sum_k weight_k (dout · value_k) = dout · out + nothing"
    assert aligned(read_block(chain)).count("&=") == 2


def test_names_and_remarks_stand_beside_their_formulas():
    block = read_block("loss    NLL / N      nats per token\nppl     exp(NLL / N)      of how many\n   more words")
    assert [(row.label, row.remark) for row in block.rows] == [
        ("loss", "nats per token"),
        ("ppl", "of how many more words"),
    ]
    assert "$" not in block_html("h_t = o        h_t is the input of step t + 1")
    html = block_html("h_t = o        h_t is enough, and `c`")
    assert r"\(h_{t}\)</span> is enough, and <code>c</code>" in html and "<table" in html


def test_a_list_of_names_becomes_a_table_whose_words_may_wrap():
    block = read_block("softmax   scores to weights\nlosses    what is to become small,\n          and how")
    assert block.entries == [("softmax", "scores to weights"), ("losses", "what is to become small, and how")]
    assert "<code>softmax</code>" in block_html("softmax   scores to weights\nlosses    what is to become small")


@pytest.mark.parametrize(
    "block",
    [
        "tokens      x0 x1 x2 x3          T = 4\nwindow 0    x0 x1                  scores x1 x2",
        "blocks      [--- gathered ---][-----------]\n            | bias   | bias   |",
        "f   i   o   c_(t-1)   g   tanh(c_t)",
    ],
)
def test_drawings_keep_their_lines(block):
    assert read_block(block) is None


def test_a_block_of_formulas_a_program_and_commands_are_told_apart():
    html = block_html("y = a b\n\ntrainer = Trainer(model, steps=3)  # as it is\n\nminilm train gpt --out runs/a")
    assert html.count("arithmatex") == 1 and '<span class="c1"># as it is</span>' in html
    assert "<pre><code>minilm train gpt --out runs/a</code></pre>" in html


def test_the_api_reference_and_the_documents_set_the_same_formulas():
    docstring = "Words.\n\n    y = a b\n\n    f(x=1)\n\n    f(x=2)\n\nMore.\n\nArgs:\n    x: one\n\n    y: two\n"
    shown = as_markdown(docstring)
    assert '<div class="arithmatex">\\[y=a\\,b\\]</div>' in shown and "    y: two" in shown
    assert shown.isascii() and "\n\n" in shown[shown.index("<pre>") : shown.index("</pre>")]  # a program can be copied
    document = "# Title\n\n    y = a b\n\n```python\n\n    y = a b\n\n```\n\n    make book\n\n"
    assert formulas_in_markdown(document).count("arithmatex") == 1


@pytest.mark.parametrize(
    "tex, plain",
    [
        (latex("y_i = e^(x_i) / sum_j e^(x_j)"), "y_i = (e^(x_i)) / (Σ_je^(x_j))"),
        (r"\text{top}' = \max(\text{top}, \max_j s_j)", "top' = max(top, max_j s_j)"),
        (r"\begin{aligned}\mathrm{d}x&=\frac{g}{2} \\[0.4em] y&=\varepsilon\end{aligned}", "dx = g / 2; y = ε"),
        (r"x \in \mathbb{R}^{T \times D}", "x ∈ R^(T × D)"),
    ],
)
def test_where_nothing_sets_a_formula_it_can_be_read(tex, plain):
    assert readable(tex) == plain


def test_the_names_and_the_formulas_in_a_sentence_are_set_and_what_words_complete_is_left():
    text = "x_t goes through W_hh; so y' =\n1/x, `h_t` and sm_90 stay, dW = sum of x_i g.\n\n    q_t  [ drawn ]\n"
    html = render(text)
    assert re.findall(r"\\\((.*?)\\\)", unescape(html)) == ["x_{t}", "W_{hh}", "y'=1/x"]
    assert "<code>h_t</code> and sm_90 stay" in html and "dW = sum of" in html and "q_t  [ drawn ]" in html
    assert as_markdown("So x_t.\n\nArgs:\n    x_t: one\n") == "So $x_{t}$.\n\nArgs:\n    x_t: one"


@pytest.mark.parametrize(
    "words, shown",
    [
        ("From ∂y_i/∂x = y_i (δ_ij - y): it", r"From $\partial y_{i}/\partial x=y_{i}\,(\delta _{ij}-y)$: it"),
        ("so e^y = x, and a b^2 = c.", "so $e^{y}=x$, and a $b^{2}=c$."),
        ("At k = 1 greedy", "At $k=1$ greedy"),
        ("p(w | h) = c(h w) / c(h):", r"$p(w\mid h)=\frac{c(h\,w)}{c(h)}$:"),
        *(
            (left, left)
            for left in (
                "k = 1 .. n",
                "dx = g [low <= x <= high]",
                "y = weight x / sqrt(mean(x²) + eps)",
                "y[.., j, ..] = x[.., k, ..]",
                "x = x + attention(x)",
                "<v, J u> = <Jᵀ v, u>",
                "D=128, axis=-1 and a -> b",
                "1 - e^-2z alone",
                "y' = df/dx . x_t",
                "- b = c^2 -\n- d + e",
            )
        ),
    ],
)
def test_a_formula_in_a_sentence_is_set_as_a_whole_or_not_at_all(words, shown):
    assert with_formulas_set(words) == shown
