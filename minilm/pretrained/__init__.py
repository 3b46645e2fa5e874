"""Published weights, read and written without a framework. Read it in this order.

    stored              tensors that lie in a file, and the first checks
    safetensors_file    Hugging Face's format
    quantized           blocks of small integers -> float32
    gguf_file           llama.cpp's format
    llama2c             llama2.c's format
    names               what published models call their parameters, and we
    configurations      their sizes and ours; what we do not do is refused by name
    sentencepiece_json, vocabularies    their tokenizers
    building, loading   from_pretrained: a model of ours around the arrays of a file
    saving              save_pretrained: the way back
    packages            weights that installed packages carry
    embedding           one vector for a sentence, and search
    text_classifier     a class for a text
    chat, conversation  templates, and a cache that is kept from turn to turn
    sandbox             where templates run

Nothing that is read here can run code, and no file, however damaged, does more than raise an error of minilm.errors.
"""

from minilm.pretrained.chat import (
    ChatTemplate,
    NoChatTemplate,
    load_chat_template,
    plain_template,
    save_chat_template,
)
from minilm.pretrained.conversation import Conversation
from minilm.pretrained.embedding import SentenceEncoder, nearest
from minilm.pretrained.loading import from_pretrained
from minilm.pretrained.packages import PACKAGES, locate
from minilm.pretrained.saving import save_pretrained
from minilm.pretrained.text_classifier import TextClassifier, read_class_names, write_class_names

__all__ = [
    *("ChatTemplate", "Conversation", "NoChatTemplate", "PACKAGES", "SentenceEncoder", "from_pretrained"),
    *("TextClassifier", "read_class_names", "write_class_names"),
    *("load_chat_template", "locate", "nearest", "plain_template", "save_chat_template", "save_pretrained"),
]
