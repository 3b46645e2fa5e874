"""all-MiniLM-L6-v2 gives the vectors that PyTorch gives, and finds what means the same."""

import numpy as np
import pytest

from minilm.errors import ConfigurationError
from minilm.pretrained import SentenceEncoder, from_pretrained, nearest, save_pretrained
from tests.pretrained import tiny


@pytest.fixture(scope="module")
def encoder(minilm_path):
    return SentenceEncoder.load(minilm_path)


def test_the_vectors_are_those_of_pytorch(encoder, reference):
    known = reference["minilm"]
    for sentence, ids in zip(known["sentences"], known["ids"], strict=True):
        assert encoder.tokenizer.pair(encoder.tokenizer.encode(sentence)).input_ids.tolist() == ids
    vectors = encoder.encode(known["sentences"])
    expected = np.array(known["embeddings"])
    every = vectors.shape[1] // expected.shape[1]
    np.testing.assert_allclose(vectors[:, ::every], expected, atol=1e-4)
    np.testing.assert_allclose(vectors @ vectors.T, known["similarity"], atol=1e-4)


def test_a_vector_does_not_depend_on_what_is_embedded_with_it(encoder, reference):
    sentences = reference["minilm"]["sentences"]
    together = encoder.encode([*sentences, "A much longer sentence " * 20])
    alone = np.concatenate([encoder.encode([sentence]) for sentence in sentences])
    np.testing.assert_allclose(together[: len(sentences)], alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    few = encoder.encode([*sentences, "A much longer sentence " * 20], batch_size=2)
    np.testing.assert_allclose(few, together, atol=1e-5)


def test_what_is_too_long_is_cut(encoder):
    long = "word " * 1000
    np.testing.assert_allclose(encoder.encode([long]), encoder.encode(["word " * 254]), atol=1e-6)


def test_search_finds_what_means_the_same_in_other_words(encoder):
    texts = ["The cat sleeps on the sofa.", "Shares fell sharply on Monday.", "He was king of England."]
    vectors = encoder.encode(texts)
    for query, place in (("the monarch of Britain", 2), ("a pet that rests", 0), ("the stock market dropped", 1)):
        found = nearest(encoder.encode([query])[0], vectors, 2)
        assert [i for i, _ in found][0] == place and found[0][1] > found[1][1]


def test_it_goes_back_with_its_vocabulary(encoder, tmp_path, reference):
    save_pretrained(encoder.model, encoder.tokenizer, tmp_path)
    again = SentenceEncoder.load(tmp_path)
    assert again.tokenizer == encoder.tokenizer
    sentences = reference["minilm"]["sentences"]
    np.testing.assert_array_equal(again.encode(sentences), encoder.encode(sentences))


def test_a_model_that_is_no_sentence_encoder_is_refused(tmp_path, reference):
    shapes = reference["tiny_models"]["gpt2"]["shapes"]
    with pytest.raises(ConfigurationError, match="no sentence encoder"):
        SentenceEncoder.load(tiny.write_folder(tmp_path, "gpt2", shapes))


def test_a_published_bert_with_its_vocabulary_is_what_bert_base_would_be(minilm_path):
    model, tokenizer = from_pretrained(minilm_path)
    assert model.config.n_layer == 6 and model.config.n_embd == 384 and tokenizer.vocab_size == 30522
