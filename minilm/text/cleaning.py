"""Cleaning: what the text of web pages and old files needs before it is worth learning from.

    html_to_text(html)    the words of a page: tags off, entities decoded, scripts gone
    clean(text, ...)      repaired Unicode, a normal form, control characters, and, on request, case and punctuation

Each step is an option, and by default only what can hardly be wanted is changed: a language model of texts
without capitals or commas cannot write them. Nothing here judges what a text is worth (language, quality,
duplicates).
"""

import re
import unicodedata
import warnings
from typing import Literal

_DROPPED = {"script", "style", "template", "noscript", "head", "title", "svg", "math", "iframe", "object"}
_BLOCKS = set(
    "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol option "
    "p pre section select summary table tbody tfoot thead tr ul".split()
)
_CELLS = {"td", "th"}
_SPACES = re.compile(r"[ \t\n\r\f]+")  # HTML's white space: no-break spaces stay


def html_to_text(html: str) -> str:
    """The text of an HTML page or fragment, each block element (paragraph, list item, table row) on a line.

    Entities are decoded and runs of white space become one space, except inside <pre>. Dropped: scripts,
    styles, the head, comments. Broken HTML is read as browsers do, without an error.
    """
    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning
    from bs4.element import NavigableString, PreformattedString, Tag

    lines: list[str] = []
    parts: list[str] = []  # of the line that is being put together

    def end_line() -> None:
        line = _SPACES.sub(" ", "".join(parts)).strip(" ")
        parts.clear()
        if line:
            lines.append(line)

    with warnings.catch_warnings():
        # Both only say that the input does not look like a page, which the caller knows better.
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(html, "html.parser")

    # A walk with a stack of its own, since pages can be nested deeper than Python's recursion limit. None on
    # the stack marks the end of a block.
    stack: list[object] = [soup]
    while stack:
        node = stack.pop()
        if node is None:
            end_line()
        elif isinstance(node, Tag):
            if node.name in _DROPPED:
                continue
            if node.name == "pre":
                end_line()
                lines.extend(node.get_text().strip("\n").split("\n"))
                continue
            if node.name in _BLOCKS:
                end_line()
                stack.append(None)
            elif node.name in _CELLS:
                parts.append(" ")
            stack.extend(reversed(node.contents))
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            parts.append(str(node))  # comments, declarations and the like are PreformattedString
    end_line()
    return "\n".join(lines)


def clean(
    text: str,
    *,
    html: bool = False,
    repair: bool = True,
    normal_form: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = "NFC",
    control_characters: bool = False,
    lower: bool = False,
    punctuation: bool = True,
    whitespace: Literal["keep", "collapse"] = "keep",
) -> str:
    r"""A cleaned text; the steps are done in the order of the options.

    html: the text is HTML, see html_to_text.
    repair: undo wrong decodings ("â€œ" back to a quotation mark) and lone surrogates, with ftfy; curly
        quotes, ligatures and wide letters are not touched. All line ends become "\n".
    normal_form: the Unicode normal form (Unicode Standard Annex 15), or None to leave it.
    control_characters: True keeps them. They are the category Cc but for "\n" and "\t", and U+FEFF.
    lower: in lower case.
    punctuation: False drops punctuation and symbols (categories P and S); inside a word an apostrophe
        vanishes and any other mark becomes a space: "Don't, well-known" -> "Dont well known".
    whitespace: "collapse" makes one space of each run of spaces and tabs, takes them off the ends of lines,
        and leaves at most one empty line in a row.
    """
    if normal_form not in (None, "NFC", "NFD", "NFKC", "NFKD"):
        raise ValueError(f"normal_form must be NFC, NFD, NFKC, NFKD or None, not {normal_form!r}")
    if whitespace not in ("keep", "collapse"):
        raise ValueError(f'whitespace must be "keep" or "collapse", not {whitespace!r}')
    if html:
        text = html_to_text(text)
    if repair:
        text = _repair(text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if normal_form is not None:
        text = unicodedata.normalize(normal_form, text)
    if not control_characters:
        text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]", "", text)
    if lower:
        text = text.lower()
    if not punctuation:
        text = _without_punctuation(text)
    if whitespace == "collapse":
        text = re.sub(r"[^\S\n]+", " ", text)
        text = re.sub(r" ?\n ?", "\n", text).strip()
        text = re.sub(r"\n{3,}", "\n\n", text)
    return text


def _repair(text: str) -> str:
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        remove_terminal_escapes=False,
        normalization=None,
    )
    return ftfy.fix_text(text, config)


def _without_punctuation(text: str) -> str:
    import regex

    text = regex.sub(r"(?<=\w)['’](?=\w)", "", text)
    text = regex.sub(r"(?<=\w)[\p{P}\p{S}]+(?=\w)", " ", text)
    return regex.sub(r"[\p{P}\p{S}]+", "", text)
