"""What is wrong with pages: links that lead nowhere, and what a browser sees."""

import re
from collections import Counter
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag

REFERENCE = re.compile(r"<(\w+)\b[^>]*?\s(?:href|src)=(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))")
IDENTIFIER = re.compile(r"\s(?:id|name)=(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))")
OUTSIDE = re.compile(r"(?:https?:)?//")

# In a page: the text that a reader sees outside of code, and whether all formulas are set.
RAW_TEX = r"""() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest("code, pre, script, style, mjx-container, noscript")) continue;
    const raw = /\$\$|\\\(|\\\[|\\(frac|sum|sqrt|top|mathrm|begin)\b/;
    if (raw.test(node.textContent)) found.push(node.textContent.trim());
  }
  for (const math of document.querySelectorAll(".arithmatex")) {
    if (!math.querySelector("mjx-container")) found.push("not set: " + math.textContent);
    const picture = math.querySelector("mjx-container > svg");
    if (picture && math.checkVisibility() && picture.getBoundingClientRect().width < 3) {
      found.push("not to be seen: " + math.textContent);
    }
    if (math.querySelector("[data-mml-node=merror]")) found.push("not understood: " + math.textContent);
  }
  return found;
}"""
TOO_WIDE = """() => {
  const page = document.documentElement;
  if (page.scrollWidth <= page.clientWidth) return [];
  const sticksOut = (e) => e.getBoundingClientRect().right > page.clientWidth + 1;
  const wide = [...document.querySelectorAll("main *")].filter(sticksOut);
  return [`${page.scrollWidth} > ${page.clientWidth}`, ...wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 120))];
}"""


def broken_links(folder: Path) -> list[str]:
    """A sentence for each reference of a page below `folder` that leads to no file or no anchor, or out of the site."""
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    anchors = {
        path: {unescape(next(filter(None, found), "")) for found in IDENTIFIER.findall(text)}
        for path, text in texts.items()
    }
    broken = []
    for page, text in texts.items():
        if page.name == "404.html":  # a server's page: its links begin at the server's root
            continue
        for tag, *values in set(REFERENCE.findall(text)):
            reference = unescape(next(filter(None, values), ""))
            if re.match(r"(mailto|data|javascript):", reference) or (tag == "a" and OUTSIDE.match(reference)):
                continue
            if tag == "link" and OUTSIDE.match(reference) and 'rel="canonical"' in text:
                continue
            where = page.relative_to(folder)
            if OUTSIDE.match(reference):
                broken.append(f"{where}: <{tag}> is fetched from {reference}")
                continue
            address, anchor = urldefrag(reference)
            target = (page.parent / unquote(address)).resolve() if address else page
            if target.is_dir():
                target = target / "index.html"
            if not target.exists():
                broken.append(f"{where}: {reference} leads to no file")
            elif anchor and target.suffix == ".html" and target in anchors and unquote(anchor) not in anchors[target]:
                broken.append(f"{where}: {reference} leads to no such place in the page")
    return sorted(broken)


def repeated_places(folder: Path) -> list[str]:
    """A sentence for each id that a page has twice: a link finds the first, and the search fails at its words."""
    found = []
    for page in sorted(folder.rglob("*.html")):
        text = re.sub(r"<(script|pre)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        counts = Counter(re.findall(r"\sid=\"([^\"]+)\"", text))
        found += [f"{page.relative_to(folder)}: {name} {count} times" for name, count in counts.items() if count > 1]
    return found


def steps(page: Path) -> tuple[Path | None, Path | None]:
    """Where a page's head and where its foot lead as the next one."""
    text = page.read_text(encoding="utf-8")
    head = re.search(r'<span>next: <a href="([^"]+)"', text)
    foot = re.search(r'<a href="([^"]+)" class="md-footer__link md-footer__link--next"', text)
    there = [(page.parent / found[1]).resolve() if found else None for found in (head, foot)]
    return there[0], there[1]


@dataclass
class Sight:
    """A page as a browser shows it at a width, light or dark."""

    browser: object
    width: int
    scheme: str
    patience: int = 15_000  # milliseconds until formulas must be set

    def __enter__(self):
        self.context = self.browser.new_context(viewport={"width": self.width, "height": 900}, color_scheme=self.scheme)
        self.page = self.context.new_page()
        self.problems = []
        self.page.on("console", lambda m: self.problems.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._request_failed)
        return self

    def __exit__(self, *_):
        self.context.close()

    def _request(self, request):
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            self.problems.append(f"leaves the site: {request.url}")

    def _request_failed(self, request):
        # Given up, since the page that asked for it was left: its icon, say, which is read after all the rest.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"cannot be read: {request.url}")

    def open(self, path: Path):
        """Open a page and wait until its formulas are set."""
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("load")
        if self.page.query_selector(".arithmatex"):
            try:
                self.page.wait_for_function("document.documentElement.dataset.math === 'done'", timeout=self.patience)
            except Exception:  # said below, formula by formula
                pass
        return self.page

    def wrong(self, path: Path) -> list[str]:
        """What is wrong with a page."""
        self.problems.clear()
        page = self.open(path)
        raw = [f"a formula as text: {text[:80]}" for text in page.evaluate(RAW_TEX)]
        wide = [f"wider than the screen: {text}" for text in page.evaluate(TOO_WIDE)]
        return [*self.problems, *raw, *wide]
