"""Models, one file each: ngram (counting), lstm (recurrent: LSTM, GRU, RNN), gpt; llama (with configuration, what it
and the rest check alike); bert, which reads only; lstm_classifier, its recurrent counterpart; and transformer and
seq2seq_lstm, which read one text and write another.

A language model maps ids (B, T) to logits (B, T, V), has `loss(batch)` for the trainer, and
`decode(ids, state)` for generating token by token. MODELS maps the name in a checkpoint's config to (model class,
config class).
"""

from __future__ import annotations

from typing import Any

from minilm.models.bert import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from minilm.models.gpt import GPT, GPTConfig
from minilm.models.llama import Llama, LlamaConfig
from minilm.models.lstm import LSTMLM, LSTMConfig
from minilm.models.lstm_classifier import LSTMClassifier, LSTMClassifierConfig
from minilm.models.ngram import NGram
from minilm.models.seq2seq_lstm import Seq2SeqLSTM, Seq2SeqLSTMConfig
from minilm.models.transformer import Transformer, TransformerConfig

MODELS: dict[str, tuple[Any, Any]] = {
    "bert": (BERT, BERTConfig),
    "bert-masked-lm": (BERTForMaskedLM, BERTConfig),
    "bert-question-answering": (BERTForQuestionAnswering, BERTConfig),
    "bert-sequence-classification": (BERTForSequenceClassification, BERTConfig),
    "bert-token-classification": (BERTForTokenClassification, BERTConfig),
    "gpt": (GPT, GPTConfig),
    "llama": (Llama, LlamaConfig),
    "lstm": (LSTMLM, LSTMConfig),
    "lstm-classifier": (LSTMClassifier, LSTMClassifierConfig),
    "seq2seq-lstm": (Seq2SeqLSTM, Seq2SeqLSTMConfig),
    "transformer": (Transformer, TransformerConfig),
}

__all__ = [
    *("BERT", "BERTForMaskedLM", "BERTForQuestionAnswering", "BERTForSequenceClassification"),
    *("BERTForTokenClassification", "GPT", "LSTMLM", "Llama", "MODELS", "BERTConfig", "GPTConfig", "LSTMConfig"),
    *("LSTMClassifier", "LSTMClassifierConfig"),
    *("LlamaConfig", "NGram", "Seq2SeqLSTM", "Seq2SeqLSTMConfig", "Transformer", "TransformerConfig"),
]
