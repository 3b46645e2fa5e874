"""Hidden tokens are as many, and hidden in the ways, that BERT says; and each epoch hides others."""

import numpy as np
import pytest

from minilm.errors import DataError
from minilm.random import Generator
from minilm.text import ShuffledBatches, WordPieceTokenizer
from minilm.text.masking import MaskedExamples, mask_tokens, next_sentence_examples

TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"])
SPECIAL = TOKENIZER.special_tokens.values()
V, MASK = TOKENIZER.vocab_size, TOKENIZER.mask_id


def test_fifteen_percent_are_chosen_and_of_those_80_10_10():
    ids = np.tile(np.arange(5, 15), (400, 10))  # 40,000 tokens
    shown, labels = mask_tokens(ids, Generator(1), MASK, V, SPECIAL)
    chosen = labels != -100
    assert (labels[chosen] == ids[chosen]).all() and (shown[~chosen] == ids[~chosen]).all()
    n = chosen.sum()
    assert abs(n / ids.size - 0.15) < 4 * np.sqrt(0.15 * 0.85 / ids.size)
    masked, kept = (shown[chosen] == MASK).mean(), (shown[chosen] == ids[chosen]).mean()
    assert abs(masked - 0.8) < 4 * np.sqrt(0.16 / n)
    # of the ten tokens that may be drawn instead one is the token itself
    assert abs(kept - (0.1 + 0.01)) < 4 * np.sqrt(0.1 / n)
    replaced = shown[chosen & (shown != MASK) & (shown != ids)]
    assert set(replaced.tolist()) == set(range(5, 15)), "a special token is never put in"


def test_special_tokens_are_never_chosen():
    ids = np.array([2, 5, 6, 3, 0, 0] * 50)
    _, labels = mask_tokens(ids, Generator(0), MASK, V, SPECIAL, probability=0.9)
    assert (labels[np.isin(ids, [0, 2, 3])] == -100).all() and (labels != -100).any()
    _, labels = mask_tokens([2, 3], Generator(0), MASK, V, SPECIAL)
    assert (labels == -100).all()


@pytest.mark.parametrize("seed", range(20))
def test_at_least_one_token_is_hidden(seed):
    _, labels = mask_tokens([2, 7, 3], Generator(seed), MASK, V, SPECIAL)
    assert labels.tolist() == [-100, 7, -100]


def test_each_epoch_hides_others_and_the_same_epoch_the_same():
    rows = [TOKENIZER.pair(TOKENIZER.encode("a b c d e f g h")).input_ids for _ in range(6)]
    batches = ShuffledBatches(MaskedExamples(rows, TOKENIZER), batch_size=6, seed=3)
    first, again, second = (next(batches.epoch(e)) for e in (0, 0, 1))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["labels"] != -100, second["labels"] != -100)
    assert len({tuple(row) for row in (first["labels"] != -100).tolist()}) > 1, "nor do rows hide the same places"


def test_segments_stay_with_their_tokens():
    pair = TOKENIZER.pair(TOKENIZER.encode("a b"), TOKENIZER.encode("c d"))._asdict()
    example = MaskedExamples([pair], TOKENIZER)[0]
    assert example["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert pair["input_ids"].tolist() == [2, 5, 6, 3, 7, 8, 3], "the sequence itself is not changed"


def test_half_of_the_second_sentences_are_from_another_document():
    documents = [[[5 + d], [6 + d], [7 + d]] for d in range(0, 8, 3)] * 200
    examples = next_sentence_examples(documents, TOKENIZER, Generator(1))
    assert len(examples) == 2 * len(documents)
    labels = np.array([example["next_sentence_label"] for example in examples])
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(labels))
    for example in examples:
        _, first, _, second, _ = example["input_ids"]
        assert example["next_sentence_label"] == 1 or second == first + 1
        assert example["token_type_ids"].tolist() == [0, 0, 0, 1, 1]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="probability=0"):
        mask_tokens([5], Generator(0), MASK, V, probability=0)
    with pytest.raises(DataError, match="no sequences"):
        MaskedExamples([], TOKENIZER)
    with pytest.raises(DataError, match="two sentences"):
        next_sentence_examples([[[5]], []], TOKENIZER, Generator(0))
