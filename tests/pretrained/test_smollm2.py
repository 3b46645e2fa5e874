"""SmolLM2-135M-Instruct, quantized to 4 bits, computes in NumPy what transformers computes with the same weights."""

from dataclasses import replace

import numpy as np

from minilm import no_grad
from minilm.evaluation import evaluate_language_model
from minilm.generation import generate, generate_text
from minilm.generation.sampling import SamplingSettings
from minilm.models import Llama
from minilm.pretrained import Conversation, from_pretrained, load_chat_template, save_pretrained

GREEDY = SamplingSettings(temperature=0)


def test_the_logits_are_those_of_transformers(smollm2, reference):
    model, tokenizer = smollm2
    known = reference["smollm2"]
    ids = tokenizer.encode(known["prompt"])
    assert ids.tolist() == known["prompt_ids"]
    with no_grad():
        logits = model(ids[None]).numpy()[0]
    expected = np.array(known["logits"])
    every = logits.shape[-1] // expected.shape[-1]
    np.testing.assert_allclose(logits[:, ::every][:, : expected.shape[-1]], expected, atol=1e-3)
    assert expected.std() > 3


def test_the_perplexity_of_a_text_is_that_of_transformers(smollm2, reference):
    model, tokenizer = smollm2
    ids = tokenizer.encode(reference["smollm2"]["text"])
    assert ids.tolist() == reference["smollm2"]["text_ids"]
    score = evaluate_language_model(model, [{"input_ids": ids[None, :-1], "labels": ids[None, 1:]}])
    assert abs(score.perplexity - reference["smollm2"]["perplexity"]) < 1e-3


def test_it_knows_the_capital_of_france(smollm2, reference):
    model, tokenizer = smollm2
    text = generate_text(model, tokenizer, "The capital of France is", 12, GREEDY)
    assert text.startswith(" Paris") and text == reference["smollm2"]["greedy"]


def test_a_conversation_is_encoded_as_by_transformers(smollm2, smollm2_path, reference):
    _, tokenizer = smollm2
    chat = reference["smollm2"]["chat"]
    template = load_chat_template(smollm2_path, tokenizer)
    assert template.render(chat["messages"]) == chat["text"]
    assert template.encode(tokenizer, chat["messages"]) == chat["ids"]


def test_it_holds_a_conversation(smollm2, smollm2_path):
    model, tokenizer = smollm2
    talk = Conversation(model, tokenizer, load_chat_template(smollm2_path, tokenizer), None, GREEDY, None, 30)
    assert "".join(talk.reply("What is the capital of France?")) == "The capital of France is Paris."
    second = "".join(talk.reply("And of Italy?"))
    assert "Rome" in second
    assert talk.turns[1].read < 20 < talk.turns[0].read  # the first turn was not read again
    whole = load_chat_template(smollm2_path, tokenizer).encode(tokenizer, talk.messages[:3])
    fresh = generate(model, whole, 30, temperature=0, stop_ids=talk.template.stop_ids)
    assert tokenizer.decode(fresh) == second  # with the cache as without


def test_it_goes_back_as_safetensors_with_its_vocabulary(smollm2, tmp_path, reference):
    whole, tokenizer = smollm2
    model = Llama(replace(whole.config, n_layer=1)).eval()  # enough to tell, and a quarter of the file
    own = dict(model.named_parameters())
    model.load_state_dict({name: p.data for name, p in whole.named_parameters() if name in own})
    save_pretrained(model, tokenizer, tmp_path)
    again, vocabulary = from_pretrained(tmp_path)
    assert vocabulary.encode(reference["smollm2"]["text"]).tolist() == reference["smollm2"]["text_ids"]
    ids = np.array([reference["smollm2"]["prompt_ids"]])
    with no_grad():
        np.testing.assert_allclose(again(ids).numpy(), model(ids).numpy(), atol=1e-3)
