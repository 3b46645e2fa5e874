"""Models of a few thousand parameters, one of each family, always the same."""

import numpy as np

from minilm import Generator
from minilm.models import (
    BERT,
    GPT,
    LSTMLM,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
    LSTMConfig,
    Seq2SeqLSTM,
    Seq2SeqLSTMConfig,
    Transformer,
    TransformerConfig,
)
from minilm.random import using_generator

V, T = 31, 7
IDS = np.random.default_rng(3).integers(3, V, (2, T))
TARGET = np.random.default_rng(4).integers(3, V, (2, 5))
MASK = np.arange(T) < np.array([[T], [4]])
_BERT = BERTConfig(V, 16, 2, 2, 16, 24, dropout=0.1)

MAKE = {
    "gpt": lambda: GPT(GPTConfig(V, 16, n_layer=3, n_head=2, n_embd=16, dropout=0.1)),
    "llama": lambda: Llama(LlamaConfig(V, 16, n_layer=3, n_head=4, n_kv_head=2, n_embd=16, n_hidden=24)),
    "llama, own head": lambda: Llama(LlamaConfig(V, 16, 2, 2, 1, 16, 24, interleaved=True, tied=False)),
    "bert": lambda: BERT(_BERT),
    "bert-masked-lm": lambda: BERTForMaskedLM(_BERT),
    "bert-classifier": lambda: BERTForSequenceClassification(_BERT),
    "transformer": lambda: Transformer(TransformerConfig(V, 16, n_layer=2, n_head=2, n_embd=16, n_hidden=24)),
    "transformer, pre-norm": lambda: Transformer(TransformerConfig(V, 16, 2, 2, 16, 24, norm="pre")),
    "seq2seq-lstm": lambda: Seq2SeqLSTM(Seq2SeqLSTMConfig(V, 8, 12)),
    "lstm": lambda: LSTMLM(LSTMConfig(V, 8, 12)),
}


def small(kind):
    """A model whose weights are ten times the usual: fresh ones are so small that all of it is nearly linear."""
    with using_generator(Generator(11)):
        model = MAKE[kind]()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 10 if kind.startswith(("gpt", "llama", "bert")) else 2
    return model
