"""The ladder of tokenizers: one interface, and one new idea a file. Read them in this order.

    base    the interface: encode, decode, vocab_size, save and load
    char    a token is a character
    byte    a token is a byte: any text can be written
    word    a token is a word: a vocabulary chosen by frequency, and an unknown token for the rest

A tokenizer file names its type, and `load_tokenizer` makes the right one of it.
"""

from minilm.text.tokenizers.base import (
    StreamDecoder,
    Tokenizer,
    check_token_ids,
    load_tokenizer,
    tokenizer_from_json,
)
from minilm.text.tokenizers.byte import ByteTokenizer
from minilm.text.tokenizers.char import CharTokenizer
from minilm.text.tokenizers.word import WordTokenizer, split_words

__all__ = [
    "ByteTokenizer",
    "CharTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "WordTokenizer",
    "check_token_ids",
    "load_tokenizer",
    "split_words",
    "tokenizer_from_json",
]
