"""BERT sees both ways and not the padding; its heads learn their tasks; and its gradients are right.

That it computes what PyTorch's BERT computes is shown in tests/pretrained.
"""

import numpy as np
import pytest

import minilm.functional as F
from minilm import no_grad
from minilm.errors import ConfigurationError
from minilm.models import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from minilm.optim import AdamW
from minilm.random import Generator, using_generator
from minilm.testing import dual_test, gradcheck
from minilm.text import ShuffledBatches, WordPieceTokenizer
from minilm.text.masking import MaskedExamples
from minilm.training import load_model, save_checkpoint

TINY = {"vocab_size": 9, "block_size": 6, "n_layer": 2, "n_head": 2, "n_embd": 8, "n_hidden": 12, "num_labels": 3}
HEADS = [BERTForMaskedLM, BERTForSequenceClassification, BERTForTokenClassification, BERTForQuestionAnswering]


def tiny(kind=BERT, seed=0, **changes):
    with using_generator(Generator(seed)):
        return kind(BERTConfig(**{**TINY, "dropout": 0.0, **changes}))


def lively(model, seed=1):
    generator = Generator(seed)
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape, dtype=parameter.dtype)
    return model


def ids_of(*shape, seed=0, high=TINY["vocab_size"]):
    return Generator(seed).integers(0, high, shape)


def batch_of(kind, B=3, T=6):
    """A batch with the labels of every task; the last row has two tokens of padding."""
    mask = np.ones((B, T), dtype=bool)
    mask[-1, T - 2 :] = False
    labels = {
        BERTForMaskedLM: np.where(ids_of(B, T, seed=3) < 4, ids_of(B, T, seed=4), -100),
        BERTForSequenceClassification: ids_of(B, seed=5, high=3),
        BERTForTokenClassification: np.where(mask, ids_of(B, T, seed=6, high=3), -100),
    }
    batch = {"input_ids": ids_of(B, T), "attention_mask": mask, "token_type_ids": ids_of(B, T, seed=2, high=2)}
    if kind in labels:
        batch["labels"] = labels[kind]
    if kind is BERTForMaskedLM:
        batch["next_sentence_label"] = ids_of(B, seed=7, high=2)
    if kind is BERTForQuestionAnswering:
        batch |= {"start_positions": ids_of(B, seed=8, high=3), "end_positions": 3 + ids_of(B, seed=9, high=1)}
    return batch


def outputs(model, *inputs, **keywords):
    with no_grad():
        out = model(*inputs, **keywords)
    return [part.numpy() for part in (out if isinstance(out, tuple) else (out,)) if part is not None]


# the encoder


def test_the_number_of_parameters_is_the_formula():
    c = BERTConfig(**TINY)
    C = c.n_embd
    block = 4 * (C * C + C) + 2 * c.n_hidden * C + c.n_hidden + C + 4 * C
    embeddings = (c.vocab_size + c.block_size + c.n_segment) * C + 2 * C
    assert BERT(c).num_parameters() == embeddings + c.n_layer * block + C * C + C
    assert BERT(c, pooling=False).num_parameters() == embeddings + c.n_layer * block


def test_the_defaults_are_bert_bases():
    c = BERTConfig()
    assert (c.vocab_size, c.block_size, c.n_layer, c.n_head, c.n_embd, c.n_hidden) == (30522, 512, 12, 12, 768, 3072)


def test_every_token_sees_every_other():
    model = lively(tiny())
    ids = ids_of(1, 6)
    hidden, pooled = outputs(model, ids)
    assert hidden.shape == (1, 6, 8) and pooled.shape == (1, 8)
    for t in range(6):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 9
        other, other_pooled = outputs(model, changed)
        assert (np.abs(other - hidden).max(axis=-1) > 1e-4).all() and np.abs(other_pooled - pooled).max() > 1e-4


@pytest.mark.parametrize("dtype", [bool, np.int64])
def test_padding_is_not_seen_and_does_not_move_what_is_there(dtype):
    model = lively(tiny())
    ids, mask = ids_of(2, 6), np.ones((2, 6), dtype=dtype)
    mask[1, 4:] = 0
    hidden, pooled = outputs(model, ids, mask)
    alone, alone_pooled = outputs(model, ids[1:, :4])
    np.testing.assert_allclose(hidden[1, :4], alone[0], atol=1e-5)
    np.testing.assert_allclose(pooled[1], alone_pooled[0], atol=1e-5)


def test_positions_and_segments_count():
    model = lively(tiny())
    hidden, _ = outputs(model, np.array([[1, 2, 3]]))
    swapped, _ = outputs(model, np.array([[2, 1, 3]]))
    assert np.abs(hidden[0, 2] - swapped[0, 2]).max() > 1e-3
    first, _ = outputs(model, np.array([[1, 2, 3]]), token_type_ids=np.zeros((1, 3), dtype=int))
    second, _ = outputs(model, np.array([[1, 2, 3]]), token_type_ids=np.array([[0, 1, 1]]))
    np.testing.assert_array_equal(first, hidden)
    assert np.abs(second - hidden).max() > 1e-3


def test_dropout_acts_in_training_only():
    model = tiny(dropout=0.3)
    first, second = (outputs(model, ids_of(2, 6))[0] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(*(outputs(model, ids_of(2, 6))[0] for _ in range(2)))


# the heads


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_learns_one_batch_by_heart(kind):
    model = tiny(kind, seed=4, n_embd=32, n_hidden=48, next_sentence=True)
    batch = batch_of(kind)
    optimizer = AdamW(model.named_parameters(), lr=5e-3, weight_decay=0.0)
    start = model.loss(batch).item()
    for _ in range(80):
        loss = model.loss(batch)
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.loss(batch).item() < 0.1 < 0.5 < start


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("next_sentence", [False, True])
def test_the_gradient_passes_the_dual_test(kind, next_sentence):
    model = lively(tiny(kind, next_sentence=next_sentence).astype("float64"))
    batch = batch_of(kind)
    for seed in range(3):
        assert dual_test(lambda *_: model.loss(batch), list(model.parameters()), seed=seed)
    model.loss(batch).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_gradient_of_a_whole_model_is_right():
    model = lively(tiny(n_layer=1, n_embd=4, n_hidden=4, vocab_size=5, block_size=3).astype("float64"))
    ids, mask = ids_of(2, 3, high=5), np.array([[1, 1, 1], [1, 1, 0]], dtype=bool)
    assert gradcheck(lambda *_: model(ids, mask)[1], list(model.parameters()))


@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_does_not_depend_on_padding(kind):
    model = lively(tiny(kind, next_sentence=True))
    batch = batch_of(kind)
    padded = {**batch, "input_ids": np.where(batch["attention_mask"], batch["input_ids"], 8)}
    if kind is BERTForMaskedLM:
        padded["labels"] = batch["labels"] = np.where(batch["attention_mask"], batch["labels"], -100)
    assert padded["input_ids"].tolist() != batch["input_ids"].tolist()
    assert model.loss(padded).item() == pytest.approx(model.loss(batch).item(), abs=1e-5)


def test_the_decoder_is_the_embedding():
    model = tiny(BERTForMaskedLM)
    assert sum(parameter.shape == (9, 8) for parameter in model.parameters()) == 1
    model.loss(batch_of(BERTForMaskedLM)).backward()
    before = model.bert.token_embedding.weight.grad.numpy()
    assert (np.abs(before).max(axis=1) > 0).all(), "also of tokens that are not in the batch"


def test_logits_of_the_hidden_words_alone_give_the_loss_and_the_gradients_of_all_logits():
    model, batch = lively(tiny(BERTForMaskedLM)), batch_of(BERTForMaskedLM)
    logits = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])[0]
    losses, gradients = [], []
    for loss in (model.loss(batch), model.loss_of_words(batch), F.cross_entropy(logits, batch["labels"])):
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    assert losses[:2] == pytest.approx([losses[2]] * 2, abs=1e-6)
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, gradients[2][name], atol=1e-6, err_msg=name)


def test_the_next_sentence_counts_when_asked_for():
    batch = batch_of(BERTForMaskedLM)
    other = {**batch, "next_sentence_label": 1 - batch["next_sentence_label"]}
    model = lively(tiny(BERTForMaskedLM, next_sentence=True))
    assert abs(model.loss(batch).item() - model.loss(other).item()) > 1e-3
    without = lively(tiny(BERTForMaskedLM))
    assert without.loss(batch).item() == without.loss(other).item()
    assert without.bert.pooler is None and outputs(without, batch["input_ids"])[0].shape == (3, 6, 9)


def test_answers_are_not_looked_for_in_padding():
    model = lively(tiny(BERTForQuestionAnswering))
    batch = batch_of(BERTForQuestionAnswering)
    for logits in outputs(model, batch["input_ids"], batch["attention_mask"]):
        assert (np.isneginf(logits) == ~batch["attention_mask"]).all()


def test_a_trained_encoder_is_taken_as_it_is():
    encoder = lively(tiny())
    before = {name: array.copy() for name, array in encoder.state_dict().items()}
    model = BERTForSequenceClassification(BERTConfig(**TINY), encoder)
    assert model.bert is encoder
    assert all(np.array_equal(before[name], array) for name, array in encoder.state_dict().items())
    with pytest.raises(ConfigurationError, match="has no pooler"):
        BERTForSequenceClassification(BERTConfig(**TINY), BERT(BERTConfig(**TINY), pooling=False))


@pytest.mark.parametrize("kind", [BERT, *HEADS])
def test_a_checkpoint_gives_the_model_back(kind, tmp_path):
    model = lively(tiny(kind)).eval()
    save_checkpoint(tmp_path / "checkpoint-1", model)
    again, _ = load_model(tmp_path / "checkpoint-1")
    assert type(again) is kind and again.config == model.config
    for a, b in zip(outputs(again, ids_of(2, 6)), outputs(model, ids_of(2, 6)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_learns_a_language_from_hidden_words():
    """A language of two sentences: which word is hidden follows from the others."""
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"])
    rows = [tokenizer.pair(tokenizer.encode(text)).input_ids for text in ("a b c", "d e f")] * 8
    model = tiny(BERTForMaskedLM, seed=2, vocab_size=11, n_embd=32, n_hidden=48)
    optimizer = AdamW(model.named_parameters(), lr=3e-3, weight_decay=0.0)
    batches = ShuffledBatches(MaskedExamples(rows, tokenizer), batch_size=16, seed=1)
    for epoch in range(60):
        for batch in batches.epoch(epoch):
            loss = model.loss(batch)
            model.zero_grad()
            loss.backward()
            optimizer.step()
    for text, place, word in (("a [MASK] c", 2, "b"), ("[MASK] e f", 1, "d"), ("d e [MASK]", 3, "f")):
        ids = tokenizer.pair(tokenizer.encode(text, allowed_special="all")).input_ids
        assert tokenizer.tokens[outputs(model, ids[None])[0][0, place].argmax()] == word


# bad input


def test_bad_input_is_refused():
    model = tiny()
    with pytest.raises(ValueError, match=r"a single sequence is ids\[None\]"):
        model(np.array([0, 1]))
    with pytest.raises(ValueError, match="do not fit in a table of 6"):
        model(ids_of(1, 7))
    with pytest.raises(IndexError, match="outside the table of 2"):
        model(ids_of(1, 3), token_type_ids=np.array([[0, 1, 2]]))
    for changes, message in (
        ({"n_head": 3}, "n_embd=8 is not a multiple of n_head=3"),
        ({"num_labels": 0, "n_segment": 0}, "got n_segment=0, num_labels=0"),
        ({"norm_eps": 0.0}, "norm_eps is a positive number"),
        ({"dropout": -0.1}, "dropout is from 0 to below 1"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            BERTConfig(**{**TINY, **changes})
