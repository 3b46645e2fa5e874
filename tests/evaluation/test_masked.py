"""Pseudo-perplexity: every token is hidden once, and the score is that of a loop over single tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.errors import ConfigurationError, DataError
from minilm.evaluation import EachTokenHidden, evaluate_masked_language_model
from minilm.models import BERTConfig, BERTForMaskedLM
from minilm.random import Generator, using_generator
from minilm.tensor import no_grad

MASK, CLS, SEP = 900, 901, 902


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(3, 9), st.integers(1, 5))
def test_every_token_is_hidden_once_and_seen_by_its_neighbours(lengths, T, batch_size):
    documents = [100 * k + np.arange(n) for k, n in enumerate(lengths)]
    if not any(lengths):
        with pytest.raises(DataError, match="nothing to evaluate"):
            EachTokenHidden(documents, batch_size, T, MASK, CLS, SEP)
        return
    batches = EachTokenHidden(documents, batch_size, T, MASK, CLS, SEP)
    found = []
    for batch in batches:
        assert batch["input_ids"].shape[1] <= T and len(batch["input_ids"]) <= batch_size
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            (place,) = np.flatnonzero(labels != -100)
            assert ids[place] == MASK and (ids == MASK).sum() == 1 and ids[0] == CLS and ids[-1] == SEP
            others = np.delete(ids[1:-1], place - 1)
            assert (others // 100 == labels[place] // 100).all(), "pieces keep to their document"
            found.append(labels[place])
    np.testing.assert_array_equal(found, np.concatenate(documents))
    assert len(list(batches)) == len(batches)


@pytest.mark.parametrize("next_sentence", [False, True])
def test_the_score_is_the_loop_over_hidden_tokens(next_sentence):
    with using_generator(Generator(0)):
        model = BERTForMaskedLM(BERTConfig(20, 8, 1, 2, 16, 16, dropout=0.3, next_sentence=next_sentence))
    for parameter in model.parameters():
        parameter.data *= 5
    tokens = Generator(1).integers(3, 20, 11)
    found = evaluate_masked_language_model(model, EachTokenHidden([tokens], 4, 8, 0, 1, 2), documents=1)
    total = 0.0
    model.eval()
    with no_grad():
        for begin in (0, 6):
            piece = [1, *tokens[begin : begin + 6], 2]
            for place in range(1, len(piece) - 1):
                ids = np.array([piece])
                ids[0, place] = 0
                logits = model(ids)[0].numpy()[0, place].astype("float64")
                total += np.log(np.exp(logits).sum()) - logits[piece[place]]
    assert found.tokens == 11 and found.documents == 1
    assert found.total_nll == pytest.approx(total, rel=1e-5)
    assert found.perplexity == pytest.approx(np.exp(total / 11), rel=1e-5)


def test_a_context_without_room_is_refused():
    with pytest.raises(ConfigurationError, match="block_size=2"):
        EachTokenHidden([np.arange(5)], 1, 2, MASK, CLS, SEP)
