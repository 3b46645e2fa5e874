"""Text in, batches out. Nothing here needs the engine: it is NumPy and plain Python. Read it in this order.

    cleaning      HTML to text, repaired Unicode, normal forms, options for case and punctuation
    readers       documents from text files, folders, CSV and JSONL
    corpora       public corpora by name, and where each can be found (and shakespeare, one of them)
    splits        training, validation and test parts that do not leak
    files         how a file is written so that a crash cannot leave half of it
    tokenizers/   text to ids and back, as a ladder: character, byte, word
    token_file    ids on disk, read by memory map
    batches       windows, streams and padding: what the trainer iterates over

The beginning of everything: documents = load_corpus("shakespeare"), or read_documents(path).
"""

from minilm.text.batches import (
    BatchSource,
    OrderedBatches,
    SequentialBatches,
    ShuffledBatches,
    StreamBatches,
    TokenWindows,
    pad_collate,
)
from minilm.text.cleaning import clean, html_to_text
from minilm.text.corpora import CORPORA, Corpus, find_corpus, load_corpus
from minilm.text.files import atomic_write
from minilm.text.readers import iter_documents, iter_text, read_documents, read_text
from minilm.text.splits import split_by_position, split_documents
from minilm.text.token_file import (
    TokenFileHeader,
    open_token_file,
    read_token_file_header,
    write_token_file,
)
from minilm.text.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    StreamDecoder,
    Tokenizer,
    WordTokenizer,
    check_token_ids,
    load_tokenizer,
    split_words,
    tokenizer_from_json,
)

__all__ = [
    "BatchSource",
    "ByteTokenizer",
    "CORPORA",
    "CharTokenizer",
    "Corpus",
    "OrderedBatches",
    "SequentialBatches",
    "ShuffledBatches",
    "StreamBatches",
    "StreamDecoder",
    "TokenFileHeader",
    "TokenWindows",
    "Tokenizer",
    "WordTokenizer",
    "atomic_write",
    "check_token_ids",
    "clean",
    "find_corpus",
    "html_to_text",
    "iter_documents",
    "iter_text",
    "load_corpus",
    "load_tokenizer",
    "open_token_file",
    "pad_collate",
    "read_documents",
    "read_text",
    "read_token_file_header",
    "split_by_position",
    "split_documents",
    "split_words",
    "tokenizer_from_json",
    "write_token_file",
]
