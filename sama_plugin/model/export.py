"""One folder with everything: the merged host, its processor, the plugin and the segmenter.

    DIR/config.json, model*.safetensors      host of its own class, LoRA and token rows folded in
    DIR/tokenizer*, *processor_config.json   what AutoTokenizer and AutoProcessor read
    DIR/sama_adapter/                        the plugin, with segmenter.safetensors inside

transformers loads the host with its Auto classes, without remote code; the senses come back with
`sama_plugin.infer.load.load_sama(DIR)` or `sama chat --model DIR`. Used by `sama export`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Optional

from torch import nn

from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.hosts.internvl.preprocess import MEAN, STD
from sama_plugin.hosts.internvl.swap import NAMED_TOKENS
from sama_plugin.model.attach import SamaModel
from sama_plugin.model.checkpoint import FOLDER
from sama_plugin.model.merge import Merged, merge

SEGMENTER = "segmenter.safetensors"
PROCESSOR = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
)


def write_merged(sama: SamaModel, model: Optional[nn.Module], folder: Path, source: Path) -> Merged:
    """The merged host with tokenizer and plugin in `folder`, which exists and is empty.

    Args:
        sama, model: as `merge` takes them; used up.
        source: folder of the host, whose processor files are copied; any path if it has none.
    """
    merged = merge(sama, model, folder)
    merged.host.save_pretrained(str(folder))
    merged.tokenizer.save_pretrained(str(folder))
    for name in PROCESSOR:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    return merged


def write_export(sama: SamaModel, model: Optional[nn.Module], folder: Path, source: Path) -> Merged:
    """`write_merged`, with the segmenter's weights and a processor besides."""
    from safetensors.torch import save_file

    segmenter, adapter = sama.segmenter, sama.adapter
    sama.config.seg.weights = SEGMENTER
    merged = write_merged(sama, model, folder, source)
    state = {name: value.contiguous() for name, value in segmenter.module.state_dict().items()}
    save_file(state, str(folder / FOLDER / SEGMENTER))
    if isinstance(adapter, InternVLAdapter) and not any((folder / n).is_file() for n in PROCESSOR):
        write_processor(merged.host, adapter.image_size(merged.host), folder)
    return merged


def write_processor(host: Any, side: int, folder: Path) -> None:
    """The native InternVL processor for a tokenizer that is in `folder`; frames are squares of
    `side` pixels.
    """
    from transformers import AutoTokenizer, InternVLProcessor, InternVLVideoProcessor
    from transformers.models.got_ocr2 import GotOcr2ImageProcessor

    pixels = {
        "size": {"height": side, "width": side},
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    tokenizer = AutoTokenizer.from_pretrained(str(folder), extra_special_tokens=NAMED_TOKENS)
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**pixels),
        image_seq_length=host.config.image_seq_length,
        chat_template=tokenizer.chat_template,
    )
    processor.save_pretrained(str(folder))
