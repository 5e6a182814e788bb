"""A byte-level tokenizer built on the spot: every test that tokenises uses it, nothing is
downloaded.
"""

from __future__ import annotations

from sama_plugin.hosts.internvl.prompt import IMAGE_CLOSE, IMAGE_OPEN, IMAGE_TOKEN

CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HOST_TOKENS = (
    "<|im_start|>",
    IMAGE_OPEN,
    IMAGE_CLOSE,
    IMAGE_TOKEN,
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
)
_WORDS = "what does the dog do. a red ball runs behind the cup and stops; Frame1: user assistant\n"


def tiny_tokenizer(template: str | None = CHATML, plugin: bool = False):
    """A fresh fast tokenizer with a chat template; `plugin` adds the plugin's tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from sama_plugin.dialog.tokens import add_tokens

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([_WORDS] * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],  # as Qwen's
    )
    tokenizer.add_tokens(list(HOST_TOKENS), special_tokens=True)
    tokenizer.chat_template = template
    if plugin:
        add_tokens(tokenizer)
    return tokenizer
