"""Looking into published models: what each layer would say, where heads look, which words count, and bias probes.

    make pretrained
    python benchmarks/inspection.py                 about a minute on one core
    python benchmarks/inspection.py lens saliency   these parts; the others in results/inspection.json stay

    lens          SmolLM2-135M-Instruct reads "The capital of France is": the logit lens
    attention     its 270 heads on a text that says something twice: which looks back to the token before most, and
                  which to the token that followed the same word (an induction head, Olsson et al. 2022)
    pronouns      paired sentences with occupations: "she" against "he"
    names         the same with women's names against men's
    association   WEAT and SEAT on all-MiniLM-L6-v2: two associations that nobody minds, and occupations with gender
    saliency      a classifier of film reviews (a linear layer on all-MiniLM-L6-v2, trained here on 1,200 sentences):
                  three attributions of three sentences

What these figures do not show stands in the files of minilm.inspection, and belongs to them. The sentences and lists of
words are our own. Saves results/inspection.json and results/inspection_*.png.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import minilm.functional as F
from harness import RESULTS, machine, save
from minilm import nn
from minilm.inspection import (
    association_test,
    attention_maps,
    effect,
    gradient_norm,
    gradient_times_input,
    group_difference,
    integrated_gradients,
    log_likelihoods,
    logit_lens,
    paired_sentences,
    probe_pairs,
    read,
)
from minilm.inspection.bias_probe import OCCUPATIONS, TEMPLATES
from minilm.kernels.threads import thread_count
from minilm.plots import plot_attention, plot_effects, plot_logit_lens, plot_saliency
from minilm.pretrained import SentenceEncoder, from_pretrained
from minilm.pretrained.packages import CHAT
from minilm.random import Generator
from minilm.tensor import Tensor, no_grad
from minilm.text import load_corpus, split_documents
from minilm.training import Trainer, TrainingArguments

PARTS = ("lens", "attention", "pronouns", "names", "association", "saliency")
SMOLLM2 = "SmolLM2-135M-Instruct"
PROMPT, ANSWER = "The capital of France is", " Paris"
REPEATED = "The old sailor met a young painter. Next day the old sailor met a"
NEUTRAL = ("person", "neighbour", "guest", "student", "visitor", "friend", "stranger")
NAMES = (("Emily", "Jacob"), ("Anna", "Peter"), ("Sarah", "Thomas"), ("Laura", "Daniel"))
NAME_TEMPLATES = ("{word} is the {group} in our town.", "{word}, the {group}, came home late.")
PROBES = {"pronouns": ((("she", "he"),), TEMPLATES), "names": (NAMES, NAME_TEMPLATES)}
WORDS = {
    "flowers": ("rose", "tulip", "lily", "daisy", "orchid", "violet"),
    "insects": ("wasp", "flea", "mosquito", "cockroach", "maggot", "louse"),
    "pleasant": ("love", "peace", "joy", "gift", "laughter", "friend"),
    "unpleasant": ("pain", "hatred", "filth", "murder", "poison", "grief"),
    "instruments": ("guitar", "violin", "flute", "piano", "trumpet", "harp"),
    "weapons": ("rifle", "sword", "dagger", "cannon", "bomb", "pistol"),
    "female": ("she", "woman", "girl", "daughter", "mother", "sister"),
    "male": ("he", "man", "boy", "son", "father", "brother"),
    **OCCUPATIONS,
}
TESTS = (
    ("flowers", "insects", "pleasant", "unpleasant"),
    ("instruments", "weapons", "pleasant", "unpleasant"),
    ("care and office", "trades and command", "female", "male"),
)
REVIEWS = (
    "a warm , funny and touching film .",
    "the plot is dull and the jokes fall flat .",
    "this is not a bad film at all .",
)
TRAINING, HELD_OUT = 1_200, 400


def say(line: str) -> None:
    print(line, flush=True)


# ----- SmolLM2


class Decoder:
    """SmolLM2 and its tokenizer, loaded when first asked for."""

    def __init__(self) -> None:
        self._loaded: Any = None

    @property
    def loaded(self) -> Any:
        if self._loaded is None:
            self._loaded = from_pretrained(CHAT, context_length=256)
        return self._loaded


def lens(decoder: Decoder) -> dict[str, Any]:
    """The logit lens on the prompt, and from which layer on the answer is the first."""
    model, tokenizer = decoder.loaded
    reading = read(tokenizer, PROMPT)
    (answer,) = (int(i) for i in tokenizer.encode(ANSWER))
    found = logit_lens(model, reading.ids, follow=(answer,))
    plot_logit_lens(
        found,
        reading.tokens,
        lambda i: tokenizer.decode([i]),
        RESULTS / "inspection_logit_lens.png",
        f"{SMOLLM2}: what each layer would say next",
    )
    last = found.top[:, -1]
    first = next(layer for layer in range(len(last)) if (last[layer:] == answer).all())
    probability = found.followed[answer][:, -1]
    say(f"lens: {ANSWER!r} is the first choice from layer {first} of {len(last) - 1} on, at last {probability[-1]:.3f}")
    return {
        "prompt": PROMPT,
        "answer": ANSWER,
        "first_choice_from_layer": first,
        "layers": len(last) - 1,
        "probability_by_layer": [float(p) for p in probability],
        "divergence_by_layer": [float(d) for d in found.divergence[:, -1]],
        "first_choice_by_layer": [tokenizer.decode([int(i)]) for i in last],
    }


def attention(decoder: Decoder) -> dict[str, Any]:
    """Of all heads the one that looks to the token before, and the one that finds what followed the same word."""
    model, tokenizer = decoder.loaded
    reading = read(tokenizer, REPEATED)
    maps = attention_maps(model, reading.ids[None])["blocks.attention"][:, 0]  # (layers, H, T, T)
    T = len(reading.ids)
    before = maps[:, :, range(1, T), range(T - 1)].mean(-1)
    ids = reading.ids.tolist()
    # where a token stood already: what followed it there; the last time it did
    pairs = [(t, max(s for s in range(t) if ids[s] == ids[t]) + 1) for t in range(T) if ids[t] in ids[:t]]
    pairs = [(t, s) for t, s in pairs if s < t]
    queries, keys = (list(places) for places in zip(*pairs, strict=True))
    induction = maps[:, :, queries, keys].mean(-1)
    first = maps[:, :, 1:, 0].mean(-1)
    found, chosen, labels = {}, [], []
    for name, scores in (("the token before", before), ("what followed the same token", induction)):
        layer, head = (int(i) for i in np.unravel_index(scores.argmax(), scores.shape))
        found[name] = {"layer": layer + 1, "head": head + 1, "mean_weight": float(scores[layer, head])}
        chosen.append(maps[layer, head])
        labels.append(f"layer {layer + 1}, head {head + 1}: {name}")
        say(f"attention: {name}: layer {layer + 1}, head {head + 1}, mean weight {scores[layer, head]:.2f}")
    plot_attention(
        np.stack(chosen),
        reading.tokens,
        reading.tokens,
        RESULTS / "inspection_attention.png",
        f"{SMOLLM2}: two of its {maps.shape[0] * maps.shape[1]} heads",
        labels,
    )
    return {
        "text": REPEATED,
        "heads": int(maps.shape[0] * maps.shape[1]),
        "strongest": found,
        "mean_weight_on_the_first_token": float(first.mean()),
        "heads_with_half_their_weight_on_the_first_token": int((first > 0.5).sum()),
    }


def pairs(decoder: Decoder, name: str) -> dict[str, Any]:
    """d of every occupation, and of people without one, for pronouns or for names."""
    model, tokenizer = decoder.loaded
    start = tokenizer.special_tokens["<|endoftext|>"]
    words, templates = PROBES[name]
    people = {**OCCUPATIONS, "no occupation": NEUTRAL}

    def likelihood(texts: Sequence[str]) -> Any:
        return log_likelihoods(model, [tokenizer.encode(text) for text in texts], start)

    d: dict[str, list[float]] = {}
    for both in words:
        sentences = paired_sentences([p for members in people.values() for p in members], both, templates)
        for pair, value in zip(sentences, probe_pairs(likelihood, sentences), strict=True):
            d.setdefault(pair.group, []).append(float(value))
    effects = {person: effect(values, Generator(0).spawn(person)) for person, values in d.items()}
    means = {group: [float(np.mean(d[p])) for p in members] for group, members in people.items()}
    difference, p = group_difference(*list(means.values())[:2], Generator(0).spawn(name))
    label = "log p(she) \u2212 log p(he)" if name == "pronouns" else "log p(woman's name) \u2212 log p(man's name)"
    plot_effects(
        effects,
        RESULTS / f"inspection_bias_{name}.png",
        f"{label}, nats, mean of {len(words) * len(templates)} pairs with 95 % interval",
        f"{SMOLLM2}, paired sentences: {name}",
        people,
    )
    say(f"{name}: {difference:+.2f} nats between the lists, p {p:.4f}")
    return {
        "model": SMOLLM2,
        "people": people,
        "words": words,
        "templates": templates,
        "effects": {person: vars(e) for person, e in effects.items()},
        "mean_of_group": {group: float(np.mean(m)) for group, m in means.items()},
        "difference_of_the_two_lists": difference,
        "p_by_permuting_occupations": p,
    }


# ----- all-MiniLM-L6-v2


def association(encoder: SentenceEncoder) -> list[dict[str, Any]]:
    """Effect sizes and p-values of words alone (WEAT), and in a sentence that says nothing else (SEAT)."""
    rows = []
    for form in ("{}", "This is {}."):
        vectors = {name: encoder.encode([form.format(word) for word in words]) for name, words in WORDS.items()}
        for x, y, a, b in TESTS:
            size, p = association_test(*(vectors[name] for name in (x, y, a, b)), Generator(0))
            rows.append({"form": form, "x": x, "y": y, "a": a, "b": b, "effect_size": size, "p": p})
            say(f"association, {form!r}: {x} / {y} with {a} / {b}: {size:+.2f}, p {p:.4f}")
    return rows


class Reviews(nn.Module):
    """ids (B, T) -> logits (B, 2): a linear layer on the sentence embedding, which is of length 1."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert.requires_grad_(False)
        self.linear = nn.Linear(bert.config.n_embd, 2)
        with no_grad():
            self.linear.weight.zero_()

    def forward(self, ids: Any) -> Tensor:
        mean = self.bert(ids)[0].mean(axis=1)
        return self.linear(mean / (mean * mean).sum(axis=-1, keepdims=True).sqrt())

    def loss(self, batch: Any) -> Tensor:
        """Of features that were computed once."""
        return F.cross_entropy(self.linear(Tensor(batch["x"])), batch["labels"])


def saliency(encoder: SentenceEncoder) -> dict[str, Any]:
    """Train the linear layer, score it, and attribute what it says of three sentences to their words."""
    texts = load_corpus("rt_polarity")
    label = {text: int(i < len(texts) // 2) for i, text in enumerate(texts)}
    train, held_out = split_documents(texts, (0.9, 0.1), seed=0)
    chosen = [train[i] for i in Generator(0).permutation(len(train))[:TRAINING]]
    tested = [held_out[i] for i in Generator(0).permutation(len(held_out))[:HELD_OUT]]
    model = Reviews(encoder.model)
    data = [{"x": x, "labels": np.int64(label[t])} for x, t in zip(encoder.encode(chosen), chosen, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"num_train_epochs": 20, "per_device_train_batch_size": 32, "learning_rate": 1e-2}
        args = TrainingArguments(folder, save_strategy="no", progress=False, **settings)
        Trainer(model, args, data).train()
    with no_grad():
        guessed = model.linear(Tensor(encoder.encode(tested))).numpy().argmax(-1)
    right = float((guessed == np.array([label[t] for t in tested])).mean())
    say(f"saliency: the classifier is right on {right:.3f} of {len(tested)}")

    def positive(logits: Tensor) -> Tensor:
        return logits[:, 1] - logits[:, 0]

    result: dict[str, Any] = {"accuracy": right, "training_texts": TRAINING, "held_out_texts": len(tested), "texts": []}
    for number, text in enumerate(REVIEWS, start=1):
        reading = read(encoder.tokenizer, text)
        baseline = np.full_like(reading.ids, encoder.tokenizer.pad_id)
        baseline[0], baseline[-1] = reading.ids[0], reading.ids[-1]
        found = {
            "gradient norm": gradient_norm(model, reading.ids, positive),
            "gradient \u00d7 input": gradient_times_input(model, reading.ids, positive),
            "integrated gradients": integrated_gradients(model, reading.ids, positive, baseline, points=64),
        }
        integrated = found["integrated gradients"]
        assert integrated.baseline_score is not None
        title = (
            f"logit positive \u2212 negative: {integrated.score:+.2f}; of the baseline, [PAD] for each word, "
            f"{integrated.baseline_score:+.2f}; completeness gap {abs(integrated.gap):.3f}"
        ).replace("-", "\u2212")
        rows = {name: attribution.values for name, attribution in found.items()}
        plot_saliency(reading.tokens, rows, RESULTS / f"inspection_saliency_{number}.png", title)
        say(f"saliency of {text!r}: {title}")
        result["texts"].append(
            {
                "text": text,
                "tokens": reading.tokens,
                "score": integrated.score,
                "baseline_score": integrated.baseline_score,
                "completeness_gap": integrated.gap,
                **{name: [float(v) for v in values] for name, values in rows.items()},
            }
        )
    return result


def main() -> None:
    """Look, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    facts, path = machine(), RESULTS / "inspection.json"
    result = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    decoder, encoder = Decoder(), None
    for name in options.parts:
        began, processor = time.perf_counter(), time.process_time()
        if name in ("association", "saliency"):
            encoder = encoder or SentenceEncoder.load()
            found: Any = {"association": association, "saliency": saliency}[name](encoder)
        elif name in PROBES:
            found = pairs(decoder, name)
        else:
            found = {"lens": lens, "attention": attention}[name](decoder)
        seconds = time.perf_counter() - began
        result["parts"][name] = {
            "found": found,
            "seconds": seconds,
            "processor_seconds": time.process_time() - processor,
            "threads": thread_count(),
            "command": f"python benchmarks/inspection.py {name}",
        }
        say(f"{name}: {seconds:.0f} s")
    parts = {name: result["parts"][name] for name in PARTS if name in result["parts"]}
    say(f"  -> {save('inspection', {'command': 'python benchmarks/inspection.py', 'parts': parts}, facts)}")


if __name__ == "__main__":
    main()
