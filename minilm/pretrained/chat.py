r"""Chat templates: how a conversation is written for a model that was trained to have one.

A chat model was trained on conversations written in one particular way, such as

    <|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n

The way is published with the weights, as a Jinja2 template. It is a program from a stranger, so it runs in a sandbox
(see `sandbox`), which gives it the messages, so many steps, and nothing else. And what people say is never read as a
command to the model: the template is written out with marks in the place of the messages, its own text is encoded with
special tokens, and the messages without. (So a template that does something to a message, such as to strip it, does it
to the mark.)

A model that was trained here has no template. The plain one, with which it can be taught to answer, is

    Question:\nHi!\nAnswer:\n

and the answer ends with the token for the end of a text or, where the tokenizer has none, with the end of the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.errors import CheckpointError, ConfigurationError, TokenizerError
from minilm.pretrained.gguf_file import GGUF, MAGIC, open_gguf
from minilm.pretrained.packages import locate
from minilm.pretrained.safetensors_file import parse_json
from minilm.pretrained.stored import map_file
from minilm.pretrained.vocabularies import SETTINGS, read_settings, write_json
from minilm.text import atomic_write
from minilm.text.tokenizers.gpt2 import END_OF_TEXT

TEMPLATE = "chat_template.jinja"
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'user' %}Question:\n{{ m['content'] }}\nAnswer:\n"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}{{ eos_token }}\n\n"
    "{% else %}{{ m['content'] }}\n\n{% endif %}{% endfor %}"
)
GENERATION = "generation_config.json"  # where transformers looks for the tokens that end a text
Message = dict[str, Any]  # role, content; for what the model wrote also ids


class NoChatTemplate(CheckpointError):
    """The model comes without a chat template."""


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
        sandbox = _sandbox()
        plain = [{"role": m["role"], "content": m["content"]} for m in messages]
        try:
            return sandbox.render(
                self.source,
                plain,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
        except CheckpointError:
            raise
        except Exception as error:  # whatever a program may do that nobody has read
            what = f"{type(error).__name__} {error}"[:500]
            raise CheckpointError(f"the model's chat template cannot be used: {what}") from error

    def encode(self, tokenizer: Any, messages: Sequence[Message]) -> list[int]:
        """The ids of the conversation, up to where the model's turn begins; what the model wrote keeps its own ids."""
        return [index for ids, _ in self._parts(tokenizer, messages, True) for index in ids]

    def encode_to_learn(self, tokenizer: Any, messages: Sequence[Message]) -> list[tuple[list[int], bool]]:
        """A whole conversation in parts: ids, and whether they are the model's to write.

        Those are the words of the assistant, and the token that ends its turn: what the model must write for a reply
        that ends. Up to an answer the ids are those that `encode` gives of the messages before it.

        Raises:
            CheckpointError: if the template does not end the assistant's turns with one of `stop_ids`.
        """
        parts: list[tuple[list[int], bool]] = []
        answered = False  # the part before was an answer
        for ids, message in self._parts(tokenizer, messages, False):
            if answered:
                place = next((i for i, index in enumerate(ids) if index in self.stop_ids), None)
                if place is None:
                    raise CheckpointError("the model's chat template does not end its turns with a token that stops it")
                parts.append((ids[: place + 1], True))
                ids = ids[place + 1 :]
            answered = message is not None and message["role"] == "assistant"
            if ids:
                parts.append((ids, answered))
        return parts

    def _parts(
        self, tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool
    ) -> Iterator[tuple[list[int], Message | None]]:
        """The ids of the template's own text, and of the messages, in turns; the latter with the message."""
        marked = [{**message, "content": f"\ufdd0{i}\ufdd1"} for i, message in enumerate(messages)]
        written = self.render(marked, add_generation_prompt)
        by_number = {str(i): message for i, message in enumerate(messages)}
        for place, part in enumerate(re.split("\ufdd0(\\d+)\ufdd1", written)):
            if place % 2 == 0:
                yield _with_special_tokens(tokenizer, part), None
            else:
                if part not in by_number:
                    raise CheckpointError("the model's chat template writes a message that is not there")
                message = by_number[part]
                yield message["ids"] if "ids" in message else tokenizer.encode(message["content"]).tolist(), message


def _with_special_tokens(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text in which special tokens are meant; some tokenizers have none."""
    has = getattr(tokenizer, "special_tokens", None)
    return (tokenizer.encode(text, allowed_special="all") if has else tokenizer.encode(text)).tolist()


def _sandbox() -> Any:
    """Where a template runs; apart, since Jinja2 is not installed everywhere."""
    try:
        import jinja2  # noqa: F401 - the module below needs it
    except ModuleNotFoundError as error:
        raise ConfigurationError("chat templates need Jinja2: pip install 'minilm[pretrained]'") from error
    from minilm.pretrained.sandbox import Sandbox

    return Sandbox()


# ----- where templates are found


def load_chat_template(path: str | os.PathLike[str], tokenizer: Any) -> ChatTemplate:
    """The chat template that comes with a model: in its GGUF file, or in its folder.

    Raises:
        NoChatTemplate: if there is none, a CheckpointError.
        CheckpointError: if it is damaged, or nothing says which token ends the model's turn.
    """
    path = locate(path)
    if path.is_file() and map_file(path, 4, "a model")[:4].tobytes() == MAGIC:
        return _of_gguf(open_gguf(path), tokenizer)
    folder = path if path.is_dir() else path.parent
    settings = read_settings(folder)
    source = settings.get("chat_template")
    if (folder / TEMPLATE).is_file():
        source = map_file(folder / TEMPLATE, 1, "a template").tobytes().decode("utf-8", errors="replace")
    bos, eos = (_token(settings.get(f"{name}_token")) for name in ("bos", "eos"))
    stops = [_id_of(tokenizer, eos)]
    if (folder / GENERATION).is_file():
        more = parse_json(map_file(folder / GENERATION, 2, "a configuration").tobytes(), GENERATION).get("eos_token_id")
        stops += [stop for stop in (more if isinstance(more, list) else [more]) if stop not in stops]
    return _checked(source, bos, eos, stops, path)


def plain_template(tokenizer: Any) -> ChatTemplate:
    """The template PLAIN, for a model that has none of its own.

    Raises:
        TokenizerError: if the tokenizer has no token that can end an answer.
    """
    for end in (END_OF_TEXT, "</s>", "\n"):
        stop = _id_of(tokenizer, end)
        if stop is not None:
            return ChatTemplate(PLAIN, "", end, (stop,))
    raise TokenizerError(
        f"this tokenizer has neither {END_OF_TEXT} or </s> nor a token for the end of a line, so that no answer could "
        "end: train the model with one that has"
    )


def save_chat_template(template: ChatTemplate, folder: str | os.PathLike[str]) -> None:
    """Write a template into the folder of a model, where `load_chat_template` and transformers find it."""
    folder = Path(folder)
    with atomic_write(folder / TEMPLATE) as file:
        file.write(template.source.encode())
    names = {"bos_token": template.bos_token, "eos_token": template.eos_token}
    write_json(folder / SETTINGS, read_settings(folder) | {name: token for name, token in names.items() if token})
    write_json(folder / GENERATION, {"eos_token_id": list(template.stop_ids)})


def _id_of(tokenizer: Any, token: str) -> int | None:
    """The id of a special token; or of a text, if it is one token."""
    special = getattr(tokenizer, "special_tokens", {})
    if not token or token in special:
        return special.get(token)
    try:
        ids = tokenizer.encode(token).tolist()
    except TokenizerError:
        return None
    return ids[0] if len(ids) == 1 else None


def _of_gguf(file: GGUF, tokenizer: Any) -> ChatTemplate:
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot")]
    bos, eos, eot = (file.facts.get(key) for key in keys)
    names = [tokenizer.tokens[i] if type(i) is int and 0 <= i < tokenizer.vocab_size else "" for i in (bos, eos)]
    return _checked(file.facts.get("tokenizer.chat_template"), names[0], names[1], [eos, eot], file.path)


def _checked(source: Any, bos: str, eos: str, stop_ids: Sequence[Any], path: Path) -> ChatTemplate:
    if not isinstance(source, str):
        raise NoChatTemplate(
            f"{path} has no chat template: it is not a model for conversations. Let it go on with a text (minilm chat "
            "--plain), or teach it to answer (minilm finetune --task instruct)"
        )
    stops = tuple(stop for stop in stop_ids if type(stop) is int and stop >= 0)
    if not stops:
        raise CheckpointError(f"{path} does not say which token ends the model's turn")
    return ChatTemplate(source, bos, eos, stops)


def _token(value: Any) -> str:
    """A token as tokenizer_config.json writes it: a string, or an object with one."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""
