"""Layers. A layer holds parameters and calls one or two functions of minilm.functional.

Reading order: module (Module, Parameter), initialization, linear, embedding, normalization, dropout, containers;
recurrent (RNN, LSTM, GRU); lora; positions, cache, attention, blocks, pointer: the Transformer.
"""

from minilm.functional.checkpoint import checkpoint
from minilm.nn.attention import CrossAttention, SelfAttention, merge_heads, split_heads
from minilm.nn.blocks import FeedForward, TransformerBlock
from minilm.nn.cache import KVCache
from minilm.nn.containers import ModuleList, Sequential
from minilm.nn.dropout import Dropout
from minilm.nn.embedding import Embedding
from minilm.nn.linear import Linear
from minilm.nn.lora import LoRALinear
from minilm.nn.module import Module, Parameter, evaluating
from minilm.nn.normalization import LayerNorm, RMSNorm
from minilm.nn.pointer import Pointer
from minilm.nn.positions import ALiBi, LearnedPositions, RotaryPositions, SinusoidalPositions
from minilm.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    *("ALiBi", "CrossAttention", "Dropout", "Embedding", "FeedForward", "GRU", "KVCache", "LSTM", "LayerNorm"),
    *("LearnedPositions", "LoRALinear", "RNN"),
    *("Linear", "Module", "ModuleList", "Parameter", "Pointer", "RMSNorm", "RotaryPositions", "SelfAttention"),
    *("Sequential", "SinusoidalPositions", "TransformerBlock"),
    *("checkpoint", "evaluating", "merge_heads", "split_heads"),
]
