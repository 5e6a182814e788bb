"""The demo: a base that can see and talk learns to refer and to ground, and shows it.

Scores the mini base with a fresh plugin, fine-tunes it with the plugin and LoRA, scores it again on
the same held-out clips, then talks about held-out clips and about a real video. Writes

    report.json     the numbers, for programs        index.html      all of it, for people
    scores.json     with intervals and kinds         sama_adapter/   for `sama chat --adapter`
    talk-1/ ...     videos, sheets, masks and JSON of each conversation

An interrupted training is taken up again by the next demo with the same settings. Used by
`sama demo`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Optional

from sama_plugin import __version__
from sama_plugin.atomic import atomic_dir, atomic_path, check_writable
from sama_plugin.infer.folder import write_media
from sama_plugin.infer.load import load_sama
from sama_plugin.infer.page import ConversationView, conversation, facts, note, page
from sama_plugin.infer.record import save_session
from sama_plugin.infer.session import VideoSession
from sama_plugin.media.video import open_video
from sama_plugin.miniworld.cases import Case
from sama_plugin.miniworld.demo_page import gallery, loss_curve, score_table, with_truth
from sama_plugin.miniworld.evaluate import FIRST_SEED, METRICS, evaluate
from sama_plugin.miniworld.lesson import lesson, mini_config, prepare
from sama_plugin.miniworld.memory import peak_gigabytes
from sama_plugin.miniworld.scene import SceneFolder
from sama_plugin.miniworld.script import Script, play, scripts
from sama_plugin.miniworld.things import FPS
from sama_plugin.model.attach import SamaModel

GAIN_FILE = Path(__file__).parents[2] / "benchmarks" / "results" / "aggregator_gain.json"
"""Written by `make bench-aggregator`, which trains with and without the aggregator."""
SUFFIX = " Response with interleaved segmentation masks."


@dataclass(frozen=True)
class DemoOptions:
    """What the demo does. `clips`: training clips; `scored`: held-out clips of each evaluation."""

    out: Path
    steps: int = 240
    clips: int = 500
    scored: int = 216
    workers: int = 2
    seed: int = 0
    video: Optional[Path] = None


@dataclass(frozen=True)
class Lesson:
    """A finished training: where the adapter is, its log lines and how long it took."""

    adapter: Path
    history: list[dict[str, float]]
    seconds: float


def run_demo(options: DemoOptions, say: Callable[[str], None] = print) -> Path:
    """Everything; returns the page.

    Raises:
        OutputError: the output folder cannot be written to. MediaError: `video` cannot be read.
    """
    began = time.perf_counter()
    out = check_writable(options.out)
    if options.video is not None:
        open_video(options.video).close()
    say(f"1/4  score the base with a fresh plugin on {options.scored} held-out clips")
    with tempfile.TemporaryDirectory(prefix="sama_fresh_") as folder:
        before = _score(options, fresh_adapter(Path(folder) / "sama_adapter", options.seed), say)
    say(f"2/4  fine-tune with the plugin and LoRA, {options.steps} steps")
    taught = teach(options, out)
    say("3/4  score again")
    after = _score(options, taught.adapter, say)
    say("4/4  talk about held-out clips and a real video")
    sama = load_sama("mini", taught.adapter)
    views, seeds = _mini_talks(sama, out)
    real = _real_talk(sama, out, options.video or find_real_video())
    report = _report(options, before, after, taught, seeds, time.perf_counter() - began)
    _write_json(out / "scores.json", {"before": before, "after": after})
    _write_json(out / "report.json", report)
    with atomic_path(out / "index.html") as temporary:
        document = _page(report, before, after, taught, views, real)
        temporary.write_text(document, encoding="utf-8")
    return out / "index.html"


def fresh_adapter(folder: Path, seed: int = 0) -> Path:
    """The mini base with a freshly initialised plugin and no LoRA, as a checkpoint."""
    from sama_plugin.infer.load import load_host
    from sama_plugin.model.attach import attach
    from sama_plugin.model.checkpoint import save_adapter

    config = dataclasses.replace(mini_config(), seed=seed)
    return save_adapter(attach(*load_host("mini"), config), folder)


def teach(options: DemoOptions, out: Path) -> Lesson:
    """Fine-tune, and leave `out/sama_adapter`; the run's own folder is removed when it is done."""
    from transformers import TrainerCallback

    from sama_plugin.train.run import train
    from sama_plugin.train.saving import newest_checkpoint

    history: list[dict[str, float]] = []

    class Remember(TrainerCallback):
        def on_train_end(self, arguments: Any, state: Any, control: Any, **other: Any) -> None:
            history.extend(state.log_history)

    world = prepare(out / "world", options.clips, options.seed)
    folder = out / f".training-{options.steps}-{options.clips}-{options.seed}"
    began = time.perf_counter()
    config = lesson(world, folder, options.steps, seed=options.seed)
    resume = newest_checkpoint(folder) is not None
    result = train(config, resume=resume, callbacks=[Remember()])
    seconds = time.perf_counter() - began
    with atomic_dir(out / "sama_adapter") as temporary:
        shutil.copytree(result.adapter, temporary, dirs_exist_ok=True)
    shutil.rmtree(folder)
    return Lesson(out / "sama_adapter", history, seconds)


def thinned(case: Case) -> bool:
    """About eight of a clip's cases, so that 216 clips give 200 of every number in little time.

    All look-alikes, as they are rare; the rest in turn, by the clip's number.
    """
    turn = int(case.sample.id.rpartition("-")[2]) % 4
    if "look-alike" in case.kind:
        return True
    turns = {"chat": (0,), "region_qa": (1,), "grounding": (2,), "absent": (0, 2)}
    return turn in turns.get(case.task, (1, 3))


def find_real_video() -> Optional[Path]:
    """The first video of `$SAMA_DATA/videos`, if there is one."""
    folder = Path(os.environ.get("SAMA_DATA", "")) / "videos"
    found = sorted(folder.glob("*.mp4")) if os.environ.get("SAMA_DATA") else []
    return found[0] if found else None


def _score(options: DemoOptions, adapter: Path, say: Callable[[str], None]) -> dict[str, Any]:
    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else "\r"
            print(f"     {done} of {total} clips", file=sys.stderr, end=end, flush=True)

    result = evaluate(
        "mini", adapter, options.scored, workers=options.workers, wanted=thinned, progress=progress
    )
    scores = result["scores"]
    say("     " + ", ".join(f"{metric} {scores[metric]['value']:.3f}" for metric in METRICS))
    return result


def _mini_talks(sama: SamaModel, out: Path) -> tuple[list[ConversationView], list[int]]:
    """The scripted conversations about held-out clips."""
    views, seeds = [], []
    with tempfile.TemporaryDirectory(prefix="sama_scenes_") as folder:
        for number, script in enumerate(scripts(SceneFolder(folder, "heldout")), start=1):
            views.append(_mini_talk(sama, script, out / f"talk-{number}", out))
            seeds.append(script.scene.clip.seed)
    return views, seeds


def _mini_talk(sama: SamaModel, script: Script, folder: Path, out: Path) -> ConversationView:
    reader = open_video(script.scene.media.source, fps=FPS)
    with VideoSession(sama, reader) as session:
        outcomes = play(session, script)
        view = write_media(session, check_writable(folder), script.title, base=out)
        save_session(session, folder / "conversation.json")
    return with_truth(view, outcomes)


def _real_talk(sama: SamaModel, out: Path, video: Optional[Path]) -> Optional[ConversationView]:
    """A conversation about a photograph-like video: the mini does not understand it, files must be
    right all the same.
    """
    if video is None:
        return None
    folder = check_writable(out / "talk-real")
    with VideoSession(sama, video) as session:
        height, width = session.reader.size
        middle = (width / 3, height / 3, 2 * width / 3, 2 * height / 3)
        session.region("this", frame=session.plan.rows[0], box=middle)
        session.ask("What is @this?")
        answer = session.ask(f"What does @this do?{SUFFIX}")
        if answer.phrases:
            session.ask(f"What colour is @{answer.phrases[0].name}?")
        view = write_media(session, folder, f"A real video: {video.name}", base=out)
        save_session(session, folder / "conversation.json")
    return view


def _report(
    options: DemoOptions,
    before: dict[str, Any],
    after: dict[str, Any],
    taught: Lesson,
    talks: list[int],
    seconds: float,
) -> dict[str, Any]:
    return {
        "before": {metric: _number(before["scores"][metric]["value"]) for metric in METRICS},
        "after": {metric: _number(after["scores"][metric]["value"]) for metric in METRICS},
        "aggregator_gain": _gain().get("gain"),
        "train_seconds": round(taught.seconds, 1),
        "total_seconds": round(seconds, 1),
        "peak_rss_gb": round(_peak(options, before, after), 2),
        "encodes_per_frame": after["encodes_per_frame"],
        "seeds": {
            "training": options.seed,
            "first_training_clip": options.seed,
            "first_scored_clip": FIRST_SEED,
            "conversations": talks,
        },
        "versions": versions(),
    }


def _peak(options: DemoOptions, *scored: dict[str, Any]) -> float:
    """At most so much memory was resident at once, in GB: this process's peak, and the workers'."""
    workers = max(one["peak_rss_gb"] for one in scored) if options.workers > 1 else 0.0
    return peak_gigabytes() + workers


def _gain() -> dict[str, Any]:
    return json.loads(GAIN_FILE.read_text(encoding="utf-8")) if GAIN_FILE.is_file() else {}


def versions() -> dict[str, str]:
    """Of what the numbers depend on, the machine included."""
    found = {"sama_plugin": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "sam2", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return found


def _number(value: float) -> Optional[float]:
    return None if value != value else round(float(value), 4)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _page(
    report: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    taught: Lesson,
    views: list[ConversationView],
    real: Optional[ConversationView],
) -> str:
    gain = _gain()
    measured = (
        f"Context aggregator on motion and history questions: {100 * gain['gain']:+.1f} points, "
        f"measured with both arms trained (make bench-aggregator, commit {gain.get('commit')})."
        if gain
        else "The context aggregator's gain has not been measured here (make bench-aggregator)."
    )
    minutes = report["train_seconds"] / 60
    sections = [
        gallery(views),
        "<h2>Before and after</h2>",
        score_table(before["scores"], after["scores"]),
        f'<p class="small">Percent, with 95 % intervals. {measured}</p>',
        "<h2>What it took</h2>",
        facts(
            (
                (f"{minutes:.1f} min", "of fine-tuning"),
                (f"{report['total_seconds'] / 60:.1f} min", "for this page"),
                (f"{report['peak_rss_gb']:.1f} GB", "memory at most"),
                (f"{report['encodes_per_frame']:g}", "segmenter encodes a frame"),
            )
        ),
        loss_curve(taught.history),
        *(conversation(view) for view in views),
    ]
    if real is None:
        sections += [
            "<h2>A real video</h2>",
            note("Skipped: no video was given. Run make demo VIDEO=path, or set SAMA_DATA."),
        ]
    else:
        sections += [
            conversation(real),
            note(
                "The mini has only ever seen coloured shapes, so its words about a real video mean "
                "nothing. Frames, regions, masks, times and files are right; meaning is a matter "
                "of "
                "the host's size."
            ),
        ]
    lead = (
        "A small InternVL that could see and talk, but knew nothing of regions or masks, was given "
        "two senses by a plugin and LoRA: it is pointed at things, and points back with masks.",
        "Every clip on this page is held out: its seed and its compositions never occur in "
        "training.",
    )
    footer = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return page("Point at it, and see what it means", lead, sections, footer)
