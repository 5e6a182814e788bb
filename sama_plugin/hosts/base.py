"""What the plugin must know about a host model, and how the right adapter is found.

An adapter is stateless but for the frame side it was made with: every method takes the host model.
It names the places where taps go (visual output, input embeddings, decoder, output embeddings),
describes the visual grid, words the prompt, and says what LoRA may touch. New host = one folder
that implements `HostAdapter` (most of it inherited from `native.NativeHost`) and one line in
`HOSTS`.

Every host reads frames the same way here: each frame is one square picture of a fixed side, so it
always gives the same N visual tokens on one (h, w) grid, whatever the host's own processor does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Protocol, Sequence

from sama_plugin.errors import HostError
from sama_plugin.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class VisualRows:
    """What the vision side says about some frames, one row a frame.

    Attributes:
        features: (F, N, C) projected visual tokens.
        deep: (F, D, N, C) what a host adds to the outputs of its first D decoder layers at the
            visual positions (Qwen3-VL's deepstack); None on hosts that add nothing.
    """

    features: Tensor
    deep: Optional[Tensor] = None

    def rows(self, index: Any) -> VisualRows:
        """The frames at `index`."""
        return VisualRows(self.features[index], None if self.deep is None else self.deep[index])


@dataclass(frozen=True)
class Head:
    """What a language model does to its logits after the linear head, when it is run alone.

    Hosts that put a plain linear head on a decoder lose it; during a plugin call the taps give it
    back: `softcap * tanh(scale * logits / softcap)`.
    """

    scale: float = 1.0
    softcap: Optional[float] = None

    @property
    def plain(self) -> bool:
        """Nothing to do."""
        return self.scale == 1.0 and self.softcap is None


class HostAdapter(Protocol):
    """Where a host can be held, and what its prompts look like."""

    name: str

    def detect(self, model: Any) -> bool:
        """Whether this adapter can hold `model` (an unwrapped host, never a PeftModel)."""

    def use_frame_side(self, model: Any, side: int) -> None:
        """Read frames of `side` pixels from now on; HostError where the host cannot."""

    def decoder(self, model: Any) -> Any:
        """The transformer that is called with `inputs_embeds=` (before the language-model head)."""

    def input_embeddings(self, model: Any) -> Any:
        """The module that maps token ids to vectors."""

    def output_embeddings(self, model: Any) -> Any:
        """The module that maps final hidden states to logits."""

    def tap_visual(self, model: Any, seen: Callable[[VisualRows], Optional[VisualRows]]) -> Any:
        """Call `seen` with all frames' rows whenever the host has encoded frames, and hand on the
        rows it returns (None: the host's own output, same bits). Returns a handle with `remove()`.
        """

    def encode_frames(self, model: Any, pixels: Tensor) -> VisualRows:
        """(F, 3, S, S) pixels to rows, outside any forward pass of the host."""

    def forward_inputs(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The plugin's own inputs (`input_ids`, `attention_mask`, `pixel_values` (F, 3, S, S) of
        all frames, `past_key_values`, ...) as the keyword arguments of the host's forward.
        """

    def read(self, model: Any, inputs: Mapping[str, Any], **options: Any) -> Any:
        """One step of a conversation whose frames are cached: `inputs` as in `forward_inputs`, no
        pixels; `options` are transformers' (`use_cache`, `logits_to_keep`). Gives `logits` (B, L,
        V).
        """

    def chat_tokenizer(self, model: Any, tokenizer: Any) -> Any:
        """`tokenizer` (a copy, it may be changed) with the chat template the model was trained
        with, for hosts that keep it elsewhere.
        """

    def new_cache(self, model: Any) -> Any:
        """An empty KV cache for a conversation."""

    def language_rows(self, model: Any, features: Tensor) -> Tensor:
        """(K, N, C) features of the frames the language model reads to the vectors that stand at
        its image placeholders, (K * placeholders, C), in order.
        """

    def with_deep(self, inputs: dict[str, Any], slots: Tensor, rows: VisualRows) -> dict[str, Any]:
        """Keyword arguments of the decoder, completed by `rows.deep` at image placeholders `slots`
        (B, L), when frames come from a cache.
        """

    def width(self, model: Any) -> int:
        """C, the width of the language model."""

    def grid(self, model: Any) -> tuple[int, int]:
        """(h, w) of the visual tokens of one frame."""

    def image_size(self, model: Any) -> int:
        """Side of the square frames the vision tower reads, in pixels."""

    def family(self, model: Any) -> str:
        """The language model's type, e.g. "qwen2"; stored in checkpoints and compared at load."""

    def head(self, model: Any) -> Head:
        """What the language model's own head would do beyond what the host's head does."""

    def router_loss(self, model: Any, router: Any, attention_mask: Any) -> Optional[Tensor]:
        """Load-balancing loss of a mixture of experts from the decoder's router logits; None where
        the host adds it itself or its configuration does not ask for it.
        """

    def vocabulary_fields(self, model: Any) -> Sequence[tuple[Any, str]]:
        """(config object, attribute) pairs that hold the vocabulary size; raised for the time of a
        call.
        """

    def image_token(self) -> str:
        """The placeholder that the host replaces by visual tokens."""

    def placeholders(self, tokens: int) -> int:
        """Image placeholders of one frame of `tokens` visual tokens in the language model's
        input.
        """

    def visual_prefix(self, frames: int, tokens: int, video: bool) -> str:
        """Text before the first question: `frames` frames of `tokens` visual tokens each, worded as
        the host words it.
        """

    def pixels(self, frames: Any, model: Any) -> Any:
        """uint8 (N, H, W, 3) frames to the plugin's pixels (N, 3, S, S)."""

    def lora_names(self, model: Any) -> Mapping[str, str]:
        """Canonical LoRA target ("q", "k", "v", "o", "gate", "up", "down") to the host's layer
        name. Targets that share a layer are fused there.
        """

    def lora_pattern(self, model: Any, targets: Sequence[str]) -> str:
        """Anchored regular expression over module names that matches these targets in the language
        model only.
        """

    def lora_expected(self, model: Any, targets: Sequence[str]) -> int:
        """How many layers `lora_pattern` should match."""

    def fused_rows(self, model: Any, targets: Sequence[str]) -> Mapping[str, Any]:
        """For targets that share a layer: which rows of its output are whose, as slices or index
        tensors.
        """


HOSTS = Registry(
    "hosts",
    {
        "internvl": "sama_plugin.hosts.internvl.adapter:InternVLAdapter",
        "internvl_chat": "sama_plugin.hosts.internvl_chat.adapter:InternVLChatAdapter",
        "llava": "sama_plugin.hosts.llava.adapter:LlavaAdapter",
        "llava_next_video": "sama_plugin.hosts.llava.adapter:LlavaNextVideoAdapter",
        "llava_onevision": "sama_plugin.hosts.llava.adapter:LlavaOnevisionAdapter",
        "qwen2_5_vl": "sama_plugin.hosts.qwen_vl.adapter:Qwen25VLAdapter",
        "qwen3_vl": "sama_plugin.hosts.qwen_vl.adapter:Qwen3VLAdapter",
    },
)


def find_adapter(model: Any, frame_side: Optional[int] = None) -> HostAdapter:
    """The registered adapter that recognises `model`.

    Args:
        frame_side: side of a frame in pixels, for hosts that read any size; None for the host's
            own.

    Raises:
        HostError: none does, or several do; the message lists what was tried.
    """
    made = [HOSTS.get(name)() for name in HOSTS.names()]
    found = [adapter for adapter in made if adapter.detect(model)]
    what = f"{type(model).__module__}.{type(model).__qualname__}"
    if not found:
        raise HostError(
            f"no host adapter recognises {what}; known hosts: {', '.join(HOSTS.names())}. An "
            "adapter for it can be registered under the entry point group 'sama_plugin.hosts'"
        )
    if len(found) > 1:
        raise HostError(
            f"several host adapters recognise {what}: {', '.join(one.name for one in found)}; "
            "remove the entry point of the one that is not meant"
        )
    if frame_side is not None:
        found[0].use_frame_side(model, frame_side)
    return found[0]
