"""What `minilm eval` does for each kind of model: load it, read the data that it can be scored on, score, show.

predicts the next token     GPT, Llama, LSTM: a text           perplexity, bits per byte
gives a class               BERT with a head: a table          accuracy, macro F1, confusion matrix
reads one text and writes   Transformer, LSTM with attention:  BLEU and chrF, ROUGE, or exact match and F1
another                     pairs
finds answers in a text     BERT with a head: questions        exact match and F1
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minilm.cli import pair_presets
from minilm.cli import run as runs
from minilm.cli.data import PARTS, TABLES, Sizes, encode, open_data, read_source
from minilm.cli.finetune_task import TEST_QUESTIONS, TEST_TEXTS
from minilm.cli.output import facts, say, table
from minilm.cli.pair_presets import PairSettings, is_pair_run
from minilm.cli.presets import Settings
from minilm.errors import CheckpointError, ConfigurationError, DataError, TokenizerError
from minilm.evaluation import (
    EachTokenHidden,
    Figures,
    StridedWindows,
    evaluate_answers,
    evaluate_classifier,
    evaluate_language_model,
    evaluate_masked_language_model,
    evaluate_summaries,
    evaluate_translations,
)
from minilm.models import (
    GPT,
    LSTMLM,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    Llama,
    LSTMClassifier,
    Seq2SeqLSTM,
    Transformer,
)
from minilm.text import CORPORA, Labelled, OrderedBatches, read_labelled, read_rows
from minilm.text.readers import Errors
from minilm.training import find_checkpoint
from minilm.training.checkpoint import is_ours

WRITERS = (Transformer, Seq2SeqLSTM)
ANSWERERS = (BERTForQuestionAnswering,)
METRICS: dict[str, tuple[type[Any], ...]] = {
    "perplexity": (GPT, Llama, LSTMLM),
    "pseudo-perplexity": (BERTForMaskedLM,),
    "accuracy": (BERTForSequenceClassification, LSTMClassifier),
    "bleu": WRITERS,
    "rouge": WRITERS,
    "exact-match": (*WRITERS, *ANSWERERS),
}
"""Which models each metric is for; of those that serve a model, `auto` takes the first."""

LONGEST_WINDOW = 1024  # of a model that could see more: its logits would not fit into the memory of a laptop
LOGITS_AT_ONCE = 1 << 26  # numbers: tokens of a batch times the vocabulary
CLASSIFIED_AT_ONCE = 32
LOSSY = ("word", "wordpiece")  # tokenizers


@dataclass(frozen=True)
class Text:
    """What a language model is scored on: one row of tokens."""

    name: str
    tokens: Any
    sizes: Sizes
    documents: int


def check_part(split: str) -> None:
    """Raise ConfigurationError unless `split` is one of the parts of a run's data."""
    if split not in PARTS:
        raise ConfigurationError(f"--split is one of {', '.join(PARTS)}, not {split!r}")


# ----- models


def load(path: Path) -> tuple[Any, Any]:
    """The model at a path, whoever made it, and its tokenizer.

    A folder with a manifest, or with checkpoints in it, is ours, plain or quantized; another folder, a file and a known
    name are published weights.

    Raises:
        CheckpointError: if there is none, it is damaged, or it has no tokenizer.
    """
    if (path / "manifest.json").is_file() and _is_quantized(path):
        from minilm.compression import load_quantized

        model, tokenizer = load_quantized(path)
    elif is_published(path):
        from minilm.pretrained import from_pretrained

        model, tokenizer = from_pretrained(path)
    else:
        return runs.load(path)
    if tokenizer is None:
        raise CheckpointError(f"{path} comes without a tokenizer: there is no way to read a text with it")
    return model, tokenizer


def load_language_model(path: Path) -> tuple[Any, Any]:
    """The same for a model that predicts the next token, and no other.

    Raises:
        CheckpointError: as `load`, or if it is of another kind.
    """
    model, tokenizer = load(path)
    if not isinstance(model, GPT | Llama | LSTMLM):
        pairs = isinstance(model, Transformer | Seq2SeqLSTM)
        raise CheckpointError(
            f"{path} holds a {type(model).__name__}, which does not go on with a text: "
            + ("it reads one and writes another, see `minilm translate`" if pairs else "it only reads")
        )
    return model, tokenizer


def _is_quantized(path: Path) -> bool:
    from minilm.training.checkpoint import read_state

    return "quantized" in read_state(path)


def is_published(path: Path) -> bool:
    """Published weights: a file, a folder with a configuration and no manifest of ours, or a known name."""
    if path.is_dir():
        return not is_ours(path)
    if path.is_file() or path.suffix in (".gguf", ".safetensors"):
        return True
    from minilm.pretrained import PACKAGES

    return str(path).lower() in PACKAGES


def choose_metric(model: Any, metric: str, run: Path | None = None) -> str:
    """The metric asked for, if it is one of the model's; for "auto" its first one, or ROUGE if its run summarizes.

    Raises:
        ConfigurationError: for a metric that there is not, or that says nothing of this model.
    """
    own = [name for name, kinds in METRICS.items() if isinstance(model, kinds)]
    kind = type(model).__name__
    if not own:
        raise ConfigurationError(
            f"minilm eval has no figure for a {kind}: it scores models that predict the next token, classify a text, "
            "write one, or find answers in one"
        )
    if metric == "auto":
        settings = _pair_settings(run) if run is not None and isinstance(model, WRITERS) else None
        return "rouge" if settings is not None and settings.cut_sources else own[0]
    if metric not in METRICS:
        raise ConfigurationError(f"--metric is auto or one of {', '.join(METRICS)}, not {metric!r}")
    if metric not in own:
        raise ConfigurationError(f"--metric {metric} says nothing of a {kind}: for it there is {', '.join(own)}")
    return metric


# ----- the next token


def read_text(
    run: Path,
    tokenizer: Any,
    data: str | None,
    split: str,
    text_column: str,
    errors: str,
    limit: int | None = None,
) -> Text:
    """The text named by --data, or a part of the run's own; of a limit, its first tokens."""
    if data is not None:
        settings = Settings(model="gpt", data=data, text_column=text_column, errors=errors)
        documents = read_source(settings)[0]
        tokens, sizes = encode(settings, tokenizer)
        text = Text(data, tokens, sizes, 1 if documents is None else len(documents))
    else:
        folder = _own_data(run)
        try:
            own = open_data(folder)
        except (DataError, TokenizerError) as error:
            raise DataError(f"the run's own data cannot be used ({error}): name a text with --data") from error
        if own.tokenizer != tokenizer:
            raise TokenizerError(
                f"the data in {folder} were made with another tokenizer ({own.tokenizer!r}) than the checkpoint "
                f"({tokenizer!r}): name a text with --data"
            )
        text = Text(split, own.tokens[split], own.sizes[split], max(1, own.sizes[split].documents))
    if limit is None or limit >= len(text.tokens):
        return text
    if limit < 2:
        raise ConfigurationError(f"--limit {limit}: at least 2 tokens are needed, one to predict from")
    share = limit / len(text.tokens)
    sizes = Sizes(0, round(text.sizes.characters * share), round(text.sizes.bytes * share), limit)
    return Text(f"{text.name}, the first {limit:,} tokens", text.tokens[:limit], sizes, 1)


def _own_data(run: Path) -> Path:
    if is_published(run):
        raise DataError(f"{run} comes without data of its own: name some with --data")
    return find_checkpoint(run).parent / "data"


def perplexity(
    model: Any, tokenizer: Any, text: Text, context: int | None = None, stride: int | None = None
) -> dict[str, Any]:
    """Loss, perplexity and bits of a text, and how it was cut."""
    most = model.context_length
    if context is not None and most is not None and context > most:
        raise ConfigurationError(f"--context {context}: this model sees at most {most} tokens at once")
    T = context or (runs.LONG_WINDOW if most is None else min(most, LONGEST_WINDOW))
    T = min(T, max(1, len(text.tokens) - 1))
    if stride is not None and stride > T:
        raise ConfigurationError(f"--stride {stride}: it is at most the window of {T} tokens, or some were left out")
    at_once = min(runs.TOKENS_AT_ONCE, LOGITS_AT_ONCE // model.config.vocab_size)
    windows = StridedWindows([text.tokens], max(1, at_once // T), T, stride)
    found = evaluate_language_model(model, runs._watched(windows, "evaluating"))
    score = runs.Score.of(found.total_nll, found.tokens, text.sizes)
    return {"text": text.name, **asdict(score), "documents": text.documents, "context": T, "stride": windows.stride}


def pseudo_perplexity(model: Any, tokenizer: Any, text: Text, context: int | None = None) -> dict[str, Any]:
    """Loss and pseudo-perplexity of a text, each token hidden once."""
    if context is not None and context > model.context_length:
        raise ConfigurationError(f"--context {context}: this model sees at most {model.context_length} tokens at once")
    T = min(context or model.context_length, len(text.tokens) + 2)
    at_once = max(1, min(runs.TOKENS_AT_ONCE, LOGITS_AT_ONCE // model.config.vocab_size) // T)
    marks = tokenizer.mask_id, tokenizer.cls_id, tokenizer.sep_id
    batches = EachTokenHidden([text.tokens], at_once, T, *marks)
    found = evaluate_masked_language_model(model, runs._watched(batches, "evaluating"), text.documents)
    numbers = {"tokens": found.tokens, "loss": found.loss, "pseudo_perplexity": found.perplexity}
    return {"text": text.name, **numbers, "documents": text.documents, "context": T}


# ----- a class


def accuracy(
    run: Path,
    model: Any,
    tokenizer: Any,
    data: str | None,
    text_column: str,
    label_column: str,
    errors: str = "strict",
    limit: int | None = None,
) -> dict[str, Any]:
    """Accuracy, macro F1 and confusion matrix of a table with a text and a class on each row.

    Without `data`: of the texts that `minilm finetune` held out, as much of each as it read.
    """
    from minilm.pretrained import TextClassifier

    longest = None
    if data is None:
        folder = run.parent if (run / "manifest.json").is_file() else run
        own = folder / TEST_TEXTS
        if not own.is_file():
            raise DataError(
                f"{run} comes without texts of its own: name some with their classes, --data with a .csv, .tsv or "
                ".jsonl file"
            )
        from minilm.cli.finetune_classify import longest_text

        data, text_column, label_column, longest = str(own), "text", "label", longest_text(folder)
    rows = _labelled(data, text_column, label_column, errors)  # type: ignore[arg-type]
    if limit is not None and limit < len(rows):  # from all over: data are often sorted by class
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    labels = [row.label.strip() for row in rows]
    K = model.config.num_labels
    known = own_class_names(run, model)
    names = known if set(labels) <= set(known) else class_names(labels, K)
    encode = TextClassifier(model, tokenizer, names, longest).encode
    examples = [{**encode(t), "labels": names.index(k)} for (t, _), k in zip(rows, labels, strict=True)]
    examples.sort(key=lambda example: len(example["input_ids"]))  # little padding
    batches = OrderedBatches(examples, CLASSIFIED_AT_ONCE)
    return _numbers(data, evaluate_classifier(model, runs._watched(batches, "classifying"), names))


def _labelled(data: str, text_column: str, label_column: str, errors: Errors) -> list[Labelled]:
    """Texts and their classes, from a table, a folder with a file for each class or a corpus of such files."""
    if Path(data).is_dir() or (data in CORPORA and not Path(data).exists()):
        return read_labelled(data, errors=errors)
    if not {ending.lower() for ending in Path(data).suffixes} & TABLES:
        raise DataError(f"{data} is not a table of texts and their classes: give a .csv, .tsv or .jsonl file")
    return read_rows(data, text_column, label_column, errors)


def own_class_names(run: Path, model: Any) -> list[str]:
    """The names that the classes of a model have in its own files; empty if there are none."""
    if isinstance(model, LSTMClassifier):
        return list(model.config.classes)
    if not is_published(run):
        return []
    from minilm.pretrained import locate, read_class_names

    return read_class_names(locate(run), model.config.num_labels)


def class_names(labels: Sequence[str], K: int) -> list[str]:
    """The names of classes 0 ... K - 1: the numbers themselves, or in alphabetical order.

    Raises:
        DataError: if there are other numbers, or not K names.
    """
    found = sorted(set(labels))
    if all(name.isdecimal() for name in found):
        if int(max(found, key=int)) >= K:
            raise DataError(f"the model knows {K} classes, 0 to {K - 1}, and the data have {max(found, key=int)}")
        return [str(k) for k in range(K)]
    if len(found) != K:
        listed = ", ".join(map(repr, found[:5])) + (" ..." if len(found) > 5 else "")
        raise DataError(f"the model knows {K} classes, and the data name {len(found)}: {listed}")
    return found


# ----- a text


def written(
    model: Any,
    tokenizer: Any,
    run: Path,
    metric: str,
    data: str | None,
    split: str,
    beam: int,
    limit: int | None = None,
    source_column: str | None = None,
    target_column: str | None = None,
) -> dict[str, Any]:
    """What the model writes for each source, against all targets that the source has."""
    from minilm.cli.pair_run import longest_source
    from minilm.generation import translate
    from minilm.text import PairTokenizer, read_pairs, references

    path = data if data is not None else _own_data(run) / f"{split}.tsv"
    settings = _pair_settings(run)
    columns = (settings.source_column, settings.target_column) if settings is not None else ("source", "target")
    right = references(read_pairs(path, source_column or columns[0], target_column or columns[1]))
    sources = list(right)[:limit]
    pairs = PairTokenizer(tokenizer)
    if pairs.vocab_size != model.config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {pairs.vocab_size} tokens and the model {model.config.vocab_size}: they do not "
            "belong together"
        )
    documents = metric == "rouge" if settings is None else settings.cut_sources
    longest = longest_source(run, model) if documents else None  # a document is cut, a sentence is not
    predictions: list[str] = []
    groups: Any = [sources[i : i + 256] for i in range(0, len(sources), 256)]
    for group in runs._watched(groups, "writing"):
        predictions += translate(model, pairs, group, beam, longest=longest)
    figures: dict[str, Any] = {
        "bleu": evaluate_translations,
        "rouge": evaluate_summaries,
        "exact-match": evaluate_answers,
    }
    found = figures[metric](predictions, [right[source] for source in sources])
    return {**_numbers(data or split, found), "beam": beam}


def _pair_settings(run: Path) -> PairSettings | None:
    """How the model of a run's folder or checkpoint was trained; None where no run.json tells."""
    file = pair_presets.run_file(run)
    return pair_presets.load(file) if file is not None and is_pair_run(run) else None


# ----- answers


def answers(
    model: Any,
    tokenizer: Any,
    run: Path,
    data: str | None,
    limit: int | None = None,
    window: int | None = None,
    stride: int | None = None,
) -> dict[str, Any]:
    """Exact match and F1 on the questions of a file like SQuAD's, or on those that a run has not seen."""
    from minilm.generation import find_answers
    from minilm.text import read_questions

    path = run / TEST_QUESTIONS if data is None else data
    if data is None and not (run / TEST_QUESTIONS).is_file():
        raise DataError(f"{run} comes without questions of its own: name a file of them, like SQuAD's, with --data")
    questions = read_questions(path)[:limit]
    asked = [(question.question, question.context) for question in questions]
    groups: Any = [asked[i : i + 64] for i in range(0, len(asked), 64)]
    found: list[str] = []
    for group in runs._watched(groups, "answering"):
        found += [a.text for a in find_answers(model, tokenizer, group, window=window, stride=stride)]
    right = [[span.text for span in question.answers] for question in questions]
    return _numbers(str(path), evaluate_answers(found, right))


def _numbers(name: str, figures: Figures) -> dict[str, Any]:
    return {"text": name, **figures.as_dict()}


# ----- for people

_COLUMNS = {
    "perplexity": ("loss", "perplexity", "bits_per_character", "bits_per_byte"),
    "pseudo-perplexity": ("loss", "pseudo_perplexity"),
    "accuracy": ("accuracy", "macro_f1"),
    "bleu": ("bleu", "chrf"),
    "rouge": ("rouge1", "rouge2", "rouge_l"),
    "exact-match": ("exact_match", "f1"),
}
_HEADS = {"bits_per_character": "bits/char", "bits_per_byte": "bits/byte", "macro_f1": "macro F1", "bleu": "BLEU"}
_HEADS |= {"chrf": "chrF", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rouge_l": "ROUGE-L", "f1": "F1"}


def show(title: str, metric: str, numbers: dict[str, Any], tokenizer: str) -> None:
    """Print the figures, and on what they stand."""
    values = _COLUMNS[metric]
    heads = [_HEADS.get(name, name.replace("_", " ")) for name in values]
    small = metric in ("perplexity", "pseudo-perplexity", "accuracy")  # the others are percentages
    row = [f"{numbers[name]:.{4 if small else 2}f}" for name in values]
    counts = [f"{numbers['tokens']:,}", f"{numbers['documents']:,}"]
    facts([("model", title), ("data", numbers["text"])])
    say()
    table([*heads, "tokens", "documents"], [(*row, *counts)], left=0)
    if metric == "perplexity":
        T, stride = numbers["context"], numbers["stride"]
        least = f", and each token but those of the first sees {T - stride + 1:,} or more" if stride < T else ""
        say(f"Windows of {T:,} tokens, {stride:,} from one to the next{least}.")
        if tokenizer in LOSSY:
            say("A word tokenizer drops spaces, case and rare words: its bits are not those of the whole text.")
    elif metric == "pseudo-perplexity":
        say(f"Pieces of {numbers['context']:,} tokens; each token was hidden once, by itself.")
    else:
        say(f"Tokens are {numbers['token']}.")
    if metric == "accuracy":
        classes = numbers["classes"]
        rows = zip(classes, numbers["confusion"], strict=True)
        say()
        table(["is, taken for", *classes], [(name, *(f"{n:,}" for n in row)) for name, row in rows])
