"""A turn's question as the aggregator reads it: ids of words, two rows for each region.

Two readers: the host's tokens (`question: host`), and BERT word pieces with the eight pieces that
released SAMA adds to them (`question: wordpiece`), in the order of their ids. Used by
`data/encode.py`; the tables that embed these ids are in `nn/question.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Protocol, Sequence, Union

from sama_plugin.dialog.tokens import REGION_MARK
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.errors import ConfigError

TEXT, VISUAL_ROW, SHAPE_ROW = 0, 1, 2
"""At a question position the aggregator reads a word, or a region's pooled or shape vector."""

ADDED_PIECES = ("[DEC]", "<mask>", "<pos>", "[SEG]", "<p>", "</p>", "<vp>", "</vp>")
"""What released SAMA appends to BERT's vocabulary."""
FIRST, LAST, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
LONGEST_WORD = 100  # characters; BERT reads longer ones as unknown


@dataclass(frozen=True)
class Question:
    """One turn's question: ids, 0 where `kinds` is a region row."""

    ids: tuple[int, ...]
    kinds: tuple[int, ...]


class QuestionReader(Protocol):
    """From the words of a turn to what the aggregator reads."""

    def read(self, user: str) -> Question:
        """`user` holds a `REGION_MARK` for each region. The question is never empty."""


class HostQuestions:
    """Ids of the host's tokenizer.

    Args:
        text: the host's tokenizer, special tokens split. most: longest question; None: any.
    """

    def __init__(self, text: TextEncoder, most: Optional[int] = None):
        self.text, self.most = text, most

    def read(self, user: str) -> Question:
        """As `QuestionReader.read`; longer questions lose their first words, never a region."""
        ids: list[int] = []
        kinds: list[int] = []
        for number, words in enumerate(user.split(REGION_MARK)):
            if number:
                ids += [0, 0]
                kinds += [VISUAL_ROW, SHAPE_ROW]
            found = self.text.plain(words)
            ids += found
            kinds += [TEXT] * len(found)
        if not ids:
            ids = self.text.plain("\n")
            kinds = [TEXT] * len(ids)
        words = [position for position, kind in enumerate(kinds) if kind == TEXT]
        return _shortened(ids, kinds, words, self.most)


class WordpieceQuestions:
    """BERT's word pieces, lower case, between [CLS] and [SEP]; a region stands between `<vp>` and
    `</vp>`. Marks that a user typed are words.

    Args:
        vocabulary: BERT's `vocab.txt`, one piece a line. most: longest question; None: any.

    Raises:
        ConfigError: the file is missing or is not the vocabulary of `bert-base-uncased`.
    """

    def __init__(self, vocabulary: Union[str, Path], most: Optional[int] = None):
        pieces = read_vocabulary(vocabulary)
        self.most = most
        self._pieces = _tokenizer(pieces)
        self._first, self._last = pieces[FIRST], pieces[LAST]
        added = {piece: len(pieces) + number for number, piece in enumerate(ADDED_PIECES)}
        self._region = (added["<vp>"], 0, 0, added["</vp>"])

    def read(self, user: str) -> Question:
        """As `QuestionReader.read`; longer questions lose their first words, never a region."""
        ids, kinds, words = [self._first], [TEXT], []
        for number, text in enumerate(user.split(REGION_MARK)):
            if number:
                ids += self._region
                kinds += [TEXT, VISUAL_ROW, SHAPE_ROW, TEXT]
            found = self._pieces.encode(text, add_special_tokens=False).ids
            words += range(len(ids), len(ids) + len(found))
            ids += found
            kinds += [TEXT] * len(found)
        return _shortened([*ids, self._last], [*kinds, TEXT], words, self.most)


def question_reader(config: Any) -> Optional[QuestionReader]:
    """The reader that an `AggregatorConfig` needs beside the host's tokenizer; None for none.

    Raises:
        ConfigError: `question: wordpiece` without a vocabulary.
    """
    if config.kind == "none" or config.question != "wordpiece":
        return None
    if config.vocabulary is None:
        raise ConfigError(
            "aggregator.question is wordpiece, and aggregator.vocabulary does not say where BERT's "
            "vocab.txt is; give its path (the file is published with bert-base-uncased)"
        )
    return WordpieceQuestions(config.vocabulary, config.max_question)


def read_vocabulary(path: Union[str, Path]) -> dict[str, int]:
    """Word piece to id, of a `vocab.txt`.

    Raises:
        ConfigError: the file cannot be read, or the tables of released models have other sizes.
    """
    from sama_plugin.nn.aggregator import RELEASED_VOCABULARY

    try:
        pieces = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"vocabulary {path} cannot be read: {error}") from error
    numbered = {piece: number for number, piece in enumerate(pieces)}
    lacking = [piece for piece in (FIRST, LAST, UNKNOWN) if piece not in numbered]
    wanted = RELEASED_VOCABULARY - len(ADDED_PIECES)
    if lacking or len(numbered) != wanted:
        raise ConfigError(
            f"vocabulary {path} has {len(numbered)} different pieces"
            f"{' without ' + ', '.join(lacking) if lacking else ''}; BERT's uncased vocabulary has "
            f"{wanted} (vocab.txt of bert-base-uncased)"
        )
    return numbered


def _tokenizer(pieces: dict[str, int]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    model = models.WordPiece(pieces, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _shortened(
    ids: Sequence[int], kinds: Sequence[int], words: Sequence[int], most: Optional[int]
) -> Question:
    """At most `most` positions: the first ones of `words` are left out, nothing else is."""
    surplus = max(len(ids) - most, 0) if most else 0
    lost = set(words[:surplus])
    kept = [position for position in range(len(ids)) if position not in lost]
    return Question(tuple(ids[i] for i in kept), tuple(kinds[i] for i in kept))
