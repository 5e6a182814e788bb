"""Talk about a video: regions in, masks out.

    sama chat --video clip.mp4                          interactive, the packaged mini model
    sama chat --video clip.mp4 --region "dog@12:box=10,20,50,60" --ask "What does @dog do?"
    sama chat --model ./InternVL3-1B-hf --adapter runs/one --video clip.mp4 --ask "..." --json

A region is NAME@FRAME:KIND=VALUES; FRAME is a number, or seconds as in 3.5s. KIND is
box=x0,y0,x1,y1, points=x,y;x,y, scribble=x,y;x,y or mask=FILE.png, in pixels of the video. A
question mentions it as @NAME, and the mask of an earlier answer as @TURN.PHRASE, such as @1.2.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from sama_plugin.errors import RegionError, SamaError

if TYPE_CHECKING:
    from sama_plugin.infer.answers import Answer, Event, GroundedPhrase
    from sama_plugin.infer.session import VideoSession

HELP = """\
  /region NAME@FRAME:KIND=VALUES   point at something, e.g. /region dog@12:box=10,20,50,60
  /regions                         what can be mentioned
  /frames                          which frames are read
  /save [FOLDER]                   write page, videos and masks
  /help                            this text
  /quit                            leave (with --out, the folder is written first)
Anything else is a question; mention regions as @NAME and earlier masks as @TURN.PHRASE."""

_REGION = re.compile(
    r"(?P<name>[^@:=]+)@(?P<at>[\d.]+s?):(?P<kind>box|points|scribble|mask)=(?P<values>.+)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `sama chat`."""
    parser.add_argument("--video", required=True, help="video, GIF, image, or folder of frames")
    parser.add_argument(
        "--model", default="mini", help="'mini', or a folder with a transformers model"
    )
    parser.add_argument("--adapter", help="sama_adapter folder; the packaged one by default")
    parser.add_argument(
        "--region", action="append", default=[], metavar="SPEC", help="may be repeated"
    )
    parser.add_argument(
        "--ask", action="append", default=[], metavar="TEXT", help="may be repeated"
    )
    parser.add_argument("--out", metavar="FOLDER", help="write page, videos and masks there")
    parser.add_argument(
        "--json", action="store_true", help="print the conversation as JSON (with --ask)"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="frames the aggregator reads")
    parser.add_argument(
        "--llm-frames", type=int, metavar="N", help="frames the language model reads"
    )
    parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of sampling")
    parser.add_argument("--device", help="cpu, cuda, ...; a GPU if there is one")


def run(args: argparse.Namespace) -> int:
    """Hold the conversation; returns the exit code."""
    from sama_plugin.atomic import check_writable
    from sama_plugin.dialog.tokens import check_user_text

    if args.json and not args.ask:
        raise RegionError("--json prints a finished conversation; give its questions with --ask")
    if args.out:
        check_writable(args.out)
    for text in args.ask:
        check_user_text(text)
    specs = [parse_region(spec) for spec in args.region]
    with _open(args) as session:
        failure = None
        try:
            _converse(session, specs, args)
        except (SamaError, KeyboardInterrupt) as error:
            if not session.turns:
                raise
            failure = error  # what was answered before is not lost
        if args.json:
            from sama_plugin.infer.record import session_record

            print(json.dumps(session_record(session), ensure_ascii=False))
        if args.out:
            _write(session, args.out, quiet=args.json)
        if failure is not None:
            raise failure
    return 0


def _converse(
    session: VideoSession, specs: list[tuple[str, dict[str, Any]]], args: argparse.Namespace
) -> None:
    for name, prompt in specs:
        session.region(name, **prompt)
    if not args.ask:
        _interact(session, args)
    for text in args.ask:
        if not args.json:
            print(f"\nyou   {text}")
        _ask(session, text, args, quiet=args.json)


def parse_region(spec: str) -> tuple[str, dict[str, Any]]:
    """A name and the keyword arguments of `session.region`.

    Raises:
        RegionError: the text does not have the form NAME@FRAME:KIND=VALUES.
    """
    found = _REGION.fullmatch(spec.strip())
    if not found:
        raise RegionError(
            f"cannot read the region {spec!r}; write NAME@FRAME:KIND=VALUES, for instance "
            "dog@12:box=10,20,50,60 or dog@3.5s:points=40,60;42,66"
        )
    at, kind, values = found["at"], found["kind"], found["values"]
    try:
        return found["name"].strip(), {**_when(at), kind: _values(kind, values)}
    except SamaError as error:
        raise RegionError(f"cannot read the region {spec!r}: {error}") from error


def _when(at: str) -> dict[str, Any]:
    try:
        return {"time": float(at[:-1])} if at.endswith("s") else {"frame": int(at)}
    except ValueError:
        raise RegionError(
            f"{at!r} is neither the number of a frame, such as 12, nor seconds, such as 3.5s"
        ) from None


def _values(kind: str, text: str) -> Any:
    if kind == "mask":
        from sama_plugin.media.masks import read_png

        return read_png(Path(text)) > 0
    form = "a box is x0,y0,x1,y1" if kind == "box" else f"{kind} are pairs x,y;x,y"
    try:
        groups = [tuple(float(number) for number in group.split(",")) for group in text.split(";")]
    except ValueError:
        groups = []
    wrong = [group for group in groups if len(group) != (4 if kind == "box" else 2)]
    if not groups or wrong or (kind == "box" and len(groups) > 1):
        raise RegionError(f"{form} in numbers, found {text!r}")
    return groups[0] if kind == "box" else groups


def _open(args: argparse.Namespace) -> VideoSession:
    import dataclasses

    from sama_plugin.infer.load import load_sama
    from sama_plugin.infer.session import VideoSession
    from sama_plugin.media.video import open_video

    open_video(args.video).close()  # a bad file is reported before the model is loaded
    sama = load_sama(args.model, args.adapter, args.device)
    asked = {"aggregator": args.frames, "llm": args.llm_frames}
    policy = dataclasses.replace(
        sama.config.frames, **{name: value for name, value in asked.items() if value is not None}
    )
    session = VideoSession(sama, args.video, frames=policy)
    if not args.json:
        height, width = session.reader.size
        print(
            f"{session.reader.name}: {len(session.reader)} frames, {width}x{height}. {session.plan}"
        )
    return session


def _ask(session: VideoSession, text: str, args: argparse.Namespace, quiet: bool) -> None:
    from sama_plugin.model.generate import Sampling

    printer = None if quiet else Printer(sys.stdout)
    answer = session.ask(
        text,
        max_new_tokens=args.max_new_tokens,
        sampling=Sampling(temperature=args.temperature, seed=args.seed),
        stream=printer,
    )
    if printer:
        printer.finish(answer)


class Printer:
    """Shows an answer while it is made: words as they come, then one line a mask."""

    def __init__(self, out: Any):
        self.out = out
        self.colour = hasattr(out, "isatty") and out.isatty()
        self.speaking = False

    def __call__(self, event: Event) -> None:
        from sama_plugin.infer.answers import MaskReady, PhraseEnd, PhraseStart, TextPiece

        if isinstance(event, MaskReady):
            self._line(_seen(event.phrase))
            return
        if not self.speaking:
            self.out.write("sama  ")
            self.speaking = True
        if isinstance(event, TextPiece):
            self.out.write(event.text)
        elif isinstance(event, PhraseStart) and self.colour:
            self.out.write("\033[1;36m")
        elif isinstance(event, PhraseEnd) and self.colour:
            self.out.write("\033[0m")
        self.out.flush()

    def finish(self, answer: Answer) -> None:
        """The line after an answer."""
        took = answer.seconds
        cut = "" if answer.finished else "; cut off by --max-new-tokens"
        if not answer.text:
            self._line("(no words)")
        self._line(
            f"[frames {took.frames:.1f} s, text {took.text:.1f} s, masks {took.masks:.1f} s{cut}]"
        )

    def _line(self, text: str) -> None:
        end = "\n" if self.speaking else ""
        self.speaking = False
        self.out.write(f"{end}      {text}\n")
        self.out.flush()


def _seen(phrase: GroundedPhrase) -> str:
    frames = f"{len(phrase.track.visible())} of {phrase.track.total} frames"
    name = " ".join(filter(None, (phrase.name, phrase.text)))
    return f"{name}: visible in {frames}, presence {phrase.score:.2f}"


def _interact(session: VideoSession, args: argparse.Namespace) -> None:
    print(HELP)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no UTF-8 cost their line
    while True:
        try:
            line = input("\nyou   ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # what was said so far is worth more than a slip
            print("\n      /quit leaves")
            continue
        if line in ("/quit", "/exit"):
            return
        if not line:
            continue
        try:
            if line.startswith("/"):
                _command(session, line, args.out)
            else:
                _ask(session, line, args, quiet=False)
        except SamaError as error:  # the conversation is as it was; the user may try again
            print(f"      {error}")
        except KeyboardInterrupt:
            print("\n      interrupted; the conversation goes on (/quit leaves)")


def _command(session: VideoSession, line: str, out: Optional[str]) -> None:
    command, _, rest = line.partition(" ")
    if command == "/region":
        name, prompt = parse_region(rest)
        session.region(name, **prompt)
        print(f"      @{name} can be mentioned now")
    elif command == "/regions":
        print(
            "      " + (", ".join("@" + name for name in session.names) or "nothing is named yet")
        )
    elif command == "/frames":
        print(f"      {session.plan}")
    elif command == "/save":
        _write(session, rest.strip() or out or "out/chat", quiet=False)
    elif command == "/help":
        print(HELP)
    else:
        print(f"      unknown command {command}; /help lists them")


def _write(session: VideoSession, folder: str, quiet: bool) -> None:
    from sama_plugin.infer.folder import write_conversation

    page = write_conversation(session, folder)
    if not quiet:
        print(f"\nwrote {page}")
