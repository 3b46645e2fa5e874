"""The Transformer: an encoder that reads a text and a decoder that writes another (Vaswani et al. 2017).

    memory = encoder(sqrt(C) W_e[source] + PE)         every source token sees all of the source
    x_0    = sqrt(C) W_e[bos, y_1 .. y_(T-1)] + PE
    x_l    = block_l(x_(l-1), memory)                  causal self-attention, cross-attention, feed-forward
    logits = x_L W_eᵀ                                  one table for source, target and head (section 3.4)

PE are the sinusoids of section 3.5. Each part of a block stands between residual and norm: norm(x + dropout(f(x))) as
published ("post"), or x + dropout(f(norm(x))) with one more norm at the end ("pre"), which trains without warm-up.

With `copy` a pointer adds what speaks for each token of the source to its logit (nn.Pointer; Gu et al. 2016): what a
summary needs, which repeats names of its text that are rare or new.

To translate, `encode` reads the source once and `decode` writes token by token: the keys and values of the memory are
computed once for each source, those of the target once for each token (minilm.generation.beam_search calls both).

Where this differs from the paper: dropout acts on the attention weights too, as in the authors' own code, and the
linear layers of attention have biases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import minilm.functional as F
from minilm import nn
from minilm.backend import asarray, to_numpy, xp
from minilm.errors import ConfigurationError
from minilm.models.configuration import check_dropout, check_heads, check_sizes
from minilm.nn import initialization
from minilm.tensor import Tensor
from minilm.text.batches import IGNORED


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of an encoder-decoder; the defaults are those of the paper's base model (table 3)."""

    vocab_size: int = 37000  # V of both languages together, with the three tokens below
    block_size: int = 512  # the longest source, and the longest target
    n_layer: int = 6  # of the encoder, and of the decoder
    n_head: int = 8
    n_embd: int = 512  # C
    n_hidden: int = 2048  # of the feed-forward networks
    dropout: float = 0.1
    norm: str = "post"  # as published, or "pre"
    label_smoothing: float = 0.1  # in training; an evaluation tells the plain loss
    share_embeddings: bool = True  # one table for source, target and head; False: three
    copy: bool = False  # tokens of the source may be copied
    pad_id: int = 0  # what the decoder reads where a batch is padded; it is masked in the source
    bos_id: int = 1  # what the decoder begins with
    eos_id: int = 2  # what it ends with

    def __post_init__(self) -> None:
        check_sizes(self, ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_hidden"))
        check_heads(self, "n_embd", "n_head")
        check_dropout(self)
        if self.n_embd % 2:
            raise ConfigurationError(f"TransformerConfig: sinusoids come in pairs, and n_embd={self.n_embd} is odd")
        if self.norm not in ("post", "pre"):
            raise ConfigurationError(f"TransformerConfig: norm is 'post' or 'pre', got {self.norm!r}")
        check_sequence_to_sequence(self)


def check_sequence_to_sequence(config: Any) -> None:
    """Raise ConfigurationError unless label smoothing and the special tokens of an encoder-decoder make sense."""
    name = type(config).__name__
    if not 0 <= config.label_smoothing < 1:
        raise ConfigurationError(
            f"{name}: label_smoothing is from 0 to below 1, got {config.label_smoothing}"
        )
    special = (config.pad_id, config.bos_id, config.eos_id)
    if len(set(special)) < 3 or not all(0 <= token < config.vocab_size for token in special):
        raise ConfigurationError(
            f"{name}: pad_id, bos_id and eos_id are three ids below vocab_size={config.vocab_size}, got {special}"
        )


@dataclass(frozen=True)
class Source:
    """What the pointer needs of a source that was read."""

    ids: Any  # (B, Tk)
    keys: Tensor  # (B, Tk, C)

    def select(self, rows: Any) -> Source:
        """Those of these rows of the batch."""
        return Source(self.ids[rows], self.keys[rows])


class TransformerState:
    """What the decoder needs of the past: the memory's keys and values in each block, and a cache of its own.

    A model that copies has the source's tokens as well.
    """

    def __init__(
        self,
        memory: list[tuple[Tensor, Tensor]],
        memory_mask: Tensor | None,
        caches: list[nn.KVCache],
        source: Source | None = None,
    ) -> None:
        self.memory, self.memory_mask, self.caches, self.source = memory, memory_mask, caches, source

    def select(self, rows: Any) -> TransformerState:
        """The state of these rows of the batch, in this order; a row may come several times."""
        memory = [(key[rows], value[rows]) for key, value in self.memory]
        mask = None if self.memory_mask is None else self.memory_mask[rows]
        source = None if self.source is None else self.source.select(rows)
        return TransformerState(memory, mask, [cache.select(rows) for cache in self.caches], source)


class Transformer(nn.Module):
    """source ids (B, Tk) and target ids (B, T) -> logits (B, T, V) for the target token that comes next."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        V, C = config.vocab_size, config.n_embd
        self.token_embedding = nn.Embedding(V, C)
        if not config.share_embeddings:
            self.target_embedding = nn.Embedding(V, C)
            self.head = nn.Linear(C, V, bias=False)
        self.positions = nn.SinusoidalPositions(config.block_size, C)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(self._block(False) for _ in range(config.n_layer))
        self.decoder = nn.ModuleList(self._block(True) for _ in range(config.n_layer))
        if config.norm == "pre":
            self.encoder_norm, self.decoder_norm = nn.LayerNorm(C), nn.LayerNorm(C)
        if config.copy:
            self.pointer = nn.Pointer(C)
        self._initialize()

    def _block(self, cross_attention: bool) -> nn.TransformerBlock:
        c = self.config
        return nn.TransformerBlock(
            c.n_embd,
            c.n_head,
            hidden_dim=c.n_hidden,
            activation="relu",
            norm=c.norm,
            dropout=c.dropout,
            cross_attention=cross_attention,
        )

    def _initialize(self) -> None:
        """Xavier's uniform weights (Glorot & Bengio 2010), biases 0; embeddings N(0, 1/C), which sqrt(C) makes N(0, 1).

        A matrix that does the work of several, for queries, keys and values at once, is drawn piece by piece: the
        range depends on the shape.
        """
        C = self.config.n_embd
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                rows = C if name.endswith(("qkv_proj", "kv_proj")) else module.out_features
                pieces = [
                    initialization.xavier_uniform((rows, module.in_features)).data
                    for _ in range(module.out_features // rows)
                ]
                module.weight = nn.Parameter(xp(*pieces).concatenate(pieces))
                module.bias = initialization.zeros((module.out_features,)) if module.bias is not None else None
            elif isinstance(module, nn.Embedding):
                initialization.normal_(module.weight, C**-0.5)

    @property
    def context_length(self) -> int:
        """The most tokens of a source or a target."""
        return self.config.block_size

    # --- the two halves

    def _embedded(self, ids: Any, embedding: nn.Embedding, offset: int = 0) -> Tensor:
        if ids.ndim != 2:
            raise ValueError(f"ids have the axes (B, T), got {ids.shape}: a single sequence is ids[None]")
        x = embedding(ids) * math.sqrt(self.config.n_embd)
        return self.dropout(self.positions(x, offset))  # (B, T, C)

    def _read(self, input_ids: Any, attention_mask: Any) -> tuple[Tensor, Tensor | None]:
        """The memory (B, Tk, C), and the mask (B, 1, 1, Tk) of its padding."""
        mask = None
        if attention_mask is not None:
            mask = Tensor(asarray(attention_mask, dtype=bool))[:, None, None, :]
        x = self._embedded(input_ids, self.token_embedding)
        for block in self.encoder:
            x = block(x, attn_mask=mask)
        return (self.encoder_norm(x) if self.config.norm == "pre" else x), mask

    def _source(self, ids: Any, memory: Tensor) -> Source | None:
        return Source(ids, self.pointer.keys(memory)) if self.config.copy else None

    def _logits(self, x: Tensor, source: Source | None, mask: Tensor | None) -> Tensor:
        if self.config.norm == "pre":
            x = self.decoder_norm(x)
        logits = F.linear(x, self.token_embedding.weight) if self.config.share_embeddings else self.head(x)
        if source is None:
            return logits
        return self.pointer(logits, x, source.keys, source.ids, None if mask is None else mask[:, 0, 0])

    @property
    def _target_embedding(self) -> nn.Embedding:
        return self.token_embedding if self.config.share_embeddings else self.target_embedding

    def forward(self, input_ids: Any, decoder_input_ids: Any, attention_mask: Any = None) -> Tensor:
        """source (B, Tk), target so far (B, T) -> logits (B, T, V) of the tokens after each of the target.

        Args:
            attention_mask: (B, Tk), False for padding of the source, which no token then sees.

        Raises:
            ValueError: for more tokens than `context_length`.
            IndexError: for an id outside the vocabulary.
        """
        memory, mask = self._read(input_ids, attention_mask)
        x = self._embedded(decoder_input_ids, self._target_embedding)
        for block in self.decoder:
            x = block(x, is_causal=True, memory=memory, memory_mask=mask)
        return self._logits(x, self._source(input_ids, memory), mask)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood, in nats, of batch["labels"] (B, T) given batch["input_ids"] (B, Tk).

        In training the labels are smoothed. A label of -100 is ignored; batch["attention_mask"] (B, Tk) may mark
        padding. What the decoder reads are the labels moved to the right, or batch["decoder_input_ids"].
        """
        ids = decoder_input_ids(batch, self.config)
        logits = self(batch["input_ids"], ids, batch.get("attention_mask"))
        smoothing = self.config.label_smoothing if self.training else 0.0
        return F.cross_entropy(F.at_least_float32(logits), batch["labels"], label_smoothing=smoothing)

    # --- writing token by token

    def encode(self, input_ids: Any, attention_mask: Any = None) -> TransformerState:
        """Read the source (B, Tk): the state from which `decode` begins."""
        memory, mask = self._read(input_ids, attention_mask)
        pairs = [block.cross_attention.keys_and_values(memory) for block in self.decoder]
        caches = [nn.KVCache(self.config.block_size) for _ in self.decoder]
        ids = Tensor(asarray(input_ids))  # rows will be chosen of it, wherever it lives
        return TransformerState(pairs, mask, caches, self._source(ids, memory))

    def decode(self, ids: Any, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """logits (B, T, V) after each of the next T target tokens, and the state after them (the same object)."""
        x = self._embedded(ids, self._target_embedding, state.caches[0].length)
        for block, cache, pair in zip(self.decoder, state.caches, state.memory, strict=True):
            x = block(
                x, is_causal=True, cache=cache, memory_mask=state.memory_mask, memory_keys_and_values=pair
            )
        return self._logits(x, state.source, state.memory_mask), state

    def attention_weights(self, input_ids: Any, decoder_input_ids: Any, attention_mask: Any = None) -> np.ndarray:
        """Where the decoder looks in the source: (n_layer, B, H, T, Tk), each row of Tk sums to 1."""
        found: list[np.ndarray] = []

        def look(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            x, memory, mask, _ = arguments
            key, _ = module.keys_and_values(memory)
            query = nn.split_heads(module.q_proj(x), module.num_heads)
            scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
            if mask is not None:
                scores = F.where(mask, scores, float("-inf"))
            found.append(to_numpy(F.softmax(scores, axis=-1).data))

        removers = [block.cross_attention.register_forward_hook(look) for block in self.decoder]
        try:
            with nn.evaluating(self.modules()):
                self(input_ids, decoder_input_ids, attention_mask)
        finally:
            for remove in removers:
                remove()
        return np.stack(found)

    def describe(self) -> str:
        c = self.config
        copy = ", copies" if c.copy else ""
        sizes = f"vocab_size={c.vocab_size}, n_layer={c.n_layer}, n_head={c.n_head}, n_embd={c.n_embd}"
        return f"{c.norm}-norm, {sizes}{copy}"


def decoder_input_ids(batch: Mapping[str, Any], config: Any) -> Any:
    """What the decoder reads, (B, T): batch["decoder_input_ids"], or else the labels moved to the right.

    The first token is bos; what the last label would be is never read; where a label is -100 the decoder reads pad.
    """
    if "decoder_input_ids" in batch:
        return batch["decoder_input_ids"]
    labels = batch["labels"]
    m = xp(labels)
    shifted = m.full_like(labels, config.bos_id)
    shifted[:, 1:] = m.where(labels[:, :-1] == IGNORED, config.pad_id, labels[:, :-1])
    return shifted
