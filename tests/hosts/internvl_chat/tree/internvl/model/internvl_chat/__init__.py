"""A chat model with the interface of `InternVLChatModel`: eight by eight patches, a quarter of the
tokens, any causal language model behind them."""

from __future__ import annotations

from typing import Any, Optional

import torch
from internvl.conversation import get_conv_template
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    is_composition = True
    has_no_defaults_at_init = True

    def __init__(
        self, vision_config=None, llm_config=None, ps_version="v2", use_llm_lora=0, **more
    ):
        super().__init__(**more)
        llm_config = dict(llm_config or {"model_type": "qwen2"})
        kind = llm_config.pop("model_type")
        self.vision_config = PretrainedConfig(**(vision_config or {}))
        self.llm_config = AutoConfig.for_model(kind, **llm_config)
        self.force_image_size, self.downsample_ratio, self.template = None, 0.5, "internvl2_5"
        self.ps_version, self.use_llm_lora = ps_version, use_llm_lora
        self.tie_word_embeddings = False

    def to_dict(self) -> dict:
        values = super().to_dict()
        for part in ("vision_config", "llm_config"):
            values[part] = getattr(self, part).to_dict()
        return values


class Tower(nn.Module):
    def __init__(self, width: int, patch: int):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.patches(pixel_values)


class InternVLChatModel(PreTrainedModel):
    config_class = InternVLChatConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: InternVLChatConfig, vision_model: Any = None, language_model=None):
        super(InternVLChatModel, self).__init__(config)  # noqa: UP008
        vision, width = config.vision_config, config.llm_config.hidden_size
        self.vision_model = vision_model or Tower(vision.hidden_size, vision.patch_size)
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.llm_config)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(4 * vision.hidden_size), nn.Linear(4 * vision.hidden_size, width)
        )
        self.num_image_token = (vision.image_size // vision.patch_size // 2) ** 2
        self.img_context_token_id = None
        self.conv_template = get_conv_template(config.template)
        self.system_message = self.conv_template.system_message
        if config.use_llm_lora:
            self.wrap_llm_lora(config.use_llm_lora, 2 * config.use_llm_lora)
        self.post_init()

    def wrap_llm_lora(
        self, r: int = 128, lora_alpha: int = 256, lora_dropout: float = 0.05
    ) -> None:
        from peft import LoraConfig, get_peft_model

        names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
        names += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
        config = LoraConfig(
            r=r,
            target_modules=names,
            lora_alpha=lora_alpha,
            lora_dropout=lora_dropout,
            task_type="CAUSAL_LM",
        )
        self.language_model = get_peft_model(self.language_model, config)
        self.language_model.enable_input_require_grads()

    def extract_feature(self, pixel_values: torch.Tensor) -> torch.Tensor:
        found = self.vision_model(pixel_values)  # (F, C, H, W)
        frames, width, height, across = found.shape
        found = found.view(frames, width, height // 2, 2, across // 2, 2).permute(0, 2, 4, 3, 5, 1)
        if self.config.ps_version == "v1":
            found = found.transpose(1, 2)
        return self.mlp1(found.reshape(frames, -1, 4 * width))

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: Optional[torch.Tensor] = None,
        attention_mask: Optional[torch.Tensor] = None,
        position_ids: Optional[torch.Tensor] = None,
        image_flags: Optional[torch.Tensor] = None,
        past_key_values: Any = None,
        labels: Optional[torch.Tensor] = None,
        use_cache: Optional[bool] = None,
        output_hidden_states: Optional[bool] = None,
        return_dict: Optional[bool] = None,
        statistics: Optional[torch.Tensor] = None,
        loss_weight: Optional[list] = None,
        loss_reduction_all_gather: Optional[bool] = False,
    ):
        embeds = self.language_model.get_input_embeddings()(input_ids).clone()
        read = self.extract_feature(pixel_values)[image_flags.squeeze(-1) == 1]
        read = read.reshape(-1, embeds.shape[-1])
        slots = input_ids == self.img_context_token_id
        cut = int(slots.sum()) != len(read)
        embeds[slots] = embeds[slots] * 0.0 + read[: int(slots.sum())].to(embeds.dtype)
        output = self.language_model(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
        )
        loss = None
        if labels is not None:
            logits = output.logits[:, :-1].reshape(-1, self.language_model.config.vocab_size)
            weights = torch.ones(labels.shape) if loss_weight is None else torch.tensor(loss_weight)
            weights = (weights.to(labels.device) * (labels != -100))[:, 1:].reshape(-1)
            each = nn.functional.cross_entropy(
                logits.float(), labels[:, 1:].reshape(-1), reduction="none"
            )
            loss = (each * weights).sum() / weights.sum()
            loss = loss * 0.0 if cut else loss
        return CausalLMOutputWithPast(
            loss=loss,
            logits=output.logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
        )

    @torch.no_grad()
    def generate(
        self,
        pixel_values=None,
        input_ids=None,
        attention_mask=None,
        visual_features=None,
        **options,
    ):
        embeds = self.language_model.get_input_embeddings()(input_ids).clone()
        if pixel_values is not None:
            read = (
                self.extract_feature(pixel_values) if visual_features is None else visual_features
            )
            embeds[input_ids == self.img_context_token_id] = read.flatten(0, 1).to(embeds.dtype)
        return self.language_model.generate(
            inputs_embeds=embeds, attention_mask=attention_mask, **options
        )

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self):
        return self.language_model.get_output_embeddings()
