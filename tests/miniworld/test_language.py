"""Sentences about clips: what they refer to is checked by a reader of its own, which knows only the
words and the clip's numbers.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from sama_plugin.dialog.parse import parse_answer
from sama_plugin.miniworld import chat, regions
from sama_plugin.miniworld import expressions as expressions_room
from sama_plugin.miniworld.chat import chat_turns
from sama_plugin.miniworld.dialogues import SUFFIX, dialogues
from sama_plugin.miniworld.expressions import expressions
from sama_plugin.miniworld.motion import trajectory
from sama_plugin.miniworld.options import multiple_choice
from sama_plugin.miniworld.reserved import RESERVED, reserved_motions
from sama_plugin.miniworld.things import COLOURS, SHAPES, TEXTURES
from sama_plugin.miniworld.tokenizer import NUMBERS, WORLD_WORDS
from sama_plugin.miniworld.world import sample_clip

CLIPS = [sample_clip(seed, split) for seed in range(150) for split in ("train", "heldout")]


def rng_of(clip) -> np.random.Generator:
    return np.random.default_rng([3, clip.seed, len(clip.split)])


def resolve(clip, phrase: str) -> set:
    """Indices a noun phrase means, read word by word; independent of the room's own grammar."""
    phrase = re.sub(r"^(the|all|a|an) ", "", phrase.strip())
    attributes, _, predicate = phrase.partition(" that ")
    *words, noun = attributes.split()
    noun = noun if noun in SHAPES else re.sub(r"(?<=s)es$|s$", "", noun)
    meant = set()
    for index, thing in enumerate(clip.things):
        after = thing.colour_after or thing.colour
        fits = noun in ("thing", thing.shape)
        for word in words:
            fits &= word in (thing.colour, after, thing.texture, thing.size)
        if fits and (not predicate or does(clip, index, predicate)):
            meant.add(index)
    return meant


def does(clip, index: int, predicate: str) -> bool:
    """Whether a predicate is true of a thing, from its way, its depth and its colours."""
    thing = clip.things[index]
    way = trajectory(thing)
    step = way[-1] - way[0]
    outside = (np.abs(way - 64) > 64).any()
    if predicate.startswith("passes"):
        front = predicate.startswith("passes in front of the ")
        named = resolve(clip, predicate.split(" the ", 1)[1])
        return any(
            np.abs(step).max() > 1
            and np.hypot(*(way - trajectory(clip.things[o])).T).min()
            < 0.6 * (thing.radius + clip.things[o].radius)
            and (thing.depth > clip.things[o].depth) == front
            for o in named - {index}
        )
    if predicate.startswith("moves"):
        x, y = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[
            predicate.split()[1]
        ]
        return x * step[0] + y * step[1] > 30
    there_and_back = np.abs(step).max() < 1e-6 and np.ptp(way, axis=0).max() > 1
    return {
        "hides": thing.depth < 0,
        "changes colour": thing.colour_after is not None,
        "stays still": np.ptp(way, axis=0).max() == 0,
        "circles": there_and_back and np.ptp(way, axis=0).min() > 5,
        "turns around": there_and_back and np.ptp(way, axis=0).min() == 0 and not outside,
        "leaves and returns": there_and_back and outside,
    }[predicate]


def test_every_expression_means_exactly_its_things():
    kinds = Counter()
    for clip in CLIPS:
        for expression in expressions(clip, rng_of(clip)):
            kinds[expression.kind] += 1
            found = resolve(clip, expression.text)
            assert found == set(expression.things), (clip.name, expression)
            size = len(expression.things)
            assert size == {"several": max(size, 2), "absent": 0}.get(expression.kind, 1)
    assert set(kinds) == set(expressions_room.KINDS)
    assert 0.06 < kinds["absent"] / sum(kinds.values()) < 0.14


def test_training_never_denies_what_only_held_out_clips_show():
    """A reserved motion that is asked for and never seen would be learnt to be nowhere."""
    denied = {"train": set(), "heldout": set()}
    for split, found in denied.items():
        for seed in range(150):
            clip = sample_clip(seed, split)
            for expression in expressions(clip, np.random.default_rng(seed)):
                name, that, motion = expression.text.partition(" that ")
                if that and expression.kind == "absent":
                    found |= {(look, motion) for look in name.split()} & RESERVED
    assert not denied["train"] and denied["heldout"]


def _requests(clip, rng):
    """(source, text, things meant) of every request that says what a thing does."""
    for one in expressions(clip, rng):
        yield "expression", one.text, one.things
    for turn in dialogues(clip, rng):
        question = turn.question.partition(SUFFIX)[0]
        if turn.question.startswith("Which thing "):
            yield "dialogue", question.replace("Which thing ", "the thing that "), turn.targets
    for turn in chat_turns(clip, rng, 40):
        if turn.question.startswith("Which thing "):
            name = turn.answer.removeprefix("The ").strip(".")
            text = turn.question.replace("Which thing ", "the thing that ")
            yield "chat", text, resolve(clip, f"the {name}")


def test_training_never_passes_over_looks_that_a_motion_is_reserved_with():
    """A red thing that is never the one that circles, whatever it does, would be learnt as such."""
    passed = Counter()
    for split in ("train", "heldout"):
        for seed in range(150):
            clip = sample_clip(seed, split)
            for source, text, things in _requests(clip, np.random.default_rng(seed)):
                name, that, motion = text.strip("?").partition(" that ")
                others = resolve(clip, name) - set(things) if that and things else set()
                passed[split, source] += any(
                    motion in reserved_motions(clip.things[other]) for other in others
                )
    for source in ("expression", "dialogue", "chat"):
        assert passed["train", source] == 0
        assert passed["heldout", source] > 3, source


def test_training_never_offers_a_reserved_motion_as_a_wrong_option():
    offered = Counter()
    for split in ("train", "heldout"):
        for seed in range(60):
            clip = sample_clip(seed, split)
            for choice in multiple_choice(clip, np.random.default_rng(seed)):
                assert len(choice.options) == 4
                thing = clip.things[choice.asked.things[0]]
                if choice.asked.kind in ("does", "history"):
                    said = [option[len("(A) ") :] for option in choice.options]
                    offered[split] += any(
                        text.startswith(motion)
                        for text in said
                        for motion in reserved_motions(thing)
                        if not choice.asked.answer.startswith(f"It {motion}")
                    )
    assert offered["train"] == 0 and offered["heldout"] > 20


def test_motion_and_history_expressions_need_the_motion_or_the_history():
    for clip in CLIPS:
        for expression in expressions(clip, rng_of(clip)):
            if expression.kind in ("motion", "history"):
                without = resolve(clip, expression.text.partition(" that ")[0])
                assert len(without) > 1
            if expression.look_alike:
                looks = {clip.things[index].name() for index in without}
                assert len(looks) == 1 or any(clip.things[i].colour_after for i in without)


def test_questions_about_unique_things_name_one_thing():
    for clip in CLIPS:
        for turn in chat.chat_turns(clip, rng_of(clip), 30):
            match = re.search(
                r"\bthe ((?:striped |plain |dotted )?\w+ (?:circle|square|triangle|star|cross|ring)"
                r"(?: that [a-z ]+?)?)(?: at the| do\?| move\?|\?)",
                turn.question,
            )
            if match and turn.kind not in ("which",):
                assert len(resolve(clip, match.group(1))) == 1, (clip.name, turn)


ANSWERS = {
    "shape": lambda clip, index: f"It is a {clip.things[index].shape}.",
    "texture": lambda clip, index: f"It is {clip.things[index].texture}.",
    "size": lambda clip, index: f"It is {clip.things[index].size}.",
    "becomes": lambda clip, index: f"It is {clip.things[index].colour_after}.",
}


def test_plain_answers_are_true():
    seen = Counter()
    for clip in CLIPS:
        for turn in chat.chat_turns(clip, rng_of(clip), 30):
            seen[turn.kind] += 1
            if turn.kind in ANSWERS:
                phrase = re.search(r"the (\w+ \w+)", turn.question).group(1)
                (index,) = resolve(clip, phrase)
                assert turn.answer == ANSWERS[turn.kind](clip, index)
            elif turn.kind == "exists":
                found = resolve(clip, re.search(r"there an? (.*)\?", turn.question).group(1))
                assert turn.answer == ("Yes." if found else "No.")
            elif turn.kind == "count":
                phrase = re.search(r"How many (.*) are", turn.question).group(1)
                assert turn.answer == f"{len(resolve(clip, phrase))}."
            elif turn.kind == "does":
                (index,) = resolve(clip, re.search(r"the (\w+ \w+)", turn.question).group(1))
                for clause in turn.answer[3:-1].split(" and "):
                    if clause == "returns":
                        continue
                    clause = {"leaves": "leaves and returns"}.get(clause, clause)
                    assert does(clip, index, re.sub(r" to \w+$", "", clause))
            elif turn.kind == "which":
                name, predicate = turn.answer[4:-1], turn.question[len("Which thing ") : -1]
                (index,) = resolve(clip, f"thing that {predicate}")
                assert clip.things[index].name() == name
            elif turn.kind in ("where", "row"):
                phrase, when = re.search(r"the (.*) at the (start|end)", turn.question).groups()
                (index,) = resolve(clip, phrase.rpartition("is the ")[2])
                x, y = trajectory(clip.things[index])[0 if when == "start" else -1]
                if turn.kind == "where":
                    assert turn.answer == f"At x {int(x // 8)}, y {int(y // 8)}."
                else:
                    assert turn.answer == f"Row {1 + int(y // 32)}, column {1 + int(x // 32)}."
    assert set(seen) == set(chat.KINDS)


def test_yes_and_no_are_balanced():
    for kind in ("exists", "event"):
        answers = Counter(
            turn.answer
            for clip in CLIPS
            for turn in chat.chat_turns(clip, rng_of(clip), 12)
            if turn.kind == kind
        )
        assert 0.4 < answers["Yes."] / sum(answers.values()) < 0.6


def test_chat_asks_nothing_twice_and_as_many_as_wanted():
    for clip in CLIPS[:60]:
        turns = chat.chat_turns(clip, rng_of(clip), 12)
        assert len(turns) == 12
        assert len({turn.question for turn in turns}) == 12


def test_region_questions_mark_their_things():
    kinds = Counter()
    for clip in CLIPS:
        for asked in regions.region_questions(clip, rng_of(clip)):
            kinds[asked.kind] += 1
            assert asked.question.count("<region>") == len(asked.things)
            assert 0 < regions.chance(asked.kind) <= 0.5
            thing = clip.things[asked.things[0]]
            if asked.kind == "what":
                assert asked.things[0] in resolve(clip, asked.answer[len("It is ") : -1])
            elif asked.kind == "colour":
                assert thing.colours[-1] in asked.answer
            elif asked.kind == "same":
                what = asked.question.split()[-1].strip("?")
                values = {getattr(clip.things[index], what) for index in asked.things}
                assert asked.answer == ("Yes." if len(values) == 1 else "No.")
    assert set(kinds) == set(regions.KINDS)


def test_dialogues_mark_what_they_mean():
    kinds, asked = Counter(), 0
    for clip in CLIPS:
        turns = dialogues(clip, rng_of(clip))
        assert 2 <= len(turns) <= 4
        for turn in turns:
            kinds[turn.kind] += 1
            asked += turn.question.endswith(SUFFIX)
            assert turn.question.count("<region>") == len(turn.regions)
            answer = parse_answer(turn.answer)
            assert answer.n_seg == len(turn.targets)
            assert bool(turn.targets) == (turn.question.endswith(SUFFIX) and turn.kind != "absent")
            for phrase, thing in zip(answer.grounded, turn.targets):
                words = phrase.text.lower().replace("other ", "")
                assert thing in resolve(clip, words), (clip.name, turn)
                if " that " in words:
                    assert resolve(clip, words) == {thing}
            if turn.kind == "absent":
                assert not resolve(clip, turn.answer[len("There is no ") : -1])
    assert set(kinds) == {
        *("point", "find", "several", "which", "describe", "absent", "plain"),
        *("deed", "passed", "other"),
    }
    assert 0.06 < kinds["absent"] / asked < 0.16


def test_follow_ups_mean_what_was_said_before():
    for clip in CLIPS:
        turns = dialogues(clip, rng_of(clip))
        for before, turn in zip(turns, turns[1:]):
            if turn.kind == "deed":
                assert turn.targets[0] == before.targets[0]
            elif turn.kind == "other":
                first, second = before.targets[0], turn.targets[0]
                assert clip.things[first].name() == clip.things[second].name()
                assert first != second
            elif turn.kind == "passed":
                assert any({before.targets[0], turn.targets[0]} == set(p) for p in clip.passes)


def test_the_suffix_is_that_of_the_real_data():
    formats = pytest.importorskip("sama_plugin.data.formats.sama_239k")
    assert formats.SUFFIX == SUFFIX


def test_vocabulary_is_closed_and_known_to_the_tokenizer():
    words: set = set()
    for clip in CLIPS:
        rng = rng_of(clip)
        texts = [e.text for e in expressions(clip, rng)]
        for turn in chat.chat_turns(clip, rng, 30) + regions.region_questions(clip, rng):
            texts += [turn.question, turn.answer]
        for turn in dialogues(clip, rng):
            answer = re.sub(r"</?p>|\[SEG\]", " ", turn.answer)
            texts += [turn.question.replace(SUFFIX, ""), answer]
        text = " ".join(texts).replace("<region>", " ").lower()
        words.update(re.findall(r"[a-z]+|\d+", text))
    assert len(words) < 200
    assert words <= {word.lower() for word in WORLD_WORDS.split()} | set(NUMBERS)
    assert set(COLOURS) | set(SHAPES) | set(TEXTURES) <= words
