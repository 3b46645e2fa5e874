"""The names that published models give their parameters, beside ours. This file is the one place that knows them.

A `Layout` lists, for a model of given sizes, each parameter of ours with the published tensors that hold it:

    GPT, published as GPT-2              weights as (in, out), the transpose of ours; query, key and value in one
    Llama, in Hugging Face's names       query, key and value apart; rotary positions on halves
    Llama, in GGUF's, in Meta's names    the same on interleaved pairs (Meta's are llama2.c's as well)
    BERT and its heads                   query, key and value apart

Ours holds query, key and value in one matrix, one after another: one product instead of three. A layout serves in
both directions, reading (`assemble`) and writing (`take_apart`); sizes are compared before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilm.models import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    GPTConfig,
    LlamaConfig,
)


@dataclass(frozen=True)
class Part:
    """A published tensor: its name, its shape as published, and how its numbers lie beside ours."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    heads: int = 0  # rows belong to so many heads, whose rotary pairs are halves, where ours are interleaved

    def ours(self, array: np.ndarray) -> np.ndarray:
        """The published array as ours has it."""
        if self.transposed:
            return array.T
        return _pairs(array, self.heads, 2) if self.heads else array

    def theirs(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `ours`."""
        if self.transposed:
            return array.T
        return _pairs(array, self.heads, array.shape[0] // self.heads // 2) if self.heads else array


def _pairs(array: np.ndarray, heads: int, groups: int) -> np.ndarray:
    """Of each head's D rows, in `groups` groups, first the first of every group, then the second, ..."""
    rows = array.reshape(heads, groups, -1, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)


@dataclass(frozen=True)
class Layout:
    """Published names of a model's parameters.

    Attributes:
        entries: (our name, its parts, whose rows follow each other in ours).
        prefix: what a published name may begin with, and does not in `entries`.
        prefixed: how names begin that get the prefix when we write.
        aliases: older spellings: pattern and replacement.
        ignored: patterns of tensors that hold nothing of this model: constants, and parts that it does not have.
        twins: published tensors that, if they are there, hold the same numbers as another: a tied head.
    """

    entries: tuple[tuple[str, tuple[Part, ...]], ...]
    prefix: str = ""
    prefixed: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> Iterator[Part]:
        """All published tensors that the model needs."""
        return (part for _, parts in self.entries for part in parts)

    def plain(self, name: str) -> str:
        """A published name without the prefix, in the present spelling."""
        for old, new in self.aliases.items():
            name = re.sub(old, new, name)
        return name.removeprefix(self.prefix)

    def written(self, name: str) -> str:
        """The inverse of `plain`: the name as it is published today."""
        return self.prefix + name if name.startswith(self.prefixed) else name

    def is_ignored(self, name: str) -> bool:
        """Is this tensor, by its plain name, one that the model does without?"""
        return any(re.search(pattern, name) for pattern in self.ignored)


def assemble(parts: tuple[Part, ...], read: Callable[[str], np.ndarray]) -> np.ndarray:
    """Our array of its published parts."""
    arrays = [part.ours(read(part.name)) for part in parts]
    return np.ascontiguousarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def take_apart(parts: tuple[Part, ...], array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(published name, array) of each part of our array."""
    start = 0
    for part in parts:
        rows = part.shape[-1] if part.transposed else part.shape[0]
        yield part.name, np.ascontiguousarray(part.theirs(array[start : start + rows]))
        start += rows


def _affine(ours: str, name: str, *shape: int, transposed: bool = False) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Weight and bias of a linear layer (rows, columns) or of a norm (C,)."""
    yield f"{ours}.weight", (Part(f"{name}.weight", shape[::-1] if transposed else shape, transposed),)
    yield f"{ours}.bias", (Part(f"{name}.bias", shape[:1]),)


# ----- GPT-2


def gpt2(config: GPTConfig) -> Layout:
    """openai-community/gpt2 and its kin; their linear layers ("Conv1D") hold (in, out)."""
    C = config.n_embd

    def entries() -> Iterator[tuple[str, tuple[Part, ...]]]:
        yield "token_embedding.weight", (Part("wte.weight", (config.vocab_size, C)),)
        yield "positions.weight", (Part("wpe.weight", (config.block_size, C)),)
        for i in range(config.n_layer):
            block, name = f"blocks.{i}.", f"h.{i}."
            yield from _affine(f"{block}norm_1", f"{name}ln_1", C)
            yield from _affine(f"{block}attention.qkv_proj", f"{name}attn.c_attn", 3 * C, C, transposed=True)
            yield from _affine(f"{block}attention.out_proj", f"{name}attn.c_proj", C, C, transposed=True)
            yield from _affine(f"{block}norm_2", f"{name}ln_2", C)
            yield from _affine(f"{block}feed_forward.up_proj", f"{name}mlp.c_fc", 4 * C, C, transposed=True)
            yield from _affine(f"{block}feed_forward.down_proj", f"{name}mlp.c_proj", C, 4 * C, transposed=True)
        yield from _affine("final_norm", "ln_f", C)

    return Layout(
        tuple(entries()),
        prefix="transformer.",
        prefixed=("",),
        ignored=(r"^h\.\d+\.attn\.(masked_)?bias$",),  # the causal mask
        twins={"lm_head.weight": "wte.weight"},
    )


# ----- Llama: one table, a column for each way to call things

_COLUMNS = ("hugging face", "gguf", "meta")
_LLAMA = {
    "token_embedding": ("model.embed_tokens", "token_embd", "tok_embeddings"),
    "final_norm": ("model.norm", "output_norm", "norm"),
    "head": ("lm_head", "output", "output"),
    "block": ("model.layers.{}.", "blk.{}.", "layers.{}."),
    "norm_1": ("input_layernorm", "attn_norm", "attention_norm"),
    "query": ("self_attn.q_proj", "attn_q", "attention.wq"),
    "key": ("self_attn.k_proj", "attn_k", "attention.wk"),
    "value": ("self_attn.v_proj", "attn_v", "attention.wv"),
    "attention.out_proj": ("self_attn.o_proj", "attn_output", "attention.wo"),
    "norm_2": ("post_attention_layernorm", "ffn_norm", "ffn_norm"),
    "feed_forward.gate_proj": ("mlp.gate_proj", "ffn_gate", "feed_forward.w1"),
    "feed_forward.up_proj": ("mlp.up_proj", "ffn_up", "feed_forward.w3"),
    "feed_forward.down_proj": ("mlp.down_proj", "ffn_down", "feed_forward.w2"),
}


def llama(config: LlamaConfig, names: str) -> Layout:
    """Llama and its kin; `names` is one of "hugging face", "gguf", "meta".

    Hugging Face's query and key rows are in the order for rotary halves; a model with interleaved pairs has them in
    the other, and they are put in order on the way in and out.
    """
    c, column = config, _COLUMNS.index(names)
    C, kv, hidden = c.n_embd, c.n_kv_head * c.head_width, c.n_hidden
    reorder = c.interleaved and names == "hugging face"

    def name(key: str) -> str:
        return f"{_LLAMA[key][column]}.weight"

    def entries() -> Iterator[tuple[str, tuple[Part, ...]]]:
        yield "token_embedding.weight", (Part(name("token_embedding"), (c.vocab_size, C)),)
        for i in range(c.n_layer):
            block, theirs = f"blocks.{i}.", _LLAMA["block"][column].format(i)
            yield f"{block}norm_1.weight", (Part(theirs + name("norm_1"), (C,)),)
            yield f"{block}attention.qkv_proj.weight", (
                Part(theirs + name("query"), (C, C), heads=c.n_head * reorder),
                Part(theirs + name("key"), (kv, C), heads=c.n_kv_head * reorder),
                Part(theirs + name("value"), (kv, C)),
            )
            for key, shape in (
                ("attention.out_proj", (C, C)),
                ("norm_2", (C,)),
                ("feed_forward.gate_proj", (hidden, C)),
                ("feed_forward.up_proj", (hidden, C)),
                ("feed_forward.down_proj", (C, hidden)),
            ):
                yield f"{block}{key}.weight", (Part(theirs + name(key), shape),)
        yield "final_norm.weight", (Part(name("final_norm"), (C,)),)
        if not c.tied:
            yield "head.weight", (Part(name("head"), (c.vocab_size, C)),)

    return Layout(
        tuple(entries()),
        ignored=(r"rotary_emb\.inv_freq$",),
        twins={name("head"): name("token_embedding")} if c.tied else {},
    )


# ----- BERT

_HEADS = (r"^pooler\.", r"^cls\.", r"^classifier\.", r"^qa_outputs\.")


def bert(config: BERTConfig, kind: type[Any], pooling: bool) -> Layout:
    """BERT and what stands on it; `kind` is one of the classes of minilm.models.bert. `pooling`: it has a pooler."""
    C = config.n_embd
    inner = "" if kind is BERT else "bert."

    def encoder() -> Iterator[tuple[str, tuple[Part, ...]]]:
        e = "embeddings."
        yield "token_embedding.weight", (Part(f"{e}word_embeddings.weight", (config.vocab_size, C)),)
        yield "positions.weight", (Part(f"{e}position_embeddings.weight", (config.block_size, C)),)
        yield "segment_embedding.weight", (Part(f"{e}token_type_embeddings.weight", (config.n_segment, C)),)
        yield from _affine("embedding_norm", f"{e}LayerNorm", C)
        for i in range(config.n_layer):
            block, layer = f"blocks.{i}.", f"encoder.layer.{i}."
            three = [f"{layer}attention.self.{name}" for name in ("query", "key", "value")]
            qkv = f"{block}attention.qkv_proj"
            yield f"{qkv}.weight", tuple(Part(f"{name}.weight", (C, C)) for name in three)
            yield f"{qkv}.bias", tuple(Part(f"{name}.bias", (C,)) for name in three)
            yield from _affine(f"{block}attention.out_proj", f"{layer}attention.output.dense", C, C)
            yield from _affine(f"{block}norm_1", f"{layer}attention.output.LayerNorm", C)
            yield from _affine(f"{block}feed_forward.up_proj", f"{layer}intermediate.dense", config.n_hidden, C)
            yield from _affine(f"{block}feed_forward.down_proj", f"{layer}output.dense", C, config.n_hidden)
            yield from _affine(f"{block}norm_2", f"{layer}output.LayerNorm", C)
        if pooling:
            yield from _affine("pooler", "pooler.dense", C, C)

    def head() -> Iterator[tuple[str, tuple[Part, ...]]]:
        if kind is BERTForMaskedLM:
            yield from _affine("transform", "cls.predictions.transform.dense", C, C)
            yield from _affine("transform_norm", "cls.predictions.transform.LayerNorm", C)
            yield "decoder_bias", (Part("cls.predictions.bias", (config.vocab_size,)),)
            if config.next_sentence:
                yield from _affine("next_sentence", "cls.seq_relationship", 2, C)
        elif kind in (BERTForSequenceClassification, BERTForTokenClassification):
            yield from _affine("classifier", "classifier", config.num_labels, C)
        elif kind is BERTForQuestionAnswering:
            yield from _affine("span", "qa_outputs", 2, C)

    return Layout(
        (*((inner + ours, parts) for ours, parts in encoder()), *head()),
        prefix="bert.",
        prefixed=() if kind is BERT else ("embeddings.", "encoder.", "pooler."),
        aliases={r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"},
        ignored=(r"^embeddings\.position_ids$", *_HEADS),
        twins={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"}
        | {"cls.predictions.decoder.bias": "cls.predictions.bias"}
        if kind is BERTForMaskedLM
        else {},
    )

