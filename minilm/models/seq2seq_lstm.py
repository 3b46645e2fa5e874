"""An LSTM encoder-decoder with attention: how one translated before the Transformer (Bahdanau, Cho & Bengio 2015).

    h_j  = [forward LSTM; backward LSTM](x_1 .. x_Tk)_j     the encoder reads from both ends
    e_tj = vᵀ tanh(W_q s_(t-1) + W_k h_j)                   how well does h_j fit what comes next?
    a_t  = softmax_j(e_t),   c_t = sum_j a_tj h_j           the context: another one at each step
    s_t  = LSTM([y_(t-1); c_t], s_(t-1))                    s_0 = tanh(W_0 backward h_1)
    logits_t = W_e tanh(W_r [s_t; c_t; y_(t-1)])            W_e is the embedding table again

The scores come from s_(t-1), and their context goes into s_t: the steps of the decoder cannot be computed side by side,
as those of a Transformer can, even where the whole target is known (teacher forcing). What does not hang on s is done
for all steps at once: W_k h_j before the loop, the logits after it.

Where this differs from the paper: LSTM cells instead of its gated units, tanh instead of maxout before the logits, and
one embedding table for both languages and the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import minilm.functional as F
from minilm import nn
from minilm.backend import asarray, to_numpy, xp
from minilm.models.configuration import check_dropout, check_sizes
from minilm.models.transformer import check_sequence_to_sequence, decoder_input_ids
from minilm.nn import initialization
from minilm.tensor import Tensor


@dataclass(frozen=True)
class Seq2SeqLSTMConfig:
    """Sizes of an LSTM encoder-decoder; one layer on each side, as published."""

    vocab_size: int  # V of both languages together, with the three tokens below
    n_embd: int = 256  # C
    n_hidden: int = 512  # H: of the encoder in each direction, of the decoder, and of the attention
    dropout: float = 0.2  # of the embeddings, the memory and before the logits
    label_smoothing: float = 0.1  # in training; an evaluation tells the plain loss
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2

    def __post_init__(self) -> None:
        check_sizes(self, ("vocab_size", "n_embd", "n_hidden"))
        check_dropout(self)
        check_sequence_to_sequence(self)


class Seq2SeqLSTMState:
    """The memory (B, Tk, 2H), its keys (B, Tk, H) and mask (B, Tk, 1), and the decoder's h and c, (B, H) each."""

    def __init__(self, memory: Tensor, keys: Tensor, mask: Tensor | None, h: Tensor, c: Tensor) -> None:
        self.memory, self.keys, self.mask, self.h, self.c = memory, keys, mask, h, c

    def select(self, rows: Any) -> Seq2SeqLSTMState:
        """The state of these rows of the batch, in this order; a row may come several times."""
        mask = None if self.mask is None else self.mask[rows]
        return Seq2SeqLSTMState(self.memory[rows], self.keys[rows], mask, self.h[rows], self.c[rows])


class Seq2SeqLSTM(nn.Module):
    """source ids (B, Tk) and target ids (B, T) -> logits (B, T, V) for the target token that comes next."""

    context_length = None  # any number of tokens

    def __init__(self, config: Seq2SeqLSTMConfig) -> None:
        super().__init__()
        self.config = config
        C, H = config.n_embd, config.n_hidden
        self.token_embedding = nn.Embedding(config.vocab_size, C)
        initialization.normal_(self.token_embedding.weight, C**-0.5)
        self.forward_lstm = nn.LSTM(C, H, forget_bias=1.0)
        self.backward_lstm = nn.LSTM(C, H, forget_bias=1.0)
        self.start = nn.Linear(H, H)  # W_0
        self.query = nn.Linear(H, H, bias=False)  # W_q
        self.key = nn.Linear(2 * H, H)  # W_k
        self.score = nn.Linear(H, 1, bias=False)  # v
        self.decoder = nn.LSTM(C + 2 * H, H, forget_bias=1.0)
        self.readout = nn.Linear(3 * H + C, C)  # W_r
        self.dropout = nn.Dropout(config.dropout)

    # --- the encoder

    def encode(self, input_ids: Any, attention_mask: Any = None) -> Seq2SeqLSTMState:
        """Read the source (B, Tk), padded at its end where the mask is False: the state from which `decode` begins.

        The backward LSTM reads the text turned round, its last token first, and the padding after it: a translation
        does not change with the padding.
        """
        if input_ids.ndim != 2:
            raise ValueError(f"ids have the axes (B, Tk), got {input_ids.shape}: a single sequence is ids[None]")
        B, Tk = input_ids.shape
        lengths = np.full(B, Tk) if attention_mask is None else to_numpy(attention_mask).sum(1)
        place = np.arange(Tk)
        turned = np.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)  # (B, Tk), its own inverse
        turned = turned + np.arange(B)[:, None] * Tk  # places in (B Tk)

        ahead, _ = self.forward_lstm(self._embedded(input_ids))
        back, _ = self.backward_lstm(self._embedded(input_ids.reshape(-1)[turned]))
        back = back.reshape(B * Tk, -1)[asarray(turned)]  # (B, Tk, H)
        memory = self.dropout(F.concatenate([ahead, back], axis=-1))
        mask = None if attention_mask is None else Tensor(asarray(attention_mask, dtype=bool))[:, :, None]
        h = self.start(back[:, 0]).tanh()
        c = Tensor(xp(h.data).zeros_like(h.data))
        return Seq2SeqLSTMState(memory, self.key(memory), mask, h, c)

    def _embedded(self, ids: Any) -> Tensor:
        return self.dropout(self.token_embedding(ids) * self.config.n_embd**0.5)

    # --- the decoder

    def _attend(self, state: Seq2SeqLSTMState) -> tuple[Tensor, Tensor]:
        """The context c_t (B, 1, 2H), and the weights a_t (B, 1, Tk)."""
        scores = self.score((state.keys + self.query(state.h)[:, None]).tanh())  # (B, Tk, 1)
        if state.mask is not None:
            scores = F.where(state.mask, scores, float("-inf"))
        weights = F.softmax(scores, axis=1).swapaxes(1, 2)
        return weights @ state.memory, weights

    def _steps(self, ids: Any, state: Seq2SeqLSTMState) -> tuple[Tensor, Seq2SeqLSTMState, list[Tensor]]:
        y = self._embedded(ids)  # (B, T, C)
        outputs, contexts, weights = [], [], []
        for t in range(ids.shape[1]):
            context, a = self._attend(state)
            x = F.concatenate([y[:, t : t + 1], context], axis=-1)  # (B, 1, C + 2H)
            output, (h, c) = self.decoder(x, (state.h[None], state.c[None]))
            state = Seq2SeqLSTMState(state.memory, state.keys, state.mask, h[0], c[0])
            outputs.append(output)
            contexts.append(context)
            weights.append(a)
        known = F.concatenate([F.concatenate(outputs, axis=1), F.concatenate(contexts, axis=1), y], axis=-1)
        z = self.dropout(self.readout(known).tanh())
        return F.linear(z, self.token_embedding.weight), state, weights

    def forward(self, input_ids: Any, decoder_input_ids: Any, attention_mask: Any = None) -> Tensor:
        """source (B, Tk), target so far (B, T) -> logits (B, T, V) of the tokens after each of the target.

        Args:
            attention_mask: (B, Tk), False for padding, which is at the end of the source.
        """
        return self._steps(decoder_input_ids, self.encode(input_ids, attention_mask))[0]

    def decode(self, ids: Any, state: Seq2SeqLSTMState) -> tuple[Tensor, Seq2SeqLSTMState]:
        """logits (B, T, V) after each of the next T target tokens, and the state after them."""
        logits, state, _ = self._steps(ids, state)
        return logits, state

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean negative log-likelihood, in nats, of batch["labels"] (B, T); the same batches as Transformer.loss."""
        logits = self(batch["input_ids"], decoder_input_ids(batch, self.config), batch.get("attention_mask"))
        smoothing = self.config.label_smoothing if self.training else 0.0
        return F.cross_entropy(F.at_least_float32(logits), batch["labels"], label_smoothing=smoothing)

    def attention_weights(self, input_ids: Any, decoder_input_ids: Any, attention_mask: Any = None) -> np.ndarray:
        """Where the decoder looks in the source: (1, B, 1, T, Tk), as Transformer's: one layer, one head."""
        with nn.evaluating(self.modules()):
            _, _, weights = self._steps(decoder_input_ids, self.encode(input_ids, attention_mask))
            return to_numpy(F.concatenate(weights, axis=1).data)[None, :, None]

    def describe(self) -> str:
        c = self.config
        return f"vocab_size={c.vocab_size}, n_embd={c.n_embd}, n_hidden={c.n_hidden}"
