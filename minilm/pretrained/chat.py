r"""Chat templates: how a conversation is written for a model that was trained to have one.

A chat model was trained on conversations written in one particular way, such as

    <|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n

The way is published with the weights, as a Jinja2 template. It is a program from a stranger, so it runs in Jinja2's
sandbox, which gives it the messages and nothing else. And what people say is never read as a command to the model: the
template is written out with marks in the place of the messages, its own text is encoded with special tokens, and the
messages without. (So a template that does something to a message, such as to strip it, does it to the mark.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.errors import CheckpointError, ConfigurationError
from minilm.pretrained.gguf_file import GGUF, MAGIC, open_gguf
from minilm.pretrained.packages import locate
from minilm.pretrained.stored import map_file
from minilm.pretrained.vocabularies import read_settings

LONGEST_REPEAT = 100_000  # characters that "x" * n may give in a template
OF_TEXTS = ("strip", "lstrip", "rstrip", "split", "startswith", "endswith", "lower", "upper", "title", "capitalize")
Message = dict[str, Any]  # role, content; for what the model wrote also ids


@dataclass(frozen=True)
class ChatTemplate:
    """How a model writes conversations.

    Attributes:
        source: the Jinja2 template.
        bos_token, eos_token: what it may refer to by these names.
        stop_ids: tokens that end the model's turn.
    """

    source: str
    bos_token: str = ""
    eos_token: str = ""
    stop_ids: tuple[int, ...] = ()

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The conversation as one text, up to where the model's turn begins.

        Raises:
            CheckpointError: if the template is none, or does not accept these messages.
            ConfigurationError: if Jinja2 is not installed.
        """
        jinja2, environment = _sandbox()
        plain = [{"role": m["role"], "content": m["content"]} for m in messages]
        try:
            return environment.from_string(self.source).render(
                messages=plain,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the model's chat template cannot be used: {error}") from error

    def encode(self, tokenizer: Any, messages: Sequence[Message]) -> list[int]:
        """The ids of the conversation, up to where the model's turn begins; what the model wrote keeps its own ids."""
        marked = [{**message, "content": f"\ufdd0{i}\ufdd1"} for i, message in enumerate(messages)]
        ids: list[int] = []
        for place, part in enumerate(re.split("\ufdd0(\\d+)\ufdd1", self.render(marked))):
            if place % 2 == 0:
                ids.extend(tokenizer.encode(part, allowed_special="all").tolist())
            elif "ids" in messages[int(part)]:
                ids.extend(messages[int(part)]["ids"])
            else:
                ids.extend(tokenizer.encode(messages[int(part)]["content"]).tolist())
        return ids


def _sandbox() -> tuple[Any, Any]:
    """Jinja2, and an environment in which a template reaches nothing but what it is given."""
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError as error:
        raise ConfigurationError("chat templates need Jinja2: pip install 'minilm[pretrained]'") from error

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """Arithmetic, but nothing that grows without bound: "x" * 10**10, 9**9**9, "%999999999d" % 1."""
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if operator == "*" and not numbers:
                text, times = (left, right) if isinstance(right, int) else (right, left)
                numbers = isinstance(times, int) and len(text) * times <= LONGEST_REPEAT
            if operator == "**" or not numbers:
                raise CheckpointError(f"the model's chat template uses {operator!r} in a way that minilm does not run")
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, owner: Any, name: str, value: Any) -> bool:
            """Of texts only what cannot make them long ("{:999999999}".format(1)), and nothing of numbers."""
            if isinstance(owner, str):
                return name in OF_TEXTS
            return not isinstance(owner, int | float) and super().is_safe_attribute(owner, name, value)

        def wrap_str_format(self, value: Any) -> None:
            """No formatting, not even in the careful way of Jinja2's, which would be asked before the method above."""

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True)
    for name in ("center", "format", "indent", "wordwrap", "random"):
        del environment.filters[name]
    for name in ("lipsum", "cycler", "joiner"):
        del environment.globals[name]

    def raise_exception(message: str) -> None:
        raise CheckpointError(f"the model's chat template refuses the conversation: {message}")

    environment.globals["raise_exception"] = raise_exception
    return jinja2, environment


# ----- where templates are found


def load_chat_template(path: str | os.PathLike[str], tokenizer: Any) -> ChatTemplate:
    """The chat template that comes with a model: in its GGUF file, or in its folder.

    Raises:
        CheckpointError: if there is none, or nothing says which token ends the model's turn.
    """
    path = locate(path)
    if path.is_file() and map_file(path, 4, "a model")[:4].tobytes() == MAGIC:
        return _of_gguf(open_gguf(path), tokenizer)
    folder = path if path.is_dir() else path.parent
    settings = read_settings(folder)
    source = settings.get("chat_template")
    if (folder / "chat_template.jinja").is_file():
        source = map_file(folder / "chat_template.jinja", 1, "a template").tobytes().decode("utf-8", errors="replace")
    bos, eos = (_token(settings.get(f"{name}_token")) for name in ("bos", "eos"))
    return _checked(source, bos, eos, [tokenizer.special_tokens.get(eos)] if eos else [], path)


def _of_gguf(file: GGUF, tokenizer: Any) -> ChatTemplate:
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot")]
    bos, eos, eot = (file.facts.get(key) for key in keys)
    names = [tokenizer.tokens[i] if type(i) is int and 0 <= i < tokenizer.vocab_size else "" for i in (bos, eos)]
    return _checked(file.facts.get("tokenizer.chat_template"), names[0], names[1], [eos, eot], file.path)


def _checked(source: Any, bos: str, eos: str, stop_ids: Sequence[Any], path: Path) -> ChatTemplate:
    if not isinstance(source, str):
        raise CheckpointError(f"{path} has no chat template: it is not a model for conversations")
    stops = tuple(stop for stop in stop_ids if type(stop) is int and stop >= 0)
    if not stops:
        raise CheckpointError(f"{path} does not say which token ends the model's turn")
    return ChatTemplate(source, bos, eos, stops)


def _token(value: Any) -> str:
    """A token as tokenizer_config.json writes it: a string, or an object with one."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""
