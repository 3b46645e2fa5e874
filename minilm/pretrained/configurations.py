"""The sizes of published models, as config.json and GGUF name them, and ours.

What a published configuration asks for and our model does not do (another activation, stretched rotary angles, biases)
is refused here, by name: a model that loads computes what its publishers' code computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minilm.errors import CheckpointError, ConfigurationError
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
from minilm.pretrained.gguf_file import GGUF

LARGEST = 1 << 31  # of any size
LONGEST_TABLE = 1 << 24  # positions times pairs of channels, of rotary angles: no tensor in the file vouches for it

BERT_CLASSES: dict[str, type[Any]] = {
    "BertModel": BERT,
    "BertForPreTraining": BERTForMaskedLM,
    "BertForMaskedLM": BERTForMaskedLM,
    "BertForSequenceClassification": BERTForSequenceClassification,
    "BertForTokenClassification": BERTForTokenClassification,
    "BertForQuestionAnswering": BERTForQuestionAnswering,
}
"""Hugging Face's name of an architecture -> our class."""


class Fields:
    """The fields of a configuration, each of the type and in the range that it has to be.

    Raises (all methods):
        CheckpointError: naming the field.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def size(self, name: str, default: int | None = None) -> int:
        """An integer from 1."""
        value = self.values.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value < LARGEST:
            raise CheckpointError(f"{self.where}: {name!r} is {value!r}, and should be an integer from 1")
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number that float32 has, and its reciprocal."""
        value = self.values.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not 1e-37 <= value <= 1e37:
            raise CheckpointError(f"{self.where}: {name!r} is {value!r}, and should be a positive number of usual size")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        if type(value) is not bool:
            raise CheckpointError(f"{self.where}: {name!r} is {value!r}, and should be true or false")
        return value

    def probability(self, name: str, default: float) -> float:
        """A number from 0 to below 1."""
        value = self.values.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise CheckpointError(f"{self.where}: {name!r} is {value!r}, and should be from 0 to below 1")
        return float(value)

    def demand(self, name: str, *allowed: Any) -> None:
        """Refuse any value but these; the first is what a missing field means."""
        value = self.values.get(name, allowed[0])
        if not any(type(value) is type(good) and value == good for good in allowed):
            raise CheckpointError(
                f"{self.where}: {name!r} is {value!r}, and minilm's model of this kind is made for "
                f"{' or '.join(map(repr, allowed))} only"
            )


def _made(kind: type[Any], where: str, **fields: Any) -> Any:
    try:
        return kind(**fields)
    except ConfigurationError as error:
        raise CheckpointError(f"{where}: the sizes contradict each other ({error})") from error


# ----- GPT-2


def gpt2_from_json(values: Mapping[str, Any], where: str) -> GPTConfig:
    """config.json of a GPT-2 -> ours."""
    f = Fields(values, where)
    C = f.size("n_embd")
    f.demand("activation_function", "gelu_new", "gelu_pytorch_tanh")
    f.demand("layer_norm_epsilon", 1e-5)
    f.demand("n_inner", None, 4 * C)
    f.demand("scale_attn_weights", True)
    f.demand("scale_attn_by_inverse_layer_idx", False)
    f.demand("tie_word_embeddings", True)
    return _made(
        GPTConfig,
        where,
        vocab_size=f.size("vocab_size"),
        block_size=f.size("n_positions", values.get("n_ctx")),
        n_layer=f.size("n_layer"),
        n_head=f.size("n_head"),
        n_embd=C,
        dropout=f.probability("resid_pdrop", 0.1),
    )


def gpt2_to_json(c: GPTConfig) -> dict[str, Any]:
    """The inverse."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": c.vocab_size,
        "n_positions": c.block_size,
        "n_ctx": c.block_size,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": c.dropout,
        "embd_pdrop": c.dropout,
        "attn_pdrop": c.dropout,
        "tie_word_embeddings": True,
    }


# ----- Llama


def llama_from_json(values: Mapping[str, Any], where: str, context_length: int | None) -> LlamaConfig:
    """config.json of a Llama -> ours; at most `context_length` positions, where it is given."""
    f = Fields(values, where)
    C, n_head = f.size("hidden_size"), f.size("num_attention_heads")
    f.demand("hidden_act", "silu", "swish")
    f.demand("attention_bias", False)
    f.demand("mlp_bias", False)
    f.demand("head_dim", None, C // n_head)
    f.demand("rope_scaling", None)
    rope = values.get("rope_parameters") or {}  # where newer versions keep theta
    if not isinstance(rope, dict):
        raise CheckpointError(f"{where}: 'rope_parameters' is {rope!r}, and should be an object")
    Fields(rope, where).demand("rope_type", "default")
    theta = Fields(rope, where).number("rope_theta", f.number("rope_theta", 10000.0))
    return _made(
        LlamaConfig,
        where,
        vocab_size=f.size("vocab_size"),
        block_size=_context(f.size("max_position_embeddings", 2048), C // n_head, context_length, where),
        n_layer=f.size("num_hidden_layers"),
        n_head=n_head,
        n_kv_head=f.size("num_key_value_heads", n_head),
        n_embd=C,
        n_hidden=f.size("intermediate_size"),
        rope_theta=theta,
        norm_eps=f.number("rms_norm_eps", 1e-6),
        interleaved=False,
        tied=f.flag("tie_word_embeddings", False),
    )


def llama_to_json(c: LlamaConfig) -> dict[str, Any]:
    """The inverse."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.block_size,
        "hidden_size": c.n_embd,
        "intermediate_size": c.n_hidden,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": c.tied,
    }


def llama_from_gguf(file: GGUF, context_length: int | None) -> LlamaConfig:
    """The facts of a GGUF file of a Llama -> ours."""
    where = str(file.path)
    architecture = file.fact("general.architecture", str)
    if architecture != "llama":
        raise CheckpointError(f"{where} holds a {architecture!r}, and of GGUF files minilm reads those of 'llama'")
    f = Fields({k.removeprefix("llama."): v for k, v in file.facts.items() if k.startswith("llama.")}, where)
    C, n_head = f.size("embedding_length"), f.size("attention.head_count")
    f.demand("rope.dimension_count", C // n_head)
    f.demand("rope.scaling.type", "none")
    for name in ("attention.key_length", "attention.value_length"):
        f.demand(name, C // n_head)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError(f"{where} has no tensor 'token_embd.weight': it is not the whole of a model")
    return _made(
        LlamaConfig,
        where,
        vocab_size=f.size("vocab_size", embedding.shape[0]),
        block_size=_context(f.size("context_length"), C // n_head, context_length, where),
        n_layer=f.size("block_count"),
        n_head=n_head,
        n_kv_head=f.size("attention.head_count_kv", n_head),
        n_embd=C,
        n_hidden=f.size("feed_forward_length"),
        rope_theta=f.number("rope.freq_base", 10000.0),
        norm_eps=f.number("attention.layer_norm_rms_epsilon", 1e-5),
        interleaved=True,
        tied="output.weight" not in file.tensors,
    )


def _context(claimed: int, D: int, wanted: int | None, where: str) -> int:
    """The model's context: what the file says, or the smaller number that the caller wants."""
    length = claimed if wanted is None else min(claimed, wanted)
    if length * max(D, 1) // 2 > LONGEST_TABLE:
        raise CheckpointError(
            f"{where} claims a context of {claimed:,} tokens, whose table of rotary positions would take "
            f"{length * D * 4 / 2**20:,.0f} MB: pass a smaller context_length to from_pretrained"
        )
    return length


# ----- BERT


def bert_from_json(values: Mapping[str, Any], where: str) -> BERTConfig:
    """config.json of a BERT -> ours."""
    f = Fields(values, where)
    f.demand("hidden_act", "gelu")
    f.demand("position_embedding_type", "absolute")
    f.demand("is_decoder", False)
    f.demand("tie_word_embeddings", True)
    labels = values.get("id2label")
    count = len(labels) if isinstance(labels, dict) and labels else f.size("num_labels", 2)
    return _made(
        BERTConfig,
        where,
        vocab_size=f.size("vocab_size"),
        block_size=f.size("max_position_embeddings"),
        n_layer=f.size("num_hidden_layers"),
        n_head=f.size("num_attention_heads"),
        n_embd=f.size("hidden_size"),
        n_hidden=f.size("intermediate_size"),
        n_segment=f.size("type_vocab_size", 2),
        dropout=f.probability("hidden_dropout_prob", 0.1),
        norm_eps=f.number("layer_norm_eps", 1e-12),
        num_labels=count,
        next_sentence=values.get("architectures") == ["BertForPreTraining"],
    )


def bert_to_json(c: BERTConfig, kind: type[Any]) -> dict[str, Any]:
    """The inverse; `kind` is the class of the model."""
    names = {ours: theirs for theirs, ours in BERT_CLASSES.items() if theirs != "BertForPreTraining"}
    name = "BertForPreTraining" if kind is BERTForMaskedLM and c.next_sentence else names[kind]
    labels = {}
    if kind in (BERTForSequenceClassification, BERTForTokenClassification):
        labels = {
            "id2label": {str(i): f"LABEL_{i}" for i in range(c.num_labels)},
            "label2id": {f"LABEL_{i}": i for i in range(c.num_labels)},
        }
    return {
        "architectures": [name],
        "model_type": "bert",
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.block_size,
        "hidden_size": c.n_embd,
        "intermediate_size": c.n_hidden,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "type_vocab_size": c.n_segment,
        "hidden_act": "gelu",
        "layer_norm_eps": c.norm_eps,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.dropout,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
        **labels,
    }


def bert_class(values: Mapping[str, Any], where: str) -> type[Any]:
    """Our class for the architecture that a config.json names; BERT if it names none."""
    named = values.get("architectures") or ["BertModel"]
    name = named[0] if isinstance(named, list) else named
    if not isinstance(name, str) or name not in BERT_CLASSES:
        raise CheckpointError(
            f"{where} describes a {name!r}, and minilm knows {', '.join(BERT_CLASSES)}: name the class to make of it, "
            "as in from_pretrained(path, kind=minilm.models.BERT)"
        )
    return BERT_CLASSES[name]
