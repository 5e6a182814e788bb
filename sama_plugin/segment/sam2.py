"""The SAM2 backend: Meta's own modules, called without Meta's predictors.

`SAM2Base` mixes the model with one fixed way of tracking, keyed by dictionaries. Here its modules
(image encoder, prompt encoder, mask decoder, memory encoder, memory attention) are called directly
and everything they need is an argument. A language vector is one more sparse prompt token after
SAM2's own (SAMA, section 2.2): with no point given those are two "not a point" tokens, and three
candidates are decoded. Equal to the stock video predictor by test.
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
from sama_plugin.segment.sam2_names import is_hf, to_meta
from sama_plugin.segment.sizes import SIZES, build_sam2

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

MINI_ASSET = "mini/segmenter.safetensors"
GIVEN_LOGIT = 10.0
STABILITY_OFFSET, STABILITY_LEVEL = 0.05, 0.98


class Sam2Segmenter:
    """`Segmenter` over a `SAM2Base`.

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

    def __init__(self, name: str, module: SAM2Base):
        self.id, self.module = name, module.eval().requires_grad_(False)
        self.image_size: int = module.image_size
        self.prompt_dim: int = module.hidden_dim
        self.memory_frames: int = module.num_maskmem
        self.pointer_limit: int = module.max_obj_ptrs_in_encoder
        self._fingerprint: Optional[str] = None

    @property
    def fingerprint(self) -> str:
        """Registry name and a hash of all weights, as in "mini:1f0c9a52b7e4"."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.id, self.module.state_dict())
        return self._fingerprint

    def preprocess(self, frames: np.ndarray) -> Tensor:
        """See `Segmenter.preprocess`."""
        return squeezed(frames, self.image_size)

    def encode(self, pixels: Tensor) -> FrameFeatures:
        """(N, 3, S, S) to features; zero frames give zero rows (one blank frame is encoded and
        dropped).
        """
        count = pixels.shape[0]
        if count == 0:
            pixels = pixels.new_zeros(1, *pixels.shape[1:])
        out = self.module.forward_image(pixels.to(self._device, self._dtype))
        fine, middle, embedding = out["backbone_fpn"]
        position = out["vision_pos_enc"][-1][:1]
        return FrameFeatures(embedding[:count], position, (fine[:count], middle[:count]))

    def embed_clicks(self, points: Tensor) -> Tensor:
        """See `Segmenter.embed_clicks`."""
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)
        prompt = Prompt(points=points[:, None], labels=labels)
        return self._embed(prompt, len(points))[0][:, 0]

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
            return self._decode_nothing(features, prompt, mask_decoder, multimask)
        embedding = features.embedding
        if memoryless:
            embedding = embedding + self.module.no_mem_embed.view(1, -1, 1, 1)
        sparse, dense = self._embed(prompt, len(features))
        decoder = mask_decoder or self.module.sam_mask_decoder
        dtype = next(decoder.parameters()).dtype
        logits, iou, tokens, score = decoder.predict_masks(
            image_embeddings=embedding.to(dtype),
            image_pe=self.module.sam_prompt_encoder.get_dense_pe().to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            repeat_image=False,
            high_res_features=[level.to(dtype) for level in features.high_res],
        )  # (N, 4, 4h, 4w), (N, 4), (N, 4, C), (N, 1)
        if multimask is None:
            low, high = self.module.multimask_min_pt_num, self.module.multimask_max_pt_num
            multimask = low <= prompt.point_count <= high
        if multimask:
            return self._best_of_three(logits, iou, tokens, score)
        return self._single(logits, iou, tokens, score, stability_fallback)

    def adopt(self, features: FrameFeatures, masks: Tensor) -> Decoded:
        """See `Segmenter.adopt`. The pointer is what the decoder makes of the mask on the bare
        embedding.
        """
        masks = masks.to(self._device).float()  # (N, 1, S, S)
        present = masks.flatten(1).any(1)[:, None].float()  # (N, 1)
        shrunk = self.module.mask_downsample(masks.to(self._dtype)).float()
        size = self.module.sam_prompt_encoder.mask_input_size
        prompt = Prompt(mask=resized(shrunk, size))
        pointer = self.decode(features, prompt, memoryless=False, multimask=False).pointer
        pointer = present * pointer + (1 - present) * self.module.no_obj_ptr
        logits = resized((2 * masks - 1) * GIVEN_LOGIT, size)  # (N, 1, 4h, 4w)
        iou = masks.new_ones(len(masks), 1)
        score = (2 * present - 1)[:, 0] * GIVEN_LOGIT
        return Decoded(logits, logits, iou[:, 0], iou, score, pointer)

    def remember(
        self, features: FrameFeatures, logits: Tensor, score: Tensor, *, binarise: bool
    ) -> Memory:
        """See `Segmenter.remember`."""
        module = self.module
        mask = (logits > 0).to(self._dtype) if binarise else logits.to(self._dtype).sigmoid()
        mask = mask * module.sigmoid_scale_for_mem_enc + module.sigmoid_bias_for_mem_enc
        out = module.memory_encoder(features.embedding, mask, skip_mask_sigmoid=True)
        memory = out["vision_features"]  # (N, C_m, h, w)
        if module.no_obj_embed_spatial is not None:
            absent = (score <= 0).to(memory.dtype).view(-1, 1, 1, 1)
            memory = memory + absent * module.no_obj_embed_spatial.view(1, -1, 1, 1)
        return Memory(memory, out["vision_pos_enc"][-1][:1])

    def condition(self, features: FrameFeatures, recall: Recall) -> FrameFeatures:
        """See `Segmenter.condition`. Pointers are split into tokens of memory width and get no
        rotary position.
        """
        module, count = self.module, len(features)
        keys, places = [], []
        for slot, memory in recall.memories:
            time = module.maskmem_tpos_enc[slot - 1]  # (1, 1, C_m); slot 0 has the last row
            keys.append(tokens(memory.features.to(self._device, self._dtype)))  # (h*w, N, C_m)
            places.append((tokens(memory.position) + time).expand_as(keys[-1]))
        pointers, times = self._pointer_tokens(recall)
        conditioned = module.memory_attention(
            curr=tokens(features.embedding),
            curr_pos=tokens(features.position).expand(-1, count, -1),
            memory=torch.cat([*keys, pointers]),
            memory_pos=torch.cat([*places, times]),
            num_obj_ptr_tokens=pointers.shape[0],
        )  # (h*w, N, C)
        embedding = conditioned.permute(1, 2, 0).view_as(features.embedding)
        return FrameFeatures(embedding, features.position, features.high_res)

    def clone_mask_decoder(self) -> nn.Module:
        """A trainable copy of the mask decoder; its two level projections are not used by it."""
        return copy.deepcopy(self.module.sam_mask_decoder).requires_grad_(True)

    def to(self, *args, **kwargs) -> Sam2Segmenter:
        """Move or cast the module; returns itself. The prompt encoder stays in float32, where
        pixels are exact.
        """
        self.module.to(*args, **kwargs)
        self.module.sam_prompt_encoder.float()
        return self

    @property
    def _device(self) -> torch.device:
        return self.module.no_mem_embed.device

    @property
    def _dtype(self) -> torch.dtype:
        return self.module.no_mem_embed.dtype

    def _embed(self, prompt: Prompt, count: int) -> tuple[Tensor, Tensor]:
        """Sparse tokens (N, P + 1 + V, C) and dense map (N, C, h, w)."""
        points, labels = prompt.points, prompt.labels
        if points is None:
            points = torch.zeros(count, 1, 2, device=self._device)
            labels = -torch.ones(count, 1, dtype=torch.int32, device=self._device)
        mask = None if prompt.mask is None else prompt.mask.to(self._device).float()
        sparse, dense = self.module.sam_prompt_encoder(
            points=(points.to(self._device), labels.to(self._device)), boxes=None, masks=mask
        )
        if prompt.vectors is not None:
            sparse = torch.cat([sparse, prompt.vectors.to(sparse.device, sparse.dtype)], 1)
        return sparse, dense

    def _decode_nothing(self, features, prompt, mask_decoder, multimask) -> Decoded:
        """Zero rows: one blank row is decoded and dropped, so that a trained copy gets zero
        gradients, not none.
        """
        blank, asked = blank_row(features, prompt)
        decoded = self.decode(blank, asked, mask_decoder=mask_decoder, multimask=multimask)
        return decoded.rows(slice(0, 0))

    def _best_of_three(self, logits: Tensor, iou: Tensor, tokens: Tensor, score: Tensor) -> Decoded:
        logits, iou = logits[:, 1:], iou[:, 1:]
        rows, best = torch.arange(len(iou), device=iou.device), iou.argmax(1)
        token = (
            tokens[rows, best + 1] if self.module.use_multimask_token_for_obj_ptr else tokens[:, 0]
        )
        pointer = self._pointer(token, score)
        return Decoded(
            logits[rows, best][:, None], logits, iou[rows, best], iou, score[:, 0], pointer
        )

    def _single(self, logits, iou, tokens, score, stability_fallback: bool) -> Decoded:
        """The single mask; where moving its threshold changes it too much, the best of the three
        candidates.
        """
        chosen, quality = logits[:, :1], iou[:, :1]
        if stability_fallback:
            rows, best = torch.arange(len(iou), device=iou.device), iou[:, 1:].argmax(1) + 1
            inner = (chosen > STABILITY_OFFSET).flatten(1).sum(1).float()
            outer = (chosen > -STABILITY_OFFSET).flatten(1).sum(1).float()
            stable = (inner >= STABILITY_LEVEL * outer)[:, None]
            chosen = torch.where(stable[..., None, None], chosen, logits[rows, best][:, None])
            quality = torch.where(stable, quality, iou[rows, best][:, None])
        pointer = self._pointer(tokens[:, 0], score)
        return Decoded(chosen, chosen, quality[:, 0], quality, score[:, 0], pointer)

    def _pointer(self, token: Tensor, score: Tensor) -> Tensor:
        """(N, C) object pointer of the output token; an absent object (score <= 0) has the learned
        "nothing" pointer.
        """
        projection = self.module.obj_ptr_proj
        present = (score > 0).to(token.dtype)
        pointer = projection(token.to(self._dtype))
        return present * pointer + (1 - present) * self.module.no_obj_ptr

    def _pointer_tokens(self, recall: Recall) -> tuple[Tensor, Tensor]:
        """Pointers as (P * C / C_m, N, C_m) tokens and temporal positions of that shape."""
        module, width = self.module, self.module.mem_dim
        if not recall.pointers:
            empty = module.maskmem_tpos_enc.new_zeros(0, len(recall.memories[0][1].features), width)
            return empty, empty
        steps, pointers = zip(*recall.pointers)
        pointers = [p.to(self._device, self._dtype) for p in pointers]  # P of (N, C)
        found = split_pointers(pointers, width)
        if not module.add_tpos_enc_to_obj_ptrs:
            return found, torch.zeros_like(found)
        signed = module.use_signed_tpos_enc_to_obj_ptrs
        places = torch.tensor([s if signed else abs(s) for s in steps], device=self._device)
        wide = module.hidden_dim if module.proj_tpos_enc_in_obj_ptrs else width
        times = sine_places(places / (recall.span - 1), wide)  # (P, C)
        times = module.obj_ptr_tpos_proj(times.to(self._dtype))
        times = times.repeat_interleave(len(found) // len(pointers), 0)
        return found, times[:, None].expand_as(found)


def build_named(name: str, weights: Optional[str]) -> Sam2Segmenter:
    """A released or mini SAM2 by registry name; see `build_segmenter`."""
    module = build_sam2(SIZES[name])
    if weights == "random":
        return Sam2Segmenter(name, module)
    if weights is None and name != "mini":
        raise ConfigError(
            f"segmenter {name!r} needs weights; give the path of its checkpoint "
            "(Meta's .pt or a .safetensors with the same names) as `seg.weights`"
        )
    load_weights(module, Path(weights) if weights else asset(MINI_ASSET))
    return Sam2Segmenter(name, module)


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint with Meta's or transformers' names into `module`, strictly.

    Raises:
        ConfigError: the file is missing or holds other parameters.
    """
    state = read_weights(path)
    try:
        load_into(module, to_meta(state) if is_hf(state) else state)
    except CheckpointError as error:
        raise ConfigError(
            f"{path} does not fit this segmenter; are name and checkpoint of the same size and "
            f"generation? {error}"
        ) from error
