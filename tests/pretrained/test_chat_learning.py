"""What a model learns of a conversation is what it must write in it: its answers, and the tokens that end them."""

import json

import numpy as np
import pytest

from minilm.errors import CheckpointError, TokenizerError
from minilm.pretrained import ChatTemplate, NoChatTemplate, load_chat_template, plain_template, save_chat_template
from minilm.pretrained.gguf_file import open_gguf
from minilm.pretrained.vocabularies import tokenizer_of_gguf
from minilm.text import ByteTokenizer, CharTokenizer, GPT2Tokenizer, WordTokenizer, labelled_example
from minilm.text.tokenizers.byte_characters import CHARACTERS
from tests.pretrained.test_chat import END, SOURCE, TEMPLATE, TOKENIZER, ids_of

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi<|end|>"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Why"},
    {"role": "assistant", "content": "So"},
]


def learned_text(tokenizer, template, talk):
    """What the labels of a conversation are, and what they are predicted from, as text."""
    example = labelled_example(template.encode_to_learn(tokenizer, talk))
    return "".join(tokenizer.decode([i]) if i != -100 else "-" for i in example["labels"])


def test_the_answers_and_their_ends_are_learned_and_nothing_else(require_package):
    require_package("jinja2")
    parts = TEMPLATE.encode_to_learn(TOKENIZER, TALK)
    assert [index for ids, _ in parts for index in ids] == sum(
        (
            ids_of("<|start|>system\nBe brief.<|end|>\n<|start|>user\n") + TOKENIZER.encode("Hi<|end|>").tolist(),
            ids_of("<|end|>\n<|start|>assistant\nYes?<|end|>\n<|start|>user\nWhy<|end|>\n"),
            ids_of("<|start|>assistant\nSo<|end|>\n"),
        ),
        [],
    )
    learned = [TOKENIZER.decode(ids) for ids, learn in parts if learn]
    assert learned == ["Yes?", "<|end|>", "So", "<|end|>"]


def test_an_answer_is_learned_after_the_very_ids_of_the_chat(require_package):
    require_package("jinja2")
    for turns in (3, 5):
        parts = TEMPLATE.encode_to_learn(TOKENIZER, TALK[:turns])
        before = TEMPLATE.encode(TOKENIZER, TALK[: turns - 1])
        ids = [index for part, _ in parts for index in part]
        example = labelled_example(parts)
        assert ids[: len(before)] == before
        answer = TOKENIZER.encode(TALK[turns - 1]["content"]).tolist()
        begin = len(before) - 1  # where the last id of the question is read
        assert example["labels"][begin : begin + len(answer) + 1].tolist() == [*answer, END]
        assert example["labels"][begin - 1] == -100 and example["labels"][begin + len(answer) + 1 :].tolist() == [-100]


def test_a_template_that_does_not_end_the_turn_is_refused(require_package):
    require_package("jinja2")
    endless = ChatTemplate("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}", stop_ids=(END,))
    with pytest.raises(CheckpointError, match="does not end its turns"):
        endless.encode_to_learn(TOKENIZER, TALK)


@pytest.mark.parametrize(
    "tokenizer, end",
    [
        (ByteTokenizer(), "\n"),
        (CharTokenizer.train(["Question:\nAnswer BfiHYSWbehorsuy.?<|end|>"]), "\n"),
        (GPT2Tokenizer([*CHARACTERS, "<|endoftext|>"], [], ["<|endoftext|>"]), "<|endoftext|>"),
    ],
    ids=["byte", "char", "gpt2"],
)
def test_a_model_without_a_template_learns_in_the_plain_one(tokenizer, end, require_package):
    require_package("jinja2")
    template = plain_template(tokenizer)
    whole = f"Be brief.\n\nQuestion:\nHi<|end|>\nAnswer:\nYes?{end}\n\nQuestion:\nWhy\nAnswer:\nSo{end}\n\n"
    assert template.render(TALK) == whole
    assert template.render(TALK[:2]) == whole[: whole.index("Yes?")]
    learned = learned_text(tokenizer, template, TALK)
    assert learned.replace("-", "") == f"Yes?{end}So{end}" and f"-Yes?{end}-" in learned


def test_a_tokenizer_that_cannot_end_an_answer_is_refused():
    with pytest.raises(TokenizerError, match="no answer could end"):
        plain_template(WordTokenizer.train(["a b"]))


@pytest.mark.parametrize("tokenizer", [TOKENIZER, ByteTokenizer()], ids=["special", "byte"])
def test_a_saved_template_is_found_again(tokenizer, tmp_path):
    template = TEMPLATE if tokenizer is TOKENIZER else plain_template(tokenizer)
    template = ChatTemplate(template.source, "", template.eos_token or "<|end|>", template.stop_ids)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    save_chat_template(template, tmp_path)
    assert load_chat_template(tmp_path, tokenizer) == template
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["do_lower_case"] is False


def test_all_tokens_that_end_a_turn_come_back(tmp_path):
    template = ChatTemplate(SOURCE, "", "<|end|>", (257, 256))
    save_chat_template(template, tmp_path)
    assert load_chat_template(tmp_path, TOKENIZER).stop_ids == (257, 256)


def test_a_folder_without_a_template_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(NoChatTemplate):
        load_chat_template(tmp_path, TOKENIZER)
    (tmp_path / "generation_config.json").write_text("[")
    with pytest.raises(CheckpointError) as caught:
        load_chat_template(tmp_path, TOKENIZER)
    assert not isinstance(caught.value, NoChatTemplate)


def test_smollm2_learns_its_words_and_the_end_of_its_turn(smollm2_path, require_package):
    require_package("jinja2")
    tokenizer = tokenizer_of_gguf(open_gguf(smollm2_path))
    template = load_chat_template(smollm2_path, tokenizer)
    talk = [{"role": "user", "content": "Is it good?"}, {"role": "assistant", "content": "positive"}]
    example = labelled_example(template.encode_to_learn(tokenizer, talk))
    learned = np.flatnonzero(example["labels"] != -100)
    assert tokenizer.decode(example["labels"][learned]) == "positive<|im_end|>"
    before = example["input_ids"][: learned[0] + 1]
    assert before.tolist() == template.encode(tokenizer, talk[:1])
    assert tokenizer.decode(before).endswith("Is it good?<|im_end|>\n<|im_start|>assistant\n")
