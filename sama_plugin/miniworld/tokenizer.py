"""The mini host's tokenizer: one token a mini-world word, bytes for everything else.

Why not a trained BPE: the world has a closed vocabulary, so a literal word list is smaller,
deterministic without any corpus, and built in milliseconds. It is still a byte-level tokenizer of
the GPT-2/Qwen kind: a word of the list is one token with or without a leading blank
(`ignore_merges`), and any other text a user types falls apart into bytes, so nothing is ever
unknown. Special tokens, their attributes and the ChatML template are those of the InternVL/Qwen2
line. Used by `host.py`; the built file is packaged as `assets/mini/host/tokenizer.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
    "<quad>",
    "</quad>",
    "<video>",
)

# Order is part of the packaged weights: append, never insert.
WORLD_WORDS = (
    # things
    "red green blue yellow purple orange cyan white grey black "
    "circle square triangle star cross ring circles squares triangles stars crosses rings "
    "plain striped dotted tiny small large thing things object objects wall shape shapes "
    "colour color colours size texture "
    # motion and history
    "moves move left right up down stays stay still turns turn around goes go circling moving "
    "staying turning "
    "hides hide hidden leaves leave and returns return comes come back then changes change "
    "passes pass behind in front of "
    "changing hiding passing leaving returning moved hid left passed changed went came does do "
    "did doing "
    "from to into out again while after before first last later "
    # asking
    "what which who where when how many much is are was were there it its they them this that "
    "these those the a an one ones "
    "other another any all both none no yes not nothing only also or with at on by for but same "
    "describe video image clip picture frame frames segment show me find please tell point "
    "mark track answer question "
    "can could would you i we your my see seen look looks like look-alike different equal "
    # places
    "row column x y start end middle beginning top bottom center centre side corner near "
    "between above below "
    "zero one two three four five six seven eight nine ten "
    # talk
    "user assistant system hello hi thanks thank sorry know about name called here now ok good "
    "colour colored coloured Frame red-circle object's "
    # how the field asks for masks: the wording of its datasets
    "Response response interleaved segmentation mask masks output give its sure Sure result "
    "region regions "
    "Please Can Find Where Segment It The detail detailed following during "
)
NUMBERS = tuple(str(number) for number in range(17))

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A fresh tokenizer, always the same one: special tokens first, then 256 bytes, then the
    world's words.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(vocab=_vocabulary(), merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[1:])})
    return tokenizer


def _vocabulary() -> dict[str, int]:
    """Token string (in byte-level spelling, a leading blank is written Ġ) -> id."""
    from tokenizers import pre_tokenizers

    entries = list(SPECIAL_TOKENS) + sorted(pre_tokenizers.ByteLevel.alphabet())
    for word in dict.fromkeys(WORLD_WORDS.split() + list(NUMBERS)):
        entries += [
            form
            for form in (f"Ġ{word}", word, word.capitalize())
            if form.isascii() or form[0] == "Ġ"
        ]
    return {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
