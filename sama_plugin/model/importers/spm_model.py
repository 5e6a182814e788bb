"""Reads a sentencepiece `tokenizer.model` without the sentencepiece and protobuf packages.

The file is a protobuf message (`sentencepiece_model.proto`): pieces with scores and kinds, and how
text is normalised. Only what a byte-pair tokenizer needs is read. Used by `spm_tokenizer.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from sama_plugin.errors import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of pieces."""
_BYTE_PAIRS = 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class Piece(NamedTuple):
    """A piece of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SpmModel:
    """A byte-pair model.

    Attributes:
        charsmap: compiled character replacements, empty for none.
        dummy_prefix: whether a blank is put before the text.
        squeeze: whether blanks at the ends are dropped and runs of them become one.
    """

    pieces: tuple[Piece, ...]
    byte_fallback: bool
    charsmap: bytes
    dummy_prefix: bool
    squeeze: bool


def read_spm(path: Path) -> SpmModel:
    """The model in a file.

    Raises:
        CheckpointError: damaged, or no byte-pair model.
    """
    try:
        message = _message(path.read_bytes())
        trainer, normalizer = (_message(message.get(n, [b""])[-1]) for n in (2, 3))
        pieces = tuple(_piece(data) for data in message.get(1, ()))
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged or no sentencepiece model ({error}); download it again"
        ) from error
    if trainer.get(3, [1])[-1] != _BYTE_PAIRS or not pieces:
        raise CheckpointError(
            f"{path} holds {len(pieces)} pieces and is no byte-pair model, as InternLM2's is; "
            "put a tokenizer.json beside it"
        )
    if trainer.get(24, [0])[-1]:
        raise CheckpointError(
            f"{path} writes blanks after words, which is not read; put a tokenizer.json beside it"
        )
    if not any(piece.kind == UNKNOWN for piece in pieces):
        raise CheckpointError(f"{path} has no piece for unknown text; download it again")
    return SpmModel(
        pieces,
        byte_fallback=bool(trainer.get(35, [0])[-1]),
        charsmap=normalizer.get(2, [b""])[-1],
        dummy_prefix=bool(normalizer.get(3, [1])[-1]),
        squeeze=bool(normalizer.get(4, [1])[-1]),
    )


def _piece(data: bytes) -> Piece:
    fields = _message(data)
    (score,) = struct.unpack("<f", fields.get(2, [bytes(4)])[-1])
    return Piece(fields[1][-1].decode("utf-8"), score, fields.get(3, [NORMAL])[-1])


def _message(data: bytes) -> dict[int, list[Any]]:
    """Values by field number; a repeated field has several."""
    found: dict[int, list[Any]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place)
        elif wire in (_FOUR_BYTES, _EIGHT_BYTES):
            size = 4 if wire == _FOUR_BYTES else 8
        else:
            raise ValueError(f"wire type {wire} at byte {place}")
        if place + size > len(data):
            raise ValueError(f"field {number} ends at byte {place + size} of {len(data)}")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
