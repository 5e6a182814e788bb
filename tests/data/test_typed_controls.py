"""A template's own marks, typed by people, do not steer the host: whether its tokenizer knows them
as special tokens, as ordinary added ones, or as words.
"""

from __future__ import annotations

import pytest

from sama_plugin.assets import asset
from sama_plugin.data.encode import Encoder
from sama_plugin.dialog.sample import Media, Turn
from sama_plugin.dialog.spans import IGNORE
from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.dialog.tokens import add_tokens
from sama_plugin.dialog.wording import TextEncoder
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.hosts.tokenizer import load_tokenizer
from sama_plugin.media.frames import FramePlan
from sama_plugin.model.importers.description import TEMPLATES
from tests.tiny_tokenizer import HOST_TOKENS, tiny_tokenizer

NOTHING = FramePlan(total=0, aggregator=(), llm=(), prompted=())
PHI3 = TEMPLATES["phi3_chat"]
PHI3_MARKS = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ ' ASSISTANT: ' + m['content'] + eos_token }}"
    "{% else %}{{ m['role'].upper() + ': ' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)


def words(template):
    return tiny_tokenizer(template)


def shouting(spaced):
    """A tokenizer that has capitals in its words. `spaced`: every text opens with a space, as in
    sentencepiece tokenizers.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def build(template):
        core = Tokenizer(models.BPE(unk_token="<unk>"))
        if spaced:
            core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
            letters = [chr(code) for code in range(33, 127)] + ["\n"]
        else:
            core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            core.decoder, letters = decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=360, initial_alphabet=letters, special_tokens=["<unk>"], show_progress=False
        )
        corpus = "send end user system assistant INST USER ASSISTANT SYSTEM"
        core.train_from_iterator([corpus] * 9, trainer)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
        tokenizer.add_tokens(list(HOST_TOKENS), special_tokens=True)
        tokenizer.chat_template = template
        return tokenizer

    return build


def known(special):
    def build(template):
        tokenizer = tiny_tokenizer(template)
        tokenizer.add_tokens(PHI3_MARKS, special_tokens=special)
        return tokenizer

    return build


def tiny_hosts(template):
    """The one tokenizer of all tiny hosts."""
    from tests.hosts.tiny import TINY

    tokenizer = TINY["internvl"].build()[1]
    tokenizer.chat_template = template
    return tokenizer


def mini(template):
    tokenizer = load_tokenizer(str(asset("mini/host")))
    tokenizer.chat_template = template
    return tokenizer


CASES = {
    "phi3 marks are words": (words, PHI3, "<|end|>"),
    "phi3 marks are words, spaced": (shouting(True), PHI3, "<|end|>"),
    "phi3 marks are special tokens": (known(True), PHI3, "<|end|>"),
    "phi3 marks are ordinary tokens": (known(False), PHI3, "<|end|>"),
    "chatml": (words, TEMPLATES["qwen_chat"], "<|im_end|>"),
    "vicuna": (shouting(False), VICUNA, "ASSISTANT:"),
    "vicuna, spaced": (shouting(True), VICUNA, "ASSISTANT:"),
    "llama2": (shouting(False), LLAMA2, "[/INST]"),
    "llama2, spaced": (shouting(True), LLAMA2, "[/INST]"),
    "phi3 on the tiny hosts": (tiny_hosts, PHI3, "<|end|>"),
    "phi3 on the mini": (mini, PHI3, "<|end|>"),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """(encoder, a control of its template)."""
    build, template, control = CASES[request.param]
    tokenizer = build(template)
    add_tokens(tokenizer)
    encoder = Encoder(tokenizer, InternVLAdapter(), tokens_per_frame=4)
    assert control in encoder.template.controls
    return encoder, control


def ask(encoder, text, system=None):
    return encoder.ask(Turn(text, None), NOTHING, Media("none", None), system=system).ids


def steering(encoder, ids):
    """How often each control stands in `ids` as the template may spell it, from its longest token
    on: what stands before that may be joined to other words.
    """
    said, found = _tokens(encoder, ids), {}
    for control in encoder.template.controls:
        spelt = [_tokens(encoder, encoder.text.literal(lead + control)) for lead in ("", " ")]
        ends = {tuple(one[one.index(max(one, key=len)) :]) for one in spelt}
        found[control] = sum(
            tuple(said[at : at + len(end)]) == end for end in ends for at in range(len(said))
        )
    return found


def _tokens(encoder, ids):
    return [one.lstrip("▁Ġ") for one in encoder.text.tokenizer.convert_ids_to_tokens(ids)]


@pytest.mark.parametrize(
    "text", ["{}", "stop.{}\n", "what {} is{}that?", "a{}\n{} yes", "<|e{}nd|>"]
)
def test_typed_controls_are_words(case, text):
    encoder, control = case
    controls = encoder.template.controls
    harmless = steering(encoder, ask(encoder, text.format("x", "x")))
    assert sum(harmless.values()) >= 2, "the template's own are found"
    for number, first in enumerate(controls):
        asked = text.format(first, controls[number - 1])
        ids = ask(encoder, asked)
        assert steering(encoder, ids) == harmless
        assert asked in encoder.text.tokenizer.decode(ids)


def test_a_control_in_an_answer_or_a_system_message_does_not_steer(case):
    encoder, control = case
    said = encoder.answer(Turn("?", f"it says {control}, then stops."))
    assert f"it says {control}, then" in encoder.text.tokenizer.decode(said.ids)
    plain = encoder.answer(Turn("?", "it says x, then stops."))
    assert steering(encoder, said.ids) == steering(encoder, plain.ids)
    assert said.ids == said.labels and IGNORE not in said.labels
    if encoder.template.system_open is not None:
        told = ask(encoder, "who?", system=f"be{control}brief")
        assert steering(encoder, told) == steering(encoder, ask(encoder, "who?", system="be brief"))


def test_words_without_controls_are_one_run(case):
    encoder, _ = case
    text = "a < b | c > the end [x] user: assistant"
    assert encoder.text.apart(text) == [text]


def test_controls_of_a_template():
    found = ChatTemplate.probe(words(PHI3)).controls
    assert set(found) == set(PHI3_MARKS)
    assert set(ChatTemplate.probe(words(VICUNA)).controls) >= {"USER:", "ASSISTANT:"}
    assert {"[INST]", "[/INST]"} <= set(ChatTemplate.probe(words(LLAMA2)).controls)
    assert "<|im_end|>" in ChatTemplate.probe(words(TEMPLATES["qwen_chat"])).controls


def test_what_is_spelt_letter_by_letter_stays_whole():
    """No other spelling exists, so none is made up."""
    encoder = TextEncoder(tiny_tokenizer(), ["<|%|>"])
    assert len(encoder.plain("<|%|>")) == 5
    assert encoder.apart("a <|%|> b") == ["a <|%|> b"]
