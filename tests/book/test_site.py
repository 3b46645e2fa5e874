"""The site as a reader has it: from file://, on a telephone and on a desk, light and dark; and each fault is seen."""

import json
import re
import shutil
from html import unescape

import pytest

from symbols import SymbolTable
from tests.book.looking import Sight, broken_links, repeated_places, steps
from tests.package.source import ROOT

WIDTHS = (375, 1440)
SCHEMES = ("light", "dark")
PAGES = [
    "index.html",
    "chapters/index.html",
    "source/index.html",
    "source/minilm/functional/softmax.html",
    "source/minilm/tensor/operation.html",
    "source/kernels/attention/blocked.html",
    "source/kernels/index.html",
    "source/tests/functional/test_softmax.html",
    "source/minilm/optim/schedules.html",
    "api/minilm.functional.html",
    "api/minilm.kernels/index.html",
    "api/minilm.kernels/attention.html",
    "api/minilm.training.html",
    "benchmarks/index.html",
    "benchmarks/results/REPORT.html",
    "project/index.html",
]
FAULTS = {
    "a formula as text": ("<p>see $$ x^2 $$</p>", "a formula as text: see $$ x^2 $$"),
    "a formula that nothing set": ('<p class="arithmatex">x</p>', "a formula as text: not set"),
    "a formula that cannot be seen": (
        '<div class="arithmatex"><mjx-container><svg width="1" height="9"></svg></mjx-container></div>',
        "a formula as text: not to be seen",
    ),
    "an error in the console": ("<script>console.error('planted')</script>", "console: planted"),
    "an exception": ("<script>null.x</script>", "error: "),
    "a missing file": ('<img src="nothing.png">', "cannot be read: file:"),
    "a request to the network": ('<img src="http://127.0.0.1:9/x.png">', "leaves the site: http://127.0.0.1:9/x.png"),
    "a page that is too wide": ('<main><p style="width: 3000px">x</p></main>', "wider than the screen"),
}


# What people look for, and the page (and place) that should come first.
QUESTIONS = {
    "online softmax": "source/kernels/index.html#online-softmax-in-five-lines",
    "gradient": "chapters/",
    "beam search": "source/minilm/generation/beam_search.html",
    "KV cache": "source/minilm/nn/cache.html#KVCache",
    "LoRA": "source/minilm/training/lora.html",
    "layer norm": "source/minilm/functional/normalization.html#layer_norm",
    "cross entropy": "source/minilm/functional/losses.html#cross_entropy",
    "label smoothing": "chapters/08_transformer.html#label-smoothing",
    "perplexity": "chapters/12_how_good.html#perplexity-by-hand",
    "scaled_dot_product_attention": "source/minilm/functional/attention.html#scaled_dot_product_attention",
    "Trainer": "source/minilm/training/trainer.html#Trainer",
}


@pytest.fixture(scope="session")
def chapters(site):
    return sorted((site / "chapters").glob("[0-9][0-9]_*.html"))


def test_no_link_is_broken_and_nothing_is_fetched_from_elsewhere(site):
    assert broken_links(site) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_whole_at_every_width_light_and_dark(site, browser, width, scheme):
    with Sight(browser, width, scheme) as sight:
        wrong = {name: found for name in PAGES if (found := sight.wrong(site / name))}
        shown = sight.page.evaluate("document.body.dataset.mdColorScheme")
    assert wrong == {}
    assert shown == {"light": "default", "dark": "slate"}[scheme]


@pytest.mark.timeout(180)  # nineteen chapters, with hundreds of formulas
@pytest.mark.parametrize("width, scheme", [(375, "light"), (1440, "dark")])
def test_chapters_are_whole_and_their_formulas_are_set(browser, chapters, width, scheme):
    formulas = 0
    with Sight(browser, width, scheme) as sight:
        wrong = {}
        for path in chapters:
            wrong[path.name] = sight.wrong(path)
            formulas += sight.page.locator("mjx-container svg").count()
    assert {name: found for name, found in wrong.items() if found} == {}
    assert formulas >= 10 * len(chapters)


def test_mathjax_understands_every_formula_of_the_source_and_the_api(site, browser):
    """In one page, since opening each takes longer; every eighth page is opened below."""
    formulas = set()
    for page in [p for f in ("source/minilm", "source/kernels", "api") for p in sorted((site / f).rglob("*.html"))]:
        formulas |= set(re.findall(r'"arithmatex">\\[\[(](.*?)\\[\])]<', page.read_text(encoding="utf-8"), re.DOTALL))
    assert len(formulas) > 80
    with Sight(browser, 375, "dark") as sight:
        page = sight.open(site / "source/minilm/functional/softmax.html")
        refused = page.evaluate(
            """async (formulas) => {
              const set = async (f) => (await MathJax.tex2svgPromise(f)).querySelector("[data-mml-node=merror]");
              const found = [];
              for (const formula of formulas) if (await set(formula)) found.push(formula);
              return found;
            }""",
            [*map(unescape, sorted(formulas)), "x^2^3"],
        )
    assert refused == ["x^2^3"]  # the one planted here


def test_source_and_api_pages_are_whole_on_a_telephone(site, browser):
    pages = [p for f in ("source/minilm", "source/kernels", "api") for p in sorted((site / f).rglob("*.html"))]
    with Sight(browser, 375, "dark") as sight:
        wrong = {page.relative_to(site): found for page in pages[::8] if (found := sight.wrong(page))}
    assert wrong == {}


def test_every_chapter_has_a_page_with_its_pictures_and_folded_solutions(site, chapters):
    built = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert [path.stem for path in chapters] == [path.stem for path in built]
    for path, notebook in zip(chapters, built, strict=True):
        html, cells = path.read_text(encoding="utf-8"), json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        solutions = sum("solution" in cell["metadata"].get("tags", []) for cell in cells)
        assert html.count('<details class="solution">') == solutions
        assert html.count("<img ") >= sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_search_finds_online_softmax_and_leads_there(site, browser, width):
    with Sight(browser, width, "light") as sight:
        page = sight.open(site / "index.html")
        if width < 1000:
            page.locator("label[for=__search].md-header__button").click()
        page.locator("input[name=query]").press_sequentially("online softmax")
        first = page.locator(".md-search-result__link").first
        first.wait_for(timeout=20_000)
        assert "\\(" not in page.locator(".md-search-result").inner_text()  # no LaTeX where nothing sets it
        address = first.get_attribute("href")
        first.click()
        name = address.partition("?")[0].partition("#")[0].rpartition("/")[2]
        page.wait_for_url(lambda url: f"/{name}" in url)
        assert "online softmax" in page.locator("main").inner_text().lower()
        assert sight.problems == []


def test_what_people_look_for_comes_first(site, browser):
    first = {}
    with Sight(browser, 1440, "light") as sight:
        page = sight.open(site / "index.html")
        field = page.locator("input[name=query]")
        for question in QUESTIONS:
            field.fill("")
            field.press_sequentially(question)
            page.wait_for_function(
                """(question) => {  // until what is found is marked with all the words
                  const words = question.toLowerCase().split(/[\\s_]+/);
                  const marked = (link) => (new URL(link.href).searchParams.get("h") || "").split(" ");
                  const links = [...document.querySelectorAll(".md-search-result__link")];
                  return links.some((link) => words.every((word) => marked(link).includes(word)));
                }""",
                arg=question,
                timeout=20_000,
            )
            links = page.locator(".md-search-result__item").first.locator(".md-search-result__link").all()
            first[question] = [link.get_attribute("href").removeprefix(f"{site.as_uri()}/") for link in links[:2]]
        assert sight.problems == []
    first = {question: [re.sub(r"\?h=[^#]*", "", link) for link in links] for question, links in first.items()}
    assert {q: found for q, found in first.items() if not any(link.startswith(QUESTIONS[q]) for link in found)} == {}


def test_no_id_stands_twice_in_a_page(site, tmp_path):
    assert repeated_places(site) == []
    (tmp_path / "page.html").write_text('<h2 id="a">x</h2><pre> id="a"</pre><h3 id="a">y</h3>', encoding="utf-8")
    assert repeated_places(tmp_path) == ["page.html: a 2 times"]


def test_the_feet_of_the_source_pages_lead_through_all_files_as_their_heads_do(site):
    page, walked = site / "source/index.html", []
    while (page := steps(page)[1]).is_relative_to(site / "source"):
        walked.append(page.relative_to(site / "source").with_suffix(".py").as_posix())
        head, foot = steps(page)
        assert head in (None, foot), page
    files = [path.as_posix() for path in SymbolTable(ROOT).files]
    files.insert(files.index("kernels/__init__.py"), "kernels/index.py")  # their README
    assert walked == files


def test_every_picture_of_a_chapter_is_described(chapters):
    words = [w for path in chapters for w in re.findall(r'<img alt="([^"]*)"', path.read_text(encoding="utf-8"))]
    assert len(words) > 80 and all(re.match(r"Picture: \S", w) or not w.startswith("Picture") for w in words)
    assert len(set(words)) > 0.9 * len(words)


def test_the_api_reference_describes_every_kernel_and_leads_to_its_source(site):
    described = "".join(page.read_text(encoding="utf-8") for page in (site / "api/minilm.kernels").glob("*.html"))
    described = set(re.findall(r'id="(minilm\.kernels\.[\w.]+)"', described))
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        module = ".".join(["minilm", *path.relative_to(ROOT).with_suffix("").parts])
        functions = re.findall(r'^def ([a-z]\w*)\((?:[^"]|"(?!""))*?:\n {4}"""', path.read_text(encoding="utf-8"), re.M)
        assert {f"{module}.{name}" for name in functions} <= described, path
    page = (site / "api/minilm.kernels/softmax.html").read_text(encoding="utf-8")
    assert 'href="../../source/kernels/softmax/triton.html#softmax"' in page


def test_a_long_report_lists_its_sections(site):
    page = (site / "benchmarks/results/REPORT.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<h1\b", page)) == 1
    assert page.count('class="md-nav__link"') > 20


def test_prose_stands_beside_code_on_a_desk_and_above_it_on_a_telephone(site, browser):
    boxes = {}
    for width in WIDTHS:
        with Sight(browser, width, "light") as sight:
            page = sight.open(site / "source/minilm/functional/softmax.html")
            row = page.locator(".annotated .row", has=page.locator("#log_softmax"))
            boxes[width] = row.locator(".prose").bounding_box(), row.locator(".code").bounding_box()
    prose, code = boxes[1440]
    assert prose["x"] + prose["width"] <= code["x"] and abs(prose["y"] - code["y"]) < 5
    prose, code = boxes[375]
    assert prose["y"] + prose["height"] <= code["y"] and abs(prose["x"] - code["x"]) < 5


def test_an_operation_leads_to_its_kernels_tests_and_chapter(site, browser):
    with Sight(browser, 1440, "light") as sight:
        page = sight.open(site / "source/minilm/functional/softmax.html")
        row = page.locator(".row", has=page.locator("h2#softmax"))
        links = row.locator(".connections a").evaluate_all("all => all.map(a => a.href)")
        taught = page.locator(".taught a").evaluate_all("all => all.map(a => a.href)")
        row.locator(".code a", has_text="softmax_array").click()
        assert page.url.endswith("softmax.html#softmax_array")
    for ending in ("kernels/softmax/threaded.html#softmax", "kernels/softmax/triton.html#softmax", "test_softmax.html"):
        assert any(link.endswith(ending) for link in links), ending
    assert any("/chapters/" in link for link in taught)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_of_a_page_is_seen(browser, tmp_path, fault):
    html, complaint = FAULTS[fault]
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{html}</body>", encoding="utf-8")
    with Sight(browser, 375, "light", patience=500) as sight:
        assert any(found.startswith(complaint) for found in sight.wrong(tmp_path / "page.html"))


def test_what_the_page_before_no_longer_waits_for_is_no_fault_of_the_next(browser, tmp_path):
    """A browser reads a page's icon last, often after the test has gone on to the next page."""
    first, second = tmp_path / "first.html", tmp_path / "second.html"
    first.write_text('<!doctype html><script>onload = () => { new Image().src = "slow.png" }</script>', "utf-8")
    second.write_text("<!doctype html><p>x", "utf-8")
    with Sight(browser, 375, "light") as sight:
        sight.page.route("**/slow.png", lambda route: None)  # an answer that never comes
        with sight.page.expect_request("**/slow.png"):
            assert sight.wrong(first) == []
        with sight.page.expect_event("requestfailed"):
            assert sight.wrong(second) == []
        assert sight.problems == []


@pytest.mark.parametrize(
    "planted, complaint",
    [
        ('<a href="nothing.html">x</a>', "nothing.html leads to no file"),
        ('<a href="other.html#nowhere">x</a>', "other.html#nowhere leads to no such place"),
        ('<a href="#nowhere">x</a>', "#nowhere leads to no such place"),
        ('<script src="https://example.org/x.js"></script>', "<script> is fetched from https://example.org/x.js"),
        ('<img src="a.png">', "a.png leads to no file"),
    ],
)
def test_a_planted_broken_link_is_seen(tmp_path, planted, complaint):
    (tmp_path / "other.html").write_text('<p id="here">x</p>', encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text('<a href="other.html#here">x</a> <a href="https://example.org">y</a>', encoding="utf-8")
    assert broken_links(tmp_path) == []
    page.write_text(planted, encoding="utf-8")
    (found,) = broken_links(tmp_path)
    assert complaint in found


def test_a_search_without_its_index_is_seen(site, browser, tmp_path):
    """The search test can fail: without the index nothing is found."""
    shutil.copytree(site / "assets", tmp_path / "assets")
    shutil.copy(site / "index.html", tmp_path)
    with Sight(browser, 1440, "light") as sight:
        page = sight.open(tmp_path / "index.html")
        assert any("search_index.js" in problem for problem in sight.problems)
        assert page.locator(".md-search-result__link").count() == 0
