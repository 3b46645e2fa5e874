"""Text in, batches out. Nothing here needs the engine: it is NumPy and plain Python. Read it in this order.

    cleaning      HTML to text, repaired Unicode, normal forms, options for case and punctuation
    readers       documents from text files, folders, CSV and JSONL
    corpora, shakespeare    public corpora by name, and where each can be found; and one of them
    splits        training, validation and test parts that do not leak
    files         how a file is written so that a crash cannot leave half of it
    tokenizers/   text to ids and back, as a ladder: character, byte, word, BPE, GPT-2, BERT, Llama
    token_file    ids on disk, read by memory map
    batches       windows, streams and padding: what the trainer iterates over
    buckets       batches of sequences of like lengths
    masking       texts with words hidden, to be found again: how BERT learns
    parallel      pairs of a source and a target: read, split, encoded
    labelled      texts with a class each: read, split
    questions     questions whose answer stands in a text: read, split, cut into windows
    instructions  questions and answers: read, split, labelled so that the answers are learned

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
from minilm.text.buckets import LengthBuckets, LengthGroups, groups_by_length
from minilm.text.cleaning import clean, html_to_text
from minilm.text.corpora import CORPORA, Corpus, find_corpus, load_corpus
from minilm.text.files import atomic_write
from minilm.text.instructions import (
    InstructionExamples,
    labelled_example,
    read_conversations,
    split_conversations,
)
from minilm.text.labelled import Labelled, class_names, read_labelled, read_rows, split_labelled
from minilm.text.masking import MaskedExamples, mask_tokens, next_sentence_examples
from minilm.text.parallel import (
    Pair,
    PairTokenizer,
    encode_pairs,
    families,
    read_pairs,
    references,
    source_key,
    split_pairs,
)
from minilm.text.questions import (
    AnswerWindow,
    Question,
    Span,
    answer_examples,
    answer_places,
    answer_windows,
    read_questions,
    split_questions,
    write_questions,
)
from minilm.text.readers import iter_documents, iter_text, read_documents, read_text
from minilm.text.splits import split_by_position, split_documents
from minilm.text.token_file import (
    TokenFileHeader,
    open_token_file,
    read_token_file_header,
    write_token_file,
)
from minilm.text.tokenizers import (
    AllowedSpecial,
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    PairInput,
    SentencePieceTokenizer,
    StreamDecoder,
    Tokenizer,
    TokenType,
    WordPieceTokenizer,
    WordTokenizer,
    check_token_ids,
    load_tokenizer,
    split_words,
    tokenizer_from_json,
)

__all__ = [
    "AllowedSpecial",
    "AnswerWindow",
    "BPETokenizer",
    "BatchSource",
    "ByteTokenizer",
    "CORPORA",
    "CharTokenizer",
    "Corpus",
    "GPT2Tokenizer",
    "MaskedExamples",
    "Labelled",
    "InstructionExamples",
    "LengthBuckets",
    "LengthGroups",
    "OrderedBatches",
    "Pair",
    "PairInput",
    "PairTokenizer",
    "Question",
    "SentencePieceTokenizer",
    "SequentialBatches",
    "ShuffledBatches",
    "Span",
    "StreamBatches",
    "StreamDecoder",
    "TokenFileHeader",
    "TokenType",
    "TokenWindows",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "answer_examples",
    "answer_places",
    "answer_windows",
    "atomic_write",
    "check_token_ids",
    "class_names",
    "clean",
    "encode_pairs",
    "families",
    "find_corpus",
    "groups_by_length",
    "html_to_text",
    "iter_documents",
    "iter_text",
    "labelled_example",
    "load_corpus",
    "load_tokenizer",
    "mask_tokens",
    "next_sentence_examples",
    "open_token_file",
    "pad_collate",
    "read_conversations",
    "read_documents",
    "read_labelled",
    "read_pairs",
    "read_questions",
    "read_rows",
    "read_text",
    "read_token_file_header",
    "references",
    "source_key",
    "split_by_position",
    "split_conversations",
    "split_documents",
    "split_labelled",
    "split_pairs",
    "split_questions",
    "split_words",
    "tokenizer_from_json",
    "write_questions",
    "write_token_file",
]
