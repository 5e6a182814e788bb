"""The page of a conversation: one HTML file with inline style, relative links to its pictures and
videos, no script.

A page is a title, lead lines and sections. `conversation` renders one video's regions and turns:
mentions of regions in the question, phrases of the answer in the colours their masks have, and for
each phrase a strip that shows when in the clip the thing is visible and how large it is. Used by
`folder.py` and by the demo.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Mapping, Optional, Sequence

from sama_plugin.assets import asset
from sama_plugin.infer.regions import MENTION


@dataclass(frozen=True)
class RegionView:
    """A named region and the picture of it (a path relative to the page)."""

    name: str
    caption: str
    picture: Optional[str] = None


@dataclass(frozen=True)
class PhraseView:
    """A grounded phrase: its place in the answer, its colour "#rrggbb", its visibility over the
    clip.

    `areas`: shares of the frame, in [0, 1], over equal parts of the clip. `caption`: a few words on
    the track. `file`: the track as JSON.
    """

    name: str
    text: str
    start: int
    end: int
    colour: str
    areas: tuple[float, ...] = ()
    caption: str = ""
    file: Optional[str] = None


@dataclass(frozen=True)
class TurnView:
    """A question, its answer, what there is to look at, and the true answer where it is known."""

    question: str
    answer: str
    phrases: tuple[PhraseView, ...] = ()
    video: Optional[str] = None
    sheet: Optional[str] = None
    note: str = ""
    truth: str = ""


@dataclass(frozen=True)
class ConversationView:
    """Everything `conversation` shows.

    `facts`: (value, meaning) pairs for the line below the title. `colours`: "#rrggbb" of every name
    that a question may mention.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    regions: tuple[RegionView, ...] = ()
    turns: tuple[TurnView, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)


def page(title: str, lead: Sequence[str], sections: Sequence[str], footer: str = "") -> str:
    """A whole document. `lead` and `footer` are plain text, `sections` are HTML."""
    style = asset("page/style.css").read_text(encoding="utf-8")
    lines = "\n".join(f'<p class="lead">{escape(line)}</p>' for line in lead)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n{lines}\n</header>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )


def conversation(view: ConversationView) -> str:
    """The section of one conversation."""
    parts = [f"<section>\n<h2>{escape(view.title)}</h2>", facts(view.facts)]
    if view.regions:
        figures = "".join(_region(region, view.colours) for region in view.regions)
        parts.append(f'<div class="regions">{figures}</div>')
    parts += [_turn(turn, view.colours) for turn in view.turns]
    return "\n".join([*parts, "</section>"])


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A line of (value, meaning) pairs."""
    items = "".join(f"<li><b>{escape(value)}</b>{escape(meaning)}</li>" for value, meaning in pairs)
    return f'<ul class="facts">{items}</ul>' if items else ""


def note(text: str) -> str:
    """A paragraph that stands out."""
    return f'<p class="note">{escape(text)}</p>'


def _region(view: RegionView, colours: Mapping[str, str]) -> str:
    picture = f'<img src="{escape(view.picture)}" alt="" loading="lazy">' if view.picture else ""
    return (
        f'<figure class="region">{picture}<figcaption>{_mention(view.name, colours)}'
        f"{escape(view.caption)}</figcaption></figure>"
    )


def _turn(view: TurnView, colours: Mapping[str, str]) -> str:
    shown = ""
    if view.video:
        source = escape(view.video)
        shown += f'<video src="{source}" controls loop muted autoplay playsinline></video>'
    if view.sheet:
        sheet = escape(view.sheet)
        shown += f'<a href="{sheet}"><img src="{sheet}" alt="" loading="lazy"></a>'
    rows = "".join(_phrase_row(phrase) for phrase in view.phrases)
    return (
        '<div class="turn">\n'
        f'<div class="bubble user">{_question(view.question, colours)}</div>\n'
        f'<div class="bubble model">{_answer(view)}</div>\n'
        + (f'<p class="truth">{escape(view.truth)}</p>\n' if view.truth else "")
        + (f'<div class="shown">{shown}</div>\n' if shown else "")
        + (f'<table class="tracks">{rows}</table>\n' if rows else "")
        + (f'<p class="small">{escape(view.note)}</p>\n' if view.note else "")
        + "</div>"
    )


def _question(text: str, colours: Mapping[str, str]) -> str:
    pieces, end = [], 0
    for found in MENTION.finditer(text):
        pieces += [escape(text[end : found.start()]), _mention(found[1], colours)]
        end = found.end()
    return "".join([*pieces, escape(text[end:])])


def _mention(name: str, colours: Mapping[str, str]) -> str:
    style = f' style="--c:{escape(colours[name])}"' if name in colours else ""
    return f'<b class="mention"{style}>@{escape(name)}</b>'


def _answer(view: TurnView) -> str:
    if not view.answer:
        return '<span class="silent">(no words)</span>'
    spans: dict[tuple[int, int], list[PhraseView]] = {}
    for phrase in sorted(view.phrases, key=lambda one: (one.start, one.end)):
        spans.setdefault((phrase.start, phrase.end), []).append(phrase)
    pieces, at = [], 0
    for (start, end), phrases in spans.items():
        start = max(start, at)
        pieces.append(escape(view.answer[at:start]))
        names = " ".join(phrase.name for phrase in phrases)
        pieces.append(
            f'<span class="phrase" style="--c:{escape(phrases[0].colour)}">'
            f"{escape(view.answer[start : max(start, end)])}<sup>{escape(names)}</sup></span>"
        )
        at = max(start, end)
    return "".join([*pieces, escape(view.answer[at:])])


def _phrase_row(phrase: PhraseView) -> str:
    colour = escape(phrase.colour)
    link = f'<a href="{escape(phrase.file)}">masks</a>' if phrase.file else ""
    return (
        f'<tr><td><span class="swatch" style="--c:{colour}"></span>{escape(phrase.name)} '
        f'{escape(phrase.text)}</td><td style="width:42%">{_strip(phrase.areas, colour)}</td>'
        f"<td>{escape(phrase.caption)}</td><td>{link}</td></tr>"
    )


def _strip(areas: Sequence[float], colour: str) -> str:
    """Bars over the clip: a hair line where nothing is visible, the taller the larger the mask."""
    if not areas:
        return ""
    top = max(areas) or 1.0
    bars = []
    for number, area in enumerate(areas):
        height = 3 + 16 * (area / top) ** 0.5 if area > 0 else 1.5
        fill = colour if area > 0 else "var(--idle)"
        bars.append(
            f'<rect x="{number + 0.08:.2f}" width="0.84" y="{20 - height:.2f}" '
            f'height="{height:.2f}" fill="{fill}"/>'
        )
    return (
        f'<svg viewBox="0 0 {len(areas)} 20" preserveAspectRatio="none" role="img" '
        f'aria-label="visibility over the clip">{"".join(bars)}</svg>'
    )
