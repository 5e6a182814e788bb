"""A table of what a bridge changes in its host, for `patches/<host>/README.md`.

Each bridge has a `touched()` that calls this; `tests/bridges` compares the result with the file, so
the list cannot lie.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Sequence

from sama_plugin.patching.fingerprint import Fingerprint

Row = tuple[str, str, str, str]
"""id, binding, kind, why."""


def table(
    host: str, rows: Iterable[Row], known: Mapping[str, Sequence[Fingerprint]], notes: str
) -> str:
    """Markdown: one line a patch, with the code it was checked against."""
    lines = [
        f"# What is touched in {host}",
        "",
        notes,
        "",
        "| patch | binding | how | why | checked against |",
        "|---|---|---|---|---|",
    ]
    for name, binding, kind, why in rows:
        read = (
            "; ".join(f"{entry.origin}: {entry.body}" for entry in known.get(name, ()))
            or "only rebound"
        )
        lines.append(f"| `{host}.{name}` | `{binding}` | {kind} | {why} | {read} |")
    return "\n".join(lines) + "\n"
