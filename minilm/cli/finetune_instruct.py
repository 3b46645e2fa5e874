"""minilm finetune --task instruct: a language model learns to answer instructions; the loss is on the answers only.

The data are JSON lines, {"instruction": ..., "answer": ...} or {"messages": [...]}. The conversations are written as
the model's own chat template says or, of a model that has none, in the plain one; the template goes into the folder of
the run, so that `minilm chat` talks to the tuned model as it was taught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minilm.cli.finetune_task import LSTM, Options, Task
from minilm.errors import ConfigurationError
from minilm.evaluation import evaluate_answers, evaluate_language_model
from minilm.generation import greedy_replies
from minilm.pretrained import (
    PACKAGES,
    ChatTemplate,
    NoChatTemplate,
    from_pretrained,
    load_chat_template,
    plain_template,
    save_chat_template,
    save_pretrained,
)
from minilm.pretrained.saving import published
from minilm.text import InstructionExamples, LengthBuckets, read_conversations, split_conversations
from minilm.text.instructions import Conversation
from minilm.training import load_model
from minilm.training.checkpoint import is_ours

MOST_TOKENS = 512  # of an example, unless --max-length says otherwise
ANSWERED = 200  # held-out questions that are answered, word by word, for the exact match
LONGEST_REPLY = 128
EVALUATED_AT_ONCE = 512  # tokens: their logits are the largest array


def prepare(model_path: str, data: str, options: Options) -> Task:
    """The model, and the conversations of the file as tokens of which the answers are learned; see `Task`."""
    model, tokenizer = load(model_path)
    published(model)  # complains of a model that could not be saved for `minilm chat`
    template, whose = template_of(model_path, tokenizer)
    longest = min(MOST_TOKENS, model.context_length) if options.max_length is None else options.max_length
    if not 1 < longest <= model.context_length:
        raise ConfigurationError(f"--max-length {longest}: this model reads from 2 to {model.context_length} tokens")
    conversations = read_conversations(data, options.errors)  # type: ignore[arg-type]
    if options.limit is not None and options.limit < len(conversations):  # from all over: data are often sorted
        conversations = [conversations[i * len(conversations) // options.limit] for i in range(options.limit)]
    train, test = split_conversations(conversations, options.held_out, options.seed)

    def examples(part: Sequence[Conversation]) -> InstructionExamples:
        return InstructionExamples(part, lambda talk: template.encode_to_learn(tokenizer, talk), longest)

    learned, held_out = examples(train), examples(test)
    read, answers = learned.tokens()
    facts = [
        ("data", f"{len(train):,} conversations for training, {len(test):,} held out (no question is in both)"),
        ("template", whose),
        ("tokens", f"{read:,} to read, {answers:,} of them to learn: the answers"),
    ]
    facts += [(where, part.cut()) for where, part in (("training", learned), ("held out", held_out)) if part.cut()]

    def save(folder: Path) -> None:
        save_pretrained(model, tokenizer, folder)
        save_chat_template(template, folder)

    return Task(
        model=model,
        tokenizer=tokenizer,
        train=list(learned),
        held_out=list(held_out),
        evaluate=lambda: figures(model, tokenizer, template, test, held_out),
        save=save,
        headings={"answer_loss": ("loss of answers", 3), "exact_match": ("exact match", 1), "f1": ("F1", 1)},
        facts=facts,
        learning_rates={"full": 2e-5, "lora": 5e-4, "last": 1e-4},
        epochs={"full": 2, "lora": 2, "last": 2},
        try_it='minilm chat --model {run} --prompt "..."',
    )


def load(model_path: str) -> tuple[Any, Any]:
    """A language model and its tokenizer: published weights, or what `minilm train` made.

    Raises:
        ConfigurationError: for a model that does not write, or comes without a tokenizer.
    """
    if model_path == LSTM:
        raise ConfigurationError(
            "an LSTM learns to classify only; --task instruct takes a model that writes, such as "
            f"{next(iter(PACKAGES))}"
        )
    model, tokenizer = load_model(model_path) if is_ours(Path(model_path)) else from_pretrained(model_path)
    if tokenizer is None or not hasattr(model, "decode"):
        raise ConfigurationError(
            f"{model_path} cannot learn to answer: that takes a model that writes, such as a Llama or a GPT, and its "
            f"tokenizer. Known by name is {next(iter(PACKAGES))}"
        )
    return model, tokenizer


def template_of(model_path: str, tokenizer: Any) -> tuple[ChatTemplate, str]:
    """How conversations are written for this model, and in words whose way that is."""
    try:
        return load_chat_template(model_path, tokenizer), "the model's own chat template"
    except NoChatTemplate:
        return plain_template(tokenizer), "plain (Question, Answer), since the model comes without one"


def figures(
    model: Any,
    tokenizer: Any,
    template: ChatTemplate,
    conversations: Sequence[Conversation],
    examples: InstructionExamples,
) -> Mapping[str, float]:
    """The loss on the answers in nats a token; exact match and F1, in percent, of greedy replies to the last questions.

    examples: those of the conversations.
    """
    score = evaluate_language_model(model, LengthBuckets(examples, EVALUATED_AT_ONCE, None, ("input_ids",)))
    asked = [talk for talk in conversations if talk[-1]["role"] == "assistant"][:ANSWERED]
    if not asked:
        return {"answer_loss": score.loss}
    prompts = [template.encode(tokenizer, talk[:-1]) for talk in asked]
    right = [str(talk[-1]["content"]) for talk in asked]
    room = min(LONGEST_REPLY, 4 + max(len(tokenizer.encode(answer)) for answer in right))
    found = greedy_replies(model, tokenizer, prompts, room, template.stop_ids)
    return {"answer_loss": score.loss, **evaluate_answers(found, right).values}
