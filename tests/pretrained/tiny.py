"""Tiny published models, made by formula: configurations as Hugging Face writes them, and weights that anyone can make.

`reference.py` put the same weights into PyTorch's models and wrote down what came out; nothing of them is in a file.
"""

import json
import zlib

import numpy as np

from minilm.pretrained.safetensors_file import write_safetensors

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 19,
    "n_positions": 12,
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-05,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 19,
    "max_position_embeddings": 16,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 500.0,
    "tie_word_embeddings": False,
}
BERT = {
    "model_type": "bert",
    "vocab_size": 19,
    "max_position_embeddings": 12,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
LABELS = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
CONFIGURATIONS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "llama-tied": {**LLAMA, "tie_word_embeddings": True},
    "bert": {**BERT, "architectures": ["BertModel"]},
    "bert-pretraining": {**BERT, "architectures": ["BertForPreTraining"]},
    "bert-masked-lm": {**BERT, "architectures": ["BertForMaskedLM"]},
    "bert-sequence": {**BERT, **LABELS, "architectures": ["BertForSequenceClassification"]},
    "bert-token": {**BERT, **LABELS, "architectures": ["BertForTokenClassification"]},
    "bert-question": {**BERT, "architectures": ["BertForQuestionAnswering"]},
}
IDS = np.array([[3, 14, 15, 9, 2, 6], [5, 3, 5, 8, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=bool)
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]])


def formula(name, shape):
    """Weights (float32) that follow from the published name of the tensor alone."""
    wave = 43758.5453 * np.sin(12.9898 * np.arange(int(np.prod(shape))) + zlib.crc32(name.encode()) % 1000)
    digits = (wave % 1 - 0.5).reshape(shape)  # those of a sine are as good as random
    if len(shape) > 1:
        digits = 2 * digits
    elif name.endswith("weight"):  # of a norm
        digits = 1 + digits
    return digits.astype(np.float32)


def write_folder(folder, name, shapes, **changes):
    """A published folder: config.json, and model.safetensors with weights by formula for {tensor: shape}."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGURATIONS[name], **changes}))
    write_safetensors(folder / "model.safetensors", {tensor: formula(tensor, s) for tensor, s in shapes.items()})
    return folder
