"""The ladder of tokenizers: one interface, and one new idea a file. Read them in this order.

    base    the interface: encode, decode, vocab_size, save and load
    char    a token is a character
    byte    a token is a byte: any text can be written
    word    a token is a word: a vocabulary chosen by frequency, and an unknown token for the rest
    pairs   the pairs of neighbours in sequences, counted, found, and merged wherever they are
    bpe     a token is a frequent sequence of bytes, found by merging pairs
    special    tokens that no text makes, unless it may
    cache      words repeat: each is encoded once
    byte_characters, gpt2_files    how byte-level vocabularies are published
    gpt2    byte-pair encoding inside words: GPT-2's, SmolLM2's, or trained here
    wordpiece        BERT's: words, or the longest pieces of them that the vocabulary has
    sentencepiece    Llama's: merges by score, spaces are letters, bytes for what the vocabulary lacks

A tokenizer file names its type, and `load_tokenizer` makes the right one of it.
"""

from minilm.text.tokenizers.base import (
    StreamDecoder,
    Tokenizer,
    check_token_ids,
    load_tokenizer,
    tokenizer_from_json,
)
from minilm.text.tokenizers.bpe import BPETokenizer
from minilm.text.tokenizers.byte import ByteTokenizer
from minilm.text.tokenizers.char import CharTokenizer
from minilm.text.tokenizers.gpt2 import GPT2Tokenizer
from minilm.text.tokenizers.sentencepiece import SentencePieceTokenizer, TokenType
from minilm.text.tokenizers.special import AllowedSpecial
from minilm.text.tokenizers.word import WordTokenizer, split_words
from minilm.text.tokenizers.wordpiece import PairInput, WordPieceTokenizer

__all__ = [
    "AllowedSpecial",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "GPT2Tokenizer",
    "PairInput",
    "SentencePieceTokenizer",
    "StreamDecoder",
    "TokenType",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "check_token_ids",
    "load_tokenizer",
    "split_words",
    "tokenizer_from_json",
]
