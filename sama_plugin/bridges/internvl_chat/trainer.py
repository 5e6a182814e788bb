"""The Trainer that the host's script constructs, with the plugin in front.

What the host writes it still writes: a whole checkpoint that its own class loads, LoRA inside,
without the plugin's tensors. Beside it lies `sama_adapter/`. Where the host's class knows no LoRA
(the gpt_oss tree), LoRA is left out of its file and is in `sama_adapter/` alone.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import MappingProxyType
from typing import Any, Mapping, Optional

import torch
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from sama_plugin.bridges.agreement import check_ranks
from sama_plugin.bridges.internvl_chat.packed_batch import NO_LENGTHS, ONE_ROW
from sama_plugin.bridges.internvl_chat.packed_rows import PackedRows
from sama_plugin.bridges.internvl_chat.separation import (
    Separation,
    language_dtype,
    separation_of,
)
from sama_plugin.errors import PluginError
from sama_plugin.model.adapters import ADAPTER_NAME, lora_layers
from sama_plugin.model.attach import SamaModel, attached
from sama_plugin.model.checkpoint import FOLDER, load_adapter
from sama_plugin.model.config import LoraSettings
from sama_plugin.patching.ledger import Ledger
from sama_plugin.train import saving
from sama_plugin.train.bad_records import Allowance
from sama_plugin.train.trainer import SamaTraining

INPUT = "tokenizer"  # what the host's script calls it; newer Trainers: processing_class


class InternVLChatTrainer(SamaTraining, Trainer):
    """`Trainer` with the plugin; takes the arguments that the host's script passes."""

    ledger: Optional[Ledger] = None
    allowed: Mapping[str, Allowance] = MappingProxyType({})
    """How many bad records of ours a dataset may have. Both are set by the bridge on a subclass."""
    separation: Optional[Separation] = None
    """Found at the first packed row, when the model is where it will run."""

    def __init__(self, *args: Any, **kwargs: Any):
        known = inspect.signature(Trainer.__init__).parameters
        if INPUT in kwargs and INPUT not in known:
            kwargs["processing_class"] = kwargs.pop(INPUT)
        super().__init__(*args, **kwargs)
        sama = attached(self.model)
        if isinstance(self.train_dataset, PackedRows):
            if self.args.train_batch_size != 1:
                raise PluginError(ONE_ROW.format(self.args.train_batch_size))
            if self._by_length():
                raise PluginError(NO_LENGTHS)
        sama.config.lora = lora_settings(sama)
        self.start_sama(sama)
        self.bad_records.allowed.update(self.allowed)
        check_ranks(self.ledger or Ledger())

    def _prepare_inputs(self, inputs: Any) -> Any:
        """On the device; a packed row with what tells the attention where its samples end."""
        inputs = super()._prepare_inputs(inputs)
        if "position_ids" not in inputs:
            return inputs
        if self.separation is None:
            self.separation = separation_of(self.sama)
            note = f"samples are told apart by {self.separation.name}"
            (self.ledger or Ledger()).note("packed rows", note)
        return self.separation.tell(inputs, language_dtype(self.sama))

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """Records of like length together (`--group_by_length`), by the lengths that the datasets
        of the host hold for that.

        `internvl_chat` puts such a sampler into `Trainer`. gpt_oss left that to transformers, which
        up to 4.57 reads every record to measure it and takes none but dicts, and in 5 has no such
        flag.
        """
        stock = Trainer._get_train_sampler.__module__ == Trainer.__module__
        if not (stock and self._by_length()):
            return super()._get_train_sampler(*args, **kwargs)
        lengths = [length for part in self.train_dataset.datasets for length in part.length]
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        same = torch.Generator().manual_seed(seed)  # on all ranks, which take turns in one order
        note = f"drawn by the lengths of {len(lengths)} records (--group_by_length)"
        (self.ledger or Ledger()).note("the script's batches", note)
        return LengthGroupedSampler(rows, lengths=lengths, generator=same)

    def _by_length(self) -> bool:
        return getattr(self.args, "group_by_length", False)

    def __getattr__(self, name: str) -> Any:
        """The host's sampler asks for `tokenizer`, which newer Trainers have not."""
        if name == INPUT and "processing_class" in vars(self):
            return self.processing_class
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> Any:
        known = inspect.signature(Trainer.get_optimizer_cls_and_kwargs).parameters
        given = {"model": model} if "model" in known else {}
        return Trainer.get_optimizer_cls_and_kwargs(args, **given)

    def save_model(self, output_dir: Optional[str] = None, _internal_call: bool = False) -> None:
        """The host's checkpoint and `sama_adapter/`; under ZeRO-3 every rank must call it."""
        Trainer.save_model(self, output_dir, _internal_call)
        folder = Path(output_dir or self.args.output_dir)
        with saving.gathered(self.model):
            if self.args.should_save:
                saving.write(self.sama, self.sama.host, folder)

    def _save(self, output_dir: Optional[str] = None, state_dict: Any = None) -> None:
        state = self.sama.host.state_dict() if state_dict is None else state_dict
        Trainer._save(self, output_dir, state_dict=host_state(self.sama, state))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        Trainer._load_from_checkpoint(self, resume_from_checkpoint, model)
        load_adapter(self.sama, Path(resume_from_checkpoint) / FOLDER)


def host_state(sama: SamaModel, state: Mapping[str, Any]) -> dict[str, Any]:
    """What of `state` the host's own class can load."""
    kept = {name: value for name, value in state.items() if not f".{name}".count(".sama.")}
    if hasattr(sama.host.language_model, "peft_config") and hasattr(
        sama.host.language_model, "get_base_model"
    ):
        return kept  # a PeftModel, which the class builds again from its configuration
    return {
        name.replace(".base_layer.", "."): value
        for name, value in kept.items()
        if ".lora_" not in name
    }


def lora_settings(sama: SamaModel) -> LoraSettings:
    """The LoRA that the script put on the host, as the plugin's settings.

    Raises:
        PluginError: LoRA on the vision tower, which no `sama_adapter/` holds.
    """
    layers = lora_layers(sama.host)
    vision = [name for name in layers if name.startswith("vision_model")]
    if vision:
        raise PluginError(
            f"LoRA on {len(vision)} layers of the vision tower (first: {vision[0]}): the plugin's "
            "checkpoint holds LoRA of the language model only, and would read regions with another "
            "tower than it trained with. Leave out --use_backbone_lora"
        )
    if not layers:
        return LoraSettings(r=0)
    name, (down, _) = next(iter(layers.items()))
    layer, rank = sama.host.get_submodule(name), down.shape[0]
    drop = layer.lora_dropout[ADAPTER_NAME]
    found = {one.split("layers.", 1)[1].split(".", 1)[1] for one in layers}
    names = sama.adapter.lora_names(sama.host)
    return LoraSettings(
        r=rank,
        alpha=int(round(layer.scaling[ADAPTER_NAME] * rank)),
        dropout=float(getattr(drop, "p", 0.0)),
        targets=tuple(target for target, layer_name in names.items() if layer_name in found),
    )
