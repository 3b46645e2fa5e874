"""A model file for the package sentencepiece, made of tokens, scores and types: the few fields of its ModelProto.

The numbers are those of sentencepiece_model.proto.
"""

import struct

_BPE, _VARINT, _BYTES, _FLOAT = 2, 0, 2, 5


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field, value):
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field, data):
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def model_proto(tokenizer):
    """The bytes of a model that encodes as `tokenizer` should."""
    pieces = b""
    for token, score, kind in zip(tokenizer.tokens, tokenizer.scores, tokenizer.types, strict=True):
        piece = _bytes(1, token.encode()) + _varint(2 << 3 | _FLOAT) + struct.pack("<f", score) + _number(3, kind)
        pieces += _bytes(1, piece)
    byte_fallback = "<0x00>" in tokenizer.tokens
    trainer = _number(3, _BPE) + _number(4, len(tokenizer.tokens)) + _number(35, byte_fallback)
    normalizer = _bytes(1, b"identity") + _number(3, tokenizer.add_space_prefix) + _number(4, False) + _number(5, True)
    return pieces + _bytes(2, trainer) + _bytes(3, normalizer)
