"""BERT: a Transformer encoder, in which every token sees all others (Devlin et al. 2019), and what is put on top of it.

    x_0 = norm(W_e[ids] + W_p[0..T-1] + W_s[segments])
    x_l = block_l(x_{l-1})               post-norm: norm(x + attention(x)), then norm(x + feed_forward(x)); exact GELU
    pooled = tanh(x_L[0] W + b)          one vector for the text, from its first token, [CLS]

A model like this does not write. It is trained to restore words that were hidden (BERTForMaskedLM; the masks are drawn
by minilm.text.masking), and then a small head, started afresh, is trained with it on a task: a class for the text, a
class for each token, or where an answer begins and ends.

Batches use the names of Hugging Face: input_ids (B, T), attention_mask (B, T), False for padding, and token_type_ids
(B, T), the segment (0 or 1) that each token belongs to; the last two may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import minilm.functional as F
from minilm import nn
from minilm.backend import asarray, to_numpy, xp
from minilm.errors import ConfigurationError
from minilm.models.configuration import check_dropout, check_heads, check_sizes
from minilm.nn import initialization
from minilm.tensor import Tensor, unwrap
from minilm.text.batches import IGNORED


@dataclass(frozen=True)
class BERTConfig:
    """Sizes of a BERT; the defaults are BERT-base's (uncased)."""

    vocab_size: int = 30522
    block_size: int = 512  # T at most: one learned position each
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768  # C
    n_hidden: int = 3072  # of the feed-forward network
    n_segment: int = 2
    dropout: float = 0.1
    norm_eps: float = 1e-12
    num_labels: int = 2  # K: classes of a text, or of a token; the other heads do not use it
    next_sentence: bool = False  # BERTForMaskedLM also tells whether the second segment follows the first

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_hidden", "n_segment", "num_labels")
        check_sizes(self, sizes)
        check_heads(self, "n_embd", "n_head")
        if not self.norm_eps > 0:
            raise ConfigurationError(f"BERTConfig: norm_eps is a positive number, got {self.norm_eps}")
        check_dropout(self)


class BERT(nn.Module):
    """ids (B, T) -> hidden states (B, T, C) and the pooled vector (B, C), None where `pooling` is False."""

    def __init__(self, config: BERTConfig, pooling: bool = True) -> None:
        super().__init__()
        self.config = config
        C = config.n_embd
        self.token_embedding = nn.Embedding(config.vocab_size, C)
        self.positions = nn.LearnedPositions(config.block_size, C)
        self.segment_embedding = nn.Embedding(config.n_segment, C)
        self.embedding_norm = nn.LayerNorm(C, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerBlock(
                C,
                config.n_head,
                hidden_dim=config.n_hidden,
                activation="gelu",
                norm="post",
                norm_layer=lambda width: nn.LayerNorm(width, config.norm_eps),
                dropout=config.dropout,
            )
            for _ in range(config.n_layer)
        )
        self.pooler = nn.Linear(C, C) if pooling else None
        _initialize(self)

    @property
    def context_length(self) -> int:
        """The most tokens that one forward pass takes."""
        return self.config.block_size

    def forward(self, ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> tuple[Tensor, Tensor | None]:
        """ids (B, T) -> (hidden (B, T, C), pooled (B, C)).

        Args:
            attention_mask: (B, T), False (or 0) for padding, which no token then sees.
            token_type_ids: (B, T), the segment of each token; the first segment for all if None.

        Raises:
            ValueError: for more tokens than `context_length`.
            IndexError: for an id outside the vocabulary, or a segment that there is not.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids have the axes (B, T), got {ids.shape}: a single sequence is ids[None]")
        mask = None
        if attention_mask is not None:
            mask = Tensor(asarray(attention_mask, dtype=bool))[:, None, None, :]  # (B, 1, 1, T)
        if token_type_ids is None:
            token_type_ids = xp(ids).zeros_like(ids)
        x = self.positions(self.token_embedding(ids)) + self.segment_embedding(token_type_ids)  # (B, T, C)
        x = self.dropout(self.embedding_norm(x))
        for block in self.blocks:
            x = block(x, attn_mask=mask)
        return x, None if self.pooler is None else self.pooler(x[:, 0]).tanh()

    def describe(self) -> str:
        c = self.config
        return f"vocab_size={c.vocab_size}, block_size={c.block_size}, n_layer={c.n_layer}, n_head={c.n_head}"


class _OnTop(nn.Module):
    """An encoder and a head on top of it. `bert` may be an encoder that is trained already; it is not copied."""

    def __init__(self, config: BERTConfig, bert: BERT | None, pooling: bool) -> None:
        super().__init__()
        if bert is not None and pooling and bert.pooler is None:
            raise ConfigurationError(
                f"{type(self).__name__} looks at the pooled vector, and this encoder has no pooler: make the encoder "
                "with pooling=True"
            )
        self.config = config
        self.bert = BERT(config, pooling) if bert is None else bert

    @property
    def context_length(self) -> int:
        """The most tokens that one forward pass takes."""
        return self.config.block_size

    def describe(self) -> str:
        return self.bert.describe()


def _inputs(batch: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return batch["input_ids"], batch.get("attention_mask"), batch.get("token_type_ids")


class BERTForMaskedLM(_OnTop):
    """Which token was there? logits (B, T, V); with config.next_sentence also logits (B, 2): follows, does not.

    The decoder is the embedding table again, behind one more layer; only its bias is its own.
    """

    def __init__(self, config: BERTConfig, bert: BERT | None = None) -> None:
        super().__init__(config, bert, pooling=config.next_sentence)
        self.transform = nn.Linear(config.n_embd, config.n_embd)
        self.transform_norm = nn.LayerNorm(config.n_embd, config.norm_eps)
        self.decoder_bias = initialization.zeros((config.vocab_size,))
        self.next_sentence = nn.Linear(config.n_embd, 2) if config.next_sentence else None
        _initialize(self, but=self.bert)

    def forward(self, ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> tuple[Tensor, Tensor | None]:
        """ids (B, T) -> (token logits (B, T, V), next-sentence logits (B, 2) or None); see BERT.forward."""
        hidden, pooled = self.bert(ids, attention_mask, token_type_ids)
        return self._logits(hidden), None if self.next_sentence is None else self.next_sentence(pooled)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood of batch["labels"] (B, T), -100 where nothing was hidden.

        With config.next_sentence that of batch["next_sentence_label"] (B,) is added: 0 if the second segment follows
        the first, 1 if it is from elsewhere. Of seven tokens one is hidden, and only for those are there logits.
        """
        hidden, pooled = self.bert(*_inputs(batch))
        loss = self._loss_of_words(hidden, batch["labels"])
        if self.next_sentence is None:
            return loss
        next_logits = self.next_sentence(pooled)
        return loss + F.cross_entropy(F.at_least_float32(next_logits), batch["next_sentence_label"])

    def loss_of_words(self, batch: Mapping[str, Any]) -> Tensor:
        """The loss of the hidden tokens alone, whatever the model knows of next sentences."""
        return self._loss_of_words(self.bert(*_inputs(batch))[0], batch["labels"])

    def _logits(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V)."""
        x = self.transform_norm(self.transform(hidden, "gelu"))
        return F.linear(x, self.bert.token_embedding.weight, self.decoder_bias)

    def _loss_of_words(self, x: Tensor, labels: Any) -> Tensor:
        labels = to_numpy(unwrap(labels))
        counts = labels != IGNORED
        if counts.any() and not counts.all():
            x, labels = x[counts], labels[counts]  # (N, C), (N,)
        return F.cross_entropy(F.at_least_float32(self._logits(x)), labels)


class BERTForSequenceClassification(_OnTop):
    """Which of K classes is this text? logits (B, K), from the pooled vector."""

    def __init__(self, config: BERTConfig, bert: BERT | None = None) -> None:
        super().__init__(config, bert, pooling=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.n_embd, config.num_labels)
        _initialize(self, but=self.bert)

    def forward(self, ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> Tensor:
        """ids (B, T) -> logits (B, K); see BERT.forward."""
        return self.classifier(self.dropout(self.bert(ids, attention_mask, token_type_ids)[1]))

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood of batch["labels"] (B,), integers from 0 to K - 1."""
        return F.cross_entropy(F.at_least_float32(self(*_inputs(batch))), batch["labels"])


class BERTForTokenClassification(_OnTop):
    """Which of K classes is each token (a name, a verb)? logits (B, T, K)."""

    def __init__(self, config: BERTConfig, bert: BERT | None = None) -> None:
        super().__init__(config, bert, pooling=False)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.n_embd, config.num_labels)
        _initialize(self, but=self.bert)

    def forward(self, ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> Tensor:
        """ids (B, T) -> logits (B, T, K); see BERT.forward."""
        return self.classifier(self.dropout(self.bert(ids, attention_mask, token_type_ids)[0]))

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood of batch["labels"] (B, T), -100 for tokens that do not count (padding)."""
        return F.cross_entropy(F.at_least_float32(self(*_inputs(batch))), batch["labels"])


class BERTForQuestionAnswering(_OnTop):
    """Where in the text does the answer begin and end? Two rows of logits (B, T); -inf at padding.

    The question is the first segment, the text the second.
    """

    def __init__(self, config: BERTConfig, bert: BERT | None = None) -> None:
        super().__init__(config, bert, pooling=False)
        self.span = nn.Linear(config.n_embd, 2)
        _initialize(self, but=self.bert)

    def forward(self, ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> tuple[Tensor, Tensor]:
        """ids (B, T) -> (logits (B, T) of the first token of the answer, and of its last); see BERT.forward."""
        logits = self.span(self.bert(ids, attention_mask, token_type_ids)[0])  # (B, T, 2)
        if attention_mask is not None:
            logits = F.where(asarray(attention_mask, dtype=bool)[:, :, None], logits, float("-inf"))
        return logits[:, :, 0], logits[:, :, 1]

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The mean of the two losses, for batch["start_positions"] and batch["end_positions"] (B,)."""
        start, end = (F.at_least_float32(logits) for logits in self(*_inputs(batch)))
        return 0.5 * (F.cross_entropy(start, batch["start_positions"]) + F.cross_entropy(end, batch["end_positions"]))


def _initialize(model: nn.Module, but: nn.Module | None = None) -> None:
    """Weights N(0, 0.02²), biases 0, as published; the modules of `but` are left alone."""
    known = set() if but is None else {id(module) for module in but.modules()}
    for module in model.modules():
        if id(module) not in known and isinstance(module, nn.Linear):
            initialization.normal_(module.weight, 0.02)
            module.bias = initialization.zeros((module.out_features,))
        elif id(module) not in known and isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, 0.02)
