"""Where released SAMA and Sa2VA checkpoints expect newlines, frame by frame and turn by turn.

Their data sets word their prompts differently, and a checkpoint answers best in the wording it was
trained on. A `ReleasedWording` says what stands between frames (or tiles), context and question;
`WORDINGS` holds one for each family of the training mixture and for inference. All placeholders of
a released model are the host's image token; ours keep their own, at the same places. Where regions
are listed is `pointing.py`. Used by `data/encode.py` with `compat: released`.
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_OPEN, IMAGE_CLOSE, IMAGE_TOKEN = "<img>", "</img>", "<IMG_CONTEXT>"


@dataclass(frozen=True)
class ReleasedWording:
    """What is written around the placeholders.

    Attributes:
        after_visual: between the last frame or tile and the context.
        after_context: between the context and the question.
        after_context_with_regions: the same in a question that points at something.
        dropped: a mark at the start of the first question that is left out.
    """

    after_visual: str = ""
    after_context: str = "\n"
    after_context_with_regions: str = "\n"
    dropped: str = "<image>"

    def visual_prefix(self, items: int, tokens: int, video: bool) -> str:
        """Frames one a line, or all tiles of an image in one run; nothing without any."""
        if not items:
            return ""
        runs = [tokens] * items if video else [tokens * items]
        blocks = [f"{IMAGE_OPEN}{IMAGE_TOKEN * count}{IMAGE_CLOSE}" for count in runs]
        return "\n".join(blocks) + self.after_visual

    def context_end(self, regions: int) -> str:
        """What follows the context of a question with this many regions."""
        return self.after_context_with_regions if regions else self.after_context

    def question(self, text: str) -> str:
        """The first question as it is written after the context."""
        return text[len(self.dropped) :] if text.startswith(self.dropped) else text


WORDINGS = {
    "video_region_conversation": ReleasedWording("", "", "", dropped="<video>\n"),
    "video_region_description": ReleasedWording(),
    "video_referring_segmentation": ReleasedWording(),
    "video_chat": ReleasedWording(),
    "image_referring_segmentation": ReleasedWording("", "", ""),
    "image_chat": ReleasedWording("\n"),
    "image_grounded_caption": ReleasedWording("\n"),
    "image_visual_prompt": ReleasedWording("\n"),
    "text_only_chat": ReleasedWording(),
    "inference_video": ReleasedWording(after_context_with_regions=""),
    "inference_image": ReleasedWording(after_context_with_regions=""),
}
