"""How good a classifier is: accuracy, the confusion matrix, and F1.

With C[i, j] the number of examples of class i that were taken for class j, and for each class k

    precision_k = C[k, k] / sum_i C[i, k]        of those taken for k, how many are
    recall_k    = C[k, k] / sum_j C[k, j]        of those that are k, how many were found
    F1_k        = 2 C[k, k] / (sum_i C[i, k] + sum_j C[k, j])      the harmonic mean of the two

    accuracy    = sum_k C[k, k] / sum C
    macro F1    = the mean of F1_k over the classes

(van Rijsbergen 1979, chapter 7, for F; Manning, Raghavan & Schuetze 2008, sections 8.3 and 13.6.) Accuracy
flatters whoever always answers the largest class; macro F1 counts a rare class as much as a common one.

What this file does not do: scores that need probabilities (ROC, calibration).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minilm.backend import is_array, to_numpy
from minilm.errors import DataError
from minilm.evaluation.figures import Figures
from minilm.nn import evaluating
from minilm.tensor import unwrap


def accuracy(predictions: Any, targets: Any, ignore_index: int = -100) -> float:
    """The part of the predictions that equal their targets, as float64.

    Args:
        predictions: integer classes of any shape.
        targets: integer classes of the same shape; `ignore_index` is not scored.

    Raises:
        ValueError: if the shapes differ, or the classes are no integers (take the argmax of logits first).
        DataError: if there is no target to score.
    """
    predicted, true = _scored(predictions, targets, ignore_index)
    return float((predicted == true).mean())


def confusion_matrix(
    predictions: Any, targets: Any, n_classes: int | None = None, ignore_index: int = -100
) -> np.ndarray:
    """C (K, K) of int64: C[i, j] examples of class i (row) were taken for class j (column).

    Args:
        predictions: integer classes of any shape.
        targets: integer classes of the same shape; `ignore_index` is not scored.
        n_classes: K; without it, one more than the largest class that occurs.

    Raises:
        ValueError: if the shapes differ, the classes are no integers, or one lies outside 0 ... K - 1.
        DataError: if there is no target to score.
    """
    predicted, true = _scored(predictions, targets, ignore_index)
    largest, smallest = int(max(predicted.max(), true.max())), int(min(predicted.min(), true.min()))
    K = largest + 1 if n_classes is None else n_classes
    if smallest < 0 or largest >= K:
        raise ValueError(f"classes run from 0 to {K - 1}; found {smallest if smallest < 0 else largest}")
    return np.bincount(true.astype(np.int64) * K + predicted, minlength=K * K).reshape(K, K)


def f1_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class (K,), float64, of a confusion matrix (K, K); NaN for a class that nobody met."""
    taken_and_true = confusion.sum(axis=0) + confusion.sum(axis=1)
    scores = np.full(len(confusion), np.nan)
    np.divide(2 * np.diagonal(confusion), taken_and_true, out=scores, where=taken_and_true > 0)
    return scores


def f1(
    predictions: Any,
    targets: Any,
    n_classes: int | None = None,
    average: str | None = "macro",
    ignore_index: int = -100,
) -> Any:
    """F1 of each class, or its mean.

    A class that neither occurs nor is predicted has no F1: it is NaN, and left out of the mean, as
    scikit-learn does.

    Args:
        predictions: integer classes of any shape.
        targets: integer classes of the same shape; `ignore_index` is not scored.
        n_classes: as in `confusion_matrix`.
        average: "macro" for the mean over classes as a float, None for the array (K,) of float64.

    Raises:
        ValueError, DataError: as `confusion_matrix`; ValueError too for another average.
    """
    if average not in ("macro", None):
        raise ValueError(f"average is 'macro' or None (one number for each class), not {average!r}")
    scores = f1_from_confusion(confusion_matrix(predictions, targets, n_classes, ignore_index))
    return float(np.nanmean(scores)) if average == "macro" else scores


def evaluate_classifier(
    classify: Callable[..., Any], batches: Iterable[Mapping[str, Any]], names: Sequence[str] | None = None
) -> Figures:
    """Accuracy, macro F1 and the confusion matrix of a model, over all batches, in evaluation mode.

    Args:
        classify: a model: `classify(input_ids, attention_mask, token_type_ids)` gives logits (B, K), or (B, T, K) for
            a class of each token; the arguments that a batch does not have are left out.
        batches: dicts with input_ids (B, T) and "labels", (B,) or (B, T), -100 where nothing is scored.
        names: of the classes 0 ... K - 1.

    Returns:
        Figures with "accuracy" and "macro_f1", both from 0 to 1, and among the details "classes" and "confusion":
        confusion[i][j] examples of class i were taken for class j.

    Raises:
        DataError: if there is no label to score, or one is no class of the model.
    """
    predictions: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    documents = tokens = K = 0
    with evaluating(classify.modules() if hasattr(classify, "modules") else ()):
        for batch in batches:
            given = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
            ids = given.pop("input_ids")
            logits = _host(classify(ids, **given))
            K = logits.shape[-1]
            predictions.append(logits.argmax(axis=-1).reshape(-1))
            targets.append(_host(batch["labels"]).reshape(-1))
            documents += len(ids)
            tokens += int(np.sum(given["attention_mask"])) if "attention_mask" in given else int(np.size(ids))
    if not targets:
        raise DataError("nothing to score: there is no example")
    predicted, true = np.concatenate(predictions), np.concatenate(targets)
    if (wrong := true[(true != -100) & ((true < 0) | (true >= K))]).size:
        raise DataError(f"the model knows {K} classes, 0 to {K - 1}, and the data have the label {int(wrong[0])}")
    C = confusion_matrix(predicted, true, K)
    values = {"accuracy": float(np.trace(C) / C.sum()), "macro_f1": float(np.nanmean(f1_from_confusion(C)))}
    details = {"classes": [str(k) for k in range(K)] if names is None else list(names), "confusion": C.tolist()}
    return Figures(values, documents, tokens, "tokens that the model read", details)


def _scored(predictions: Any, targets: Any, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets of the places that count, flat."""
    predicted, true = _host(predictions), _host(targets)
    if predicted.shape != true.shape:
        raise ValueError(
            f"predictions {predicted.shape} and targets {true.shape} differ in shape: there is one class "
            f"for each target (of logits, take .argmax(axis=-1))"
        )
    for what, array in (("predictions", predicted), ("targets", true)):
        if array.dtype.kind not in "iub" and array.size:
            raise ValueError(f"{what} are classes, integers, not {array.dtype} (of logits, take the argmax)")
    counts = true != ignore_index
    if not counts.any():
        raise DataError(f"nothing to score: none of {true.size} targets is other than {ignore_index}")
    return predicted[counts], true[counts]


def _host(values: Any) -> np.ndarray:
    values = unwrap(values)
    return to_numpy(values) if is_array(values) else np.asarray(values)
