"""What the plugin must know about a host model, and how the right adapter is found.

An adapter is stateless: every method takes the host model. It names the four places where taps go
(decoder, input and
output embeddings, visual module), describes the visual grid, and says what LoRA may touch. New host
= one folder that
implements `HostAdapter` and one line in `HOSTS`.
"""

from __future__ import annotations

from typing import Any, Mapping, Protocol, Sequence

from sama_plugin.errors import HostError
from sama_plugin.registry import Registry


class HostAdapter(Protocol):
    """Where a host can be held, and what its prompts look like."""

    name: str

    def detect(self, model: Any) -> bool:
        """Whether this adapter can hold `model` (an unwrapped host, never a PeftModel)."""

    def decoder(self, model: Any) -> Any:
        """The transformer that is called with `inputs_embeds=` (before the language-model head)."""

    def input_embeddings(self, model: Any) -> Any:
        """The module that maps token ids to vectors."""

    def output_embeddings(self, model: Any) -> Any:
        """The module that maps final hidden states to logits."""

    def visual_module(self, model: Any) -> Any:
        """The module whose output are the projected visual tokens, one row a frame or tile."""

    def visual_features(self, output: Any) -> Any:
        """The visual module's output as a tensor (frames, tokens, width)."""

    def with_visual_features(self, output: Any, features: Any) -> Any:
        """`output` with its features replaced by `features` (frames kept, tokens, width)."""

    def width(self, model: Any) -> int:
        """C, the width of the language model."""

    def grid(self, model: Any) -> tuple[int, int]:
        """(h, w) of the visual tokens of one frame."""

    def image_size(self, model: Any) -> int:
        """Side of the square frames the vision tower reads, in pixels."""

    def family(self, model: Any) -> str:
        """The language model's type, e.g. "qwen2"; stored in checkpoints and compared at load."""

    def vocabulary_fields(self, model: Any) -> Sequence[tuple[Any, str]]:
        """(config object, attribute) pairs that hold the vocabulary size; raised for the time of a
        call.
        """

    def image_token(self) -> str:
        """The placeholder that the host replaces by visual tokens."""

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        """Text before the first question: `frames` frames of `tokens` placeholders each, worded as
        the host words it.
        """

    def pixels(self, frames: Any, model: Any) -> Any:
        """uint8 (N, H, W, 3) frames to the vision tower's input (N, 3, S, S)."""

    def lora_names(self, model: Any) -> Mapping[str, str]:
        """Canonical LoRA target ("q", "k", "v", "o", "gate", "up", "down") to the host's layer
        name.
        """

    def lora_pattern(self, model: Any, targets: Sequence[str]) -> str:
        """Anchored regular expression over module names that matches these targets in the language
        model only.
        """


HOSTS = Registry("hosts", {"internvl": "sama_plugin.hosts.internvl.adapter:InternVLAdapter"})


def find_adapter(model: Any) -> HostAdapter:
    """The first registered adapter that recognises `model`.

    Raises:
        HostError: no adapter does; the message lists what was tried.
    """
    for name in HOSTS.names():
        adapter = HOSTS.get(name)()
        if adapter.detect(model):
            return adapter
    raise HostError(
        f"no host adapter recognises {type(model).__module__}.{type(model).__qualname__}; "
        f"known hosts: {', '.join(HOSTS.names())}. An adapter for it can be registered under the "
        "entry point "
        "group 'sama_plugin.hosts'"
    )
