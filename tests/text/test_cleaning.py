"""Cleaning: each option changes what it says and nothing else."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.text import clean, html_to_text

PAGE = """<!DOCTYPE html><html><head><title>Title</title><style>p {color: red}</style>
<script>var x = "<p>not text</p>";</script></head>
<body><h1>The &amp; sign</h1><!-- a comment --><p>One   para-
graph with <b>bold</b>, <i>it</i>alic &lt;tags&gt; &eacute;&#8364;.</p>
<p>Two<br>lines</p><ul><li>first</li><li>second</li></ul>
<table><tr><td>a</td><td>b</td></tr></table><pre>
  kept   as
    it is</pre><noscript>none</noscript><script>more();</script></body></html>"""


def test_html_becomes_its_words_with_blocks_on_lines():
    assert html_to_text(PAGE).split("\n") == [
        "The & sign",
        "One para- graph with bold, italic <tags> é€.",
        "Two",
        "lines",
        "first",
        "second",
        "a b",
        "  kept   as",
        "    it is",
    ]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("no tags &amp; no blocks", "no tags & no blocks"),
        ("<p>never closed <b>at all", "never closed at all"),
        ("a < b and c > d", "a < b and c > d"),
        ("before<div>inside</div>after", "before\ninside\nafter"),
        ("a&nbsp;b", "a\xa0b"),
        ("https://example.org/a.html", "https://example.org/a.html"),
        ('<?xml version="1.0"?><a>text</a>', "text"),
    ],
)
def test_fragments_and_broken_html_are_read_without_complaint(html, text):
    assert html_to_text(html) == text


def test_very_deep_html_does_not_hit_the_recursion_limit():
    assert html_to_text("<div>" * 5000 + "deep" + "</div>" * 5000) == "deep"


def test_wrong_decodings_are_repaired_and_typography_is_left_alone():
    assert clean("â€œHeâ€™s cafÃ©â€\x9d") == "“He’s café”"
    assert clean("“curly” ﬁ Ａ &amp; …") == "“curly” ﬁ Ａ &amp; …"
    assert clean("cafÃ©", repair=False) == "cafÃ©"
    assert clean("a\ud800b") == "a\ufffdb"


def test_normal_forms():
    decomposed = "e\u0301 ﬁ"
    assert clean(decomposed) == "é ﬁ"
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert clean(decomposed, normal_form=form) == unicodedata.normalize(form, decomposed)
    assert clean(decomposed, normal_form=None) == decomposed
    with pytest.raises(ValueError, match="'NFX'"):
        clean("a", normal_form="NFX")


def test_control_characters_go_but_newlines_and_tabs_stay():
    assert clean("\ufeffa\x00b\x07\tc\nd\x7fe\r\nf\rg", repair=False) == "ab\tc\nde\nf\ng"
    assert clean("a\x07b", control_characters=True) == "a\x07b"


def test_case_and_punctuation_on_request():
    text = "Don’t panic, it's a well-known $5 “Book”."
    assert clean(text) == text
    assert clean(text, lower=True) == text.lower()
    assert clean(text, punctuation=False) == "Dont panic its a well known 5 Book"


def test_whitespace_on_request():
    text = "  a \t b  \n\n\n\n c\xa0d \n"
    assert clean(text) == text
    assert clean(text, whitespace="collapse") == "a b\n\nc d"
    with pytest.raises(ValueError, match="'squeeze'"):
        clean(text, whitespace="squeeze")


def test_html_is_only_touched_on_request():
    assert clean("<b>x</b> &amp;") == "<b>x</b> &amp;"
    assert clean("<b>x</b> &amp;", html=True) == "x &"


@given(st.text(max_size=60), st.booleans(), st.booleans(), st.sampled_from(["keep", "collapse"]))
def test_cleaning_twice_changes_nothing_more(text, control_characters, lower, whitespace):
    def once(value):
        return clean(
            value,
            repair=False,
            control_characters=control_characters,
            lower=lower,
            whitespace=whitespace,
            normal_form="NFC",
        )

    assert once(once(text)) == once(text)
