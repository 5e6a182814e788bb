"""A word-piece vocabulary with as many lines as BERT's, special pieces at its places, few words."""

from __future__ import annotations

from pathlib import Path

SIZE = 30522
WORDS = (
    *("how", "old", "is", "cafe", "##s", "##ing", "walk", "a", "what", "does", "the", "person"),
    *("do", "with", "mask", "who", "there"),
)
SIGNS = "?.,'[]<>p/"


def write_vocabulary(path: Path) -> Path:
    """`vocab.txt` at `path`."""
    lines = [f"[unused{number}]" for number in range(SIZE)]
    lines[0] = "[PAD]"
    lines[100:104] = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    lines[1000 : 1000 + len(WORDS) + len(SIGNS)] = [*WORDS, *SIGNS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
