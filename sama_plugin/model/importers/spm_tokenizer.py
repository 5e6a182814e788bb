"""`tokenizer.model` to `tokenizer.json`: InternLM2's tokenizer for the classes of transformers.

Its published form is remote code around a sentencepiece byte-pair model. The fast tokenizer here is
built from the pieces themselves: merges are ranked by the score of what they make, which is the
order sentencepiece merges in; unknown characters fall back to bytes; added tokens (`<|im_start|>`,
`<img>`, ...) keep their ids, also those that take the place of a reserved piece. transformers has
converters for this, but they want the sentencepiece and protobuf packages and differ between
versions. Used by `description.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers import spm_model
from sama_plugin.model.importers.shards import token_ids
from sama_plugin.model.importers.spm_model import Piece, SpmModel, read_spm

BLANK = "\u2581"
"""How sentencepiece writes a blank."""
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def write_fast_tokenizer(source: Path, described: Mapping[str, Any], path: Path) -> None:
    """Write the fast form of the tokenizer in `source`.

    Args:
        described: its tokenizer_config.json. path: `tokenizer.json` to write.

    Raises:
        CheckpointError: the model is damaged or of another kind, or ids of added tokens have gaps.
    """
    model = read_spm(source / "tokenizer.model")
    added = {number: token for token, number in token_ids(source).items()}
    tokenizer = fast_tokenizer(model, added, described.get("added_tokens_decoder", {}), source)
    if described.get("add_bos_token", True):
        _open_with(tokenizer, _text(described.get("bos_token", "<s>")))
    tokenizer.save(str(path))


def fast_tokenizer(
    model: SpmModel, added: Mapping[int, str], flags: Mapping[str, Any], where: Any = ""
) -> Any:
    """A `tokenizers.Tokenizer` with the ids of sentencepiece's.

    Args:
        added: added tokens by id. flags: how they are found, as in `added_tokens_decoder`.
        where: named in errors.
    """
    from tokenizers import AddedToken, Tokenizer, models

    pieces = [
        Piece(added[number], piece.score, spm_model.CONTROL) if number in added else piece
        for number, piece in enumerate(model.pieces)
    ]
    unknown = [piece.kind for piece in model.pieces].index(spm_model.UNKNOWN)
    symbols = [piece.text for piece in pieces if piece.kind == spm_model.USER_DEFINED]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece.text: number for number, piece in enumerate(pieces)},
            merges=merges(pieces),
            unk_token=pieces[unknown].text,
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
            ignore_merges=bool(symbols),
        )
    )
    _shape_text(tokenizer, model, symbols)
    kinds = (spm_model.CONTROL, spm_model.UNKNOWN)
    control = {n: piece.text for n, piece in enumerate(pieces) if piece.kind in kinds}
    for number, text in sorted({**control, **added}.items()):
        known = flags.get(str(number), {})
        options = {name: known.get(name, name == "special") for name in _FLAGS}
        tokenizer.add_tokens([AddedToken(text, **options)])
        if tokenizer.token_to_id(text) != number:
            raise CheckpointError(
                f"{where}: the added token {text!r} has the id {number}, but the next free one is "
                f"{tokenizer.token_to_id(text)}; tokenizer.model and the added tokens are of "
                "different checkpoints"
            )
    return tokenizer


def merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """Pairs of pieces in the order in which they are joined: best score first, then as
    transformers orders them.
    """
    ids = {
        piece.text: number for number, piece in enumerate(pieces) if piece.kind == spm_model.NORMAL
    }
    found = []
    for text, number in ids.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                found.append((-pieces[number].score, -len(left), ids[left], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _shape_text(tokenizer: Any, model: SpmModel, symbols: list[str]) -> None:
    """What happens to text before pieces are looked for, and back."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    steps: list[Any] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.squeeze:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(BLANK))
    steps.append(normalizers.Replace(" ", BLANK))
    tokenizer.normalizer = normalizers.Sequence(steps)
    if symbols:
        longest_first = sorted(symbols, key=len, reverse=True)
        pattern = Regex("|".join(re.escape(symbol) for symbol in longest_first))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    back = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    back += [decoders.Strip(content=" ", left=1)] if model.dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(back)


def _open_with(tokenizer: Any, token: str) -> None:
    """Put `token` before every text that asks for special tokens."""
    from tokenizers import processors

    number = tokenizer.token_to_id(token)
    if number is None:
        raise CheckpointError(f"tokenizer_config.json opens texts with {token!r}, an unknown token")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, number)]
    )


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, Mapping) else token
