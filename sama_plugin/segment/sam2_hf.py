"""The SAM2 backend over transformers' `Sam2VideoModel`; Meta's `sam2` package is not needed.

Its modules (vision encoder, prompt encoder, mask decoder, memory encoder, memory attention) are
called directly, as `sam2.py` calls Meta's; everything the two have to do alike is in `arrange.py`.
transformers keeps an axis of objects per image, which here always has one entry. Both backends pass
the same tests and agree with each other on converted weights.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
import torch
from torch import Tensor, nn

from sama_plugin.assets import asset
from sama_plugin.errors import CheckpointError, ConfigError
from sama_plugin.segment.arrange import (
    blank_row,
    fingerprint,
    load_into,
    read_weights,
    resized,
    sine_places,
    split_pointers,
    squeezed,
    tokens,
)
from sama_plugin.segment.base import Decoded, FrameFeatures, Memory, Prompt, Recall
from sama_plugin.segment.sam2 import GIVEN_LOGIT, MINI_ASSET
from sama_plugin.segment.sam2_hf_config import build_hf_sam2
from sama_plugin.segment.sam2_names import is_hf, to_hf, to_meta
from sama_plugin.segment.sizes import SIZES

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

PREFIX = "hf_"


class HfSam2Segmenter:
    """`Segmenter` over a `Sam2VideoModel`.

    Args:
        name: registry name, for messages and checkpoints.
        module: the model; frozen and put in evaluation mode.
    """

    decoder_parameters_unused_by_vectors = (
        "conv_s0.weight",
        "conv_s0.bias",
        "conv_s1.weight",
        "conv_s1.bias",
    )

    def __init__(self, name: str, module: Sam2VideoModel):
        self.id, self.module = name, module.eval().requires_grad_(False)
        self.image_size: int = module.config.image_size
        self.prompt_dim: int = module.hidden_dim
        self.memory_frames: int = module.num_maskmem
        self.pointer_limit: int = module.config.max_object_pointers_in_encoder
        self._fingerprint: Optional[str] = None

    @property
    def fingerprint(self) -> str:
        """Registry name and a hash of all weights, which is that of Meta's model of them."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.id, to_meta(self.module.state_dict()))
        return self._fingerprint

    def preprocess(self, frames: np.ndarray) -> Tensor:
        """See `Segmenter.preprocess`."""
        return squeezed(frames, self.image_size)

    def encode(self, pixels: Tensor) -> FrameFeatures:
        """See `Segmenter.encode`; zero frames give zero rows (one blank is encoded and dropped)."""
        count = pixels.shape[0]
        if count == 0:
            pixels = pixels.new_zeros(1, *pixels.shape[1:])
        seen = self.module.vision_encoder(pixels.to(self._device, self._dtype))
        fine, middle, embedding = seen.fpn_hidden_states
        decoder = self.module.mask_decoder
        levels = (decoder.conv_s0(fine)[:count], decoder.conv_s1(middle)[:count])
        return FrameFeatures(embedding[:count], seen.fpn_position_encoding[-1][:1], levels)

    def embed_clicks(self, points: Tensor) -> Tensor:
        """See `Segmenter.embed_clicks`."""
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)
        prompt = Prompt(points=points[:, None], labels=labels)
        return self._embed(prompt, len(points))[0][:, 0, 0]

    def decode(
        self,
        features: FrameFeatures,
        prompt: Prompt,
        *,
        memoryless: bool = True,
        mask_decoder: Optional[nn.Module] = None,
        multimask: Optional[bool] = None,
        stability_fallback: bool = True,
    ) -> Decoded:
        """See `Segmenter.decode`."""
        if len(features) == 0:
            blank, asked = blank_row(features, prompt)
            decoded = self.decode(blank, asked, mask_decoder=mask_decoder, multimask=multimask)
            return decoded.rows(slice(0, 0))
        embedding = features.embedding
        if memoryless:
            embedding = embedding + self.module.no_memory_embedding.view(1, -1, 1, 1)
        if multimask is None:
            config = self.module.config
            low, high = config.multimask_min_pt_num, config.multimask_max_pt_num
            multimask = low <= prompt.point_count <= high
        sparse, dense = self._embed(prompt, len(features))
        decoder = mask_decoder or self.module.mask_decoder
        decoder.dynamic_multimask_via_stability = stability_fallback
        dtype = next(decoder.parameters()).dtype
        logits, iou, chosen, score = decoder(
            image_embeddings=embedding.to(dtype),
            image_positional_embeddings=self.module.get_image_wide_positional_embeddings().to(
                dtype
            ),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=multimask,
            high_resolution_features=[level.to(dtype) for level in features.high_res],
        )  # (N, 1, M, 4h, 4w), (N, 1, M), (N, 1, M, C), (N, 1, 1)
        return self._best(logits[:, 0], iou[:, 0], chosen[:, 0], score[:, 0])

    def adopt(self, features: FrameFeatures, masks: Tensor) -> Decoded:
        """See `Segmenter.adopt`. The pointer is what the decoder makes of the mask on the bare
        embedding.
        """
        masks = masks.to(self._device).float()  # (N, 1, S, S)
        present = masks.flatten(1).any(1)[:, None].float()  # (N, 1)
        shrunk = self.module.mask_downsample(masks.to(self._dtype)).float()
        size = self.module.prompt_encoder.mask_input_size
        prompt = Prompt(mask=resized(shrunk, size))
        pointer = self.decode(features, prompt, memoryless=False, multimask=False).pointer
        pointer = present * pointer + (1 - present) * self.module.no_object_pointer
        logits = resized((2 * masks - 1) * GIVEN_LOGIT, size)  # (N, 1, 4h, 4w)
        iou = masks.new_ones(len(masks), 1)
        score = (2 * present - 1)[:, 0] * GIVEN_LOGIT
        return Decoded(logits, logits, iou[:, 0], iou, score, pointer)

    def remember(
        self, features: FrameFeatures, logits: Tensor, score: Tensor, *, binarise: bool
    ) -> Memory:
        """See `Segmenter.remember`."""
        module, config = self.module, self.module.config
        mask = (logits > 0).to(self._dtype) if binarise else logits.to(self._dtype).sigmoid()
        mask = mask * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        memory, position = module.memory_encoder(features.embedding, mask)  # (N, C_m, h, w)
        if module.occlusion_spatial_embedding_parameter is not None:
            absent = (score <= 0).to(memory.dtype).view(-1, 1, 1, 1)
            nothing = module.occlusion_spatial_embedding_parameter.view(1, -1, 1, 1)
            memory = memory + absent * nothing
        return Memory(memory, position[:1])

    def condition(self, features: FrameFeatures, recall: Recall) -> FrameFeatures:
        """See `Segmenter.condition`."""
        count, keys, places = len(features), [], []
        for slot, memory in recall.memories:
            time = self.module.memory_temporal_positional_encoding[slot - 1]  # slot 0: the last
            keys.append(tokens(memory.features.to(self._device, self._dtype)))  # (h*w, N, C_m)
            places.append((tokens(memory.position) + time).expand_as(keys[-1]))
        pointers, times = self._pointer_tokens(recall)
        conditioned = self.module.memory_attention(
            tokens(features.embedding),
            torch.cat([*keys, pointers]),
            tokens(features.position).expand(-1, count, -1),
            torch.cat([*places, times]),
            pointers.shape[0],
        )  # (1, N, h*w, C)
        embedding = conditioned[0].transpose(1, 2).reshape(features.embedding.shape)
        return FrameFeatures(embedding, features.position, features.high_res)

    def clone_mask_decoder(self) -> nn.Module:
        """A trainable copy of the mask decoder; its two level projections are not used by it."""
        return copy.deepcopy(self.module.mask_decoder).requires_grad_(True)

    def to(self, *args, **kwargs) -> HfSam2Segmenter:
        """Move or cast the module; returns itself. Prompt positions stay in float32, where pixels
        are exact.
        """
        self.module.to(*args, **kwargs)
        self.module.prompt_encoder.float()
        self.module.shared_image_embedding.float()
        return self

    @property
    def _device(self) -> torch.device:
        return self.module.no_memory_embedding.device

    @property
    def _dtype(self) -> torch.dtype:
        return self.module.no_memory_embedding.dtype

    def _embed(self, prompt: Prompt, count: int) -> tuple[Tensor, Tensor]:
        """Sparse tokens (N, 1, P + 1 + V, C) and dense map (N, C, h, w)."""
        points, labels = prompt.points, prompt.labels
        if points is None:
            points = torch.zeros(count, 1, 2)
            labels = -torch.ones(count, 1, dtype=torch.int32)
        mask = None if prompt.mask is None else prompt.mask.to(self._device).float()
        sparse, dense = self.module.prompt_encoder(
            points.to(self._device)[:, None], labels.to(self._device)[:, None], None, mask
        )
        if prompt.vectors is not None:
            vectors = prompt.vectors.to(sparse.device, sparse.dtype)[:, None]
            sparse = torch.cat([sparse, vectors], 2)
        return sparse, dense

    def _best(self, logits: Tensor, iou: Tensor, chosen: Tensor, score: Tensor) -> Decoded:
        """The candidate of best quality of each row; an absent object has the learned "nothing"
        pointer.
        """
        rows, best = torch.arange(len(iou), device=iou.device), iou.argmax(1)
        present = (score > 0).to(chosen.dtype)  # (N, 1)
        pointer = self.module.object_pointer_proj(chosen[rows, best].to(self._dtype))
        pointer = present * pointer + (1 - present) * self.module.no_object_pointer
        return Decoded(
            logits[rows, best][:, None], logits, iou[rows, best], iou, score[:, 0], pointer
        )

    def _pointer_tokens(self, recall: Recall) -> tuple[Tensor, Tensor]:
        """Pointers as (P * C / C_m, N, C_m) tokens and temporal positions of that shape."""
        module, width = self.module, self.module.mem_dim
        if not recall.pointers:
            rows = len(recall.memories[0][1].features)
            empty = module.memory_temporal_positional_encoding.new_zeros(0, rows, width)
            return empty, empty
        steps, pointers = zip(*recall.pointers)
        found = split_pointers([p.to(self._device, self._dtype) for p in pointers], width)
        if not module.config.enable_temporal_pos_encoding_for_object_pointers:
            return found, torch.zeros_like(found)
        places = torch.tensor(steps, device=self._device)
        times = sine_places(places / (recall.span - 1), module.hidden_dim)  # (P, C)
        times = module.temporal_positional_encoding_projection_layer(times.to(self._dtype))
        times = times.repeat_interleave(len(found) // len(pointers), 0)
        return found, times[:, None].expand_as(found)


def build_hf_named(name: str, weights: Optional[str]) -> HfSam2Segmenter:
    """A released or mini SAM2 by registry name ("hf_" and the name); see `build_segmenter`."""
    plain = name[len(PREFIX) :]
    module = build_hf_sam2(SIZES[plain])
    if weights == "random":
        return HfSam2Segmenter(name, module)
    if weights is None and plain != "mini":
        raise ConfigError(
            f"segmenter {name!r} needs weights; give the path of its checkpoint (a folder of "
            "transformers, a .safetensors, or Meta's .pt) as `seg.weights`"
        )
    load_hf_weights(module, Path(weights) if weights else asset(MINI_ASSET))
    return HfSam2Segmenter(name, module)


def load_hf_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint with transformers' or Meta's names into `module`, strictly.

    Raises:
        ConfigError: the file is missing or holds other parameters.
    """
    state = read_weights(path)
    try:
        state = to_meta(state) if is_hf(state) else state
        load_into(module, to_hf(state))
    except CheckpointError as error:
        raise ConfigError(
            f"{path} does not fit segmenter {type(module).__name__}; are name and checkpoint of "
            f"the same size and generation? {error}"
        ) from error
