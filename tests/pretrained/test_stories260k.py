"""A Llama that others have trained tells the story that it tells elsewhere, to the letter."""

import numpy as np
import pytest

from minilm.generation import generate
from minilm.pretrained import from_pretrained, save_pretrained

BOS = 1


@pytest.mark.parametrize("name", ["stories260K.bin", "stories260K.v1.bin"])
def test_greedy_decoding_gives_the_published_story_byte_for_byte(test_data, name):
    model, tokenizer = from_pretrained(test_data(f"stories260k/{name}"))
    ids = generate(model, [BOS], 200, temperature=0)
    story = tokenizer.decode([BOS, *ids]).encode()
    expected = test_data("stories260k/expected_greedy_200.txt").read_bytes()
    assert story == expected


def test_both_versions_are_one_model_and_it_survives_the_way_through_published_names(test_data, tmp_path):
    (first, tokenizer), (second, _) = (
        from_pretrained(test_data(f"stories260k/{name}")) for name in ("stories260K.bin", "stories260K.v1.bin")
    )
    assert first.config == second.config and first.num_parameters() == 260_032
    assert all(np.array_equal(a, second.state_dict()[name]) for name, a in first.state_dict().items())
    save_pretrained(first, tokenizer, tmp_path)
    halves, again = from_pretrained(tmp_path)
    assert again == tokenizer and not halves.config.interleaved
    np.testing.assert_array_equal(
        generate(halves, [BOS], 60, temperature=0), generate(first, [BOS], 60, temperature=0)
    )


def test_a_model_alone_comes_without_a_tokenizer(test_data, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(test_data("stories260k/stories260K.bin").read_bytes())
    assert from_pretrained(path)[1] is None
    (tmp_path / "tok512.bin").write_bytes(test_data("stories260k/tok512.bin").read_bytes())
    assert from_pretrained(path)[1].vocab_size == 512
