"""The thin Trainer: Hugging Face's loop with the plugin's batches, rates, loss parts and
checkpoints.

`SamaTraining` holds all of it and nothing else, so that the launcher can put it in front of a
script's own Trainer class; `SamaTrainer` is the two together and is what `sama train` uses. Loss
scaling: the host takes a plain mean over its batch (`model_accepts_loss_kwargs` off), so text and
mask losses are both divided by the accumulation steps.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Optional

import torch
from transformers import Trainer

from sama_plugin.data.mixture import MixtureDataset
from sama_plugin.errors import PluginError
from sama_plugin.model.attach import SamaModel
from sama_plugin.model.checkpoint import FOLDER, load_adapter
from sama_plugin.train import saving
from sama_plugin.train.bad_records import BadRecords, FollowBadRecords, allowances
from sama_plugin.train.base_answers import base_logits, divergence, plain_rows
from sama_plugin.train.canary import Canary
from sama_plugin.train.groups import Rates, parameter_groups
from sama_plugin.train.meter import LossMeter
from sama_plugin.train.order import EpochOrder, FollowEpoch
from sama_plugin.train.uniform import is_blank, one_label, uniform_inputs


class SamaTraining:
    """What the plugin changes in a Trainer; stands before a Trainer class in the bases."""

    sama: SamaModel

    def start_sama(
        self, sama: SamaModel, rates: Optional[Rates] = None, base_weight: float = 0.0
    ) -> None:
        """Call once after the Trainer's constructor."""
        self._refuse()
        self.base_weight = base_weight
        self.sama, self.rates = sama, rates or Rates()
        self.meter, self.canary = LossMeter(), Canary(sama)
        self.bad_records = BadRecords(allowances(self.train_dataset), Path(self.args.output_dir))
        self.add_callback(FollowBadRecords(self.bad_records, self.accelerator))
        self.stage: Optional[Path] = None
        self.order: Optional[EpochOrder] = None
        self.model_accepts_loss_kwargs = False
        self.args.remove_unused_columns = False
        sama.mark_trainable()

    def _refuse(self) -> None:
        if self.is_fsdp_enabled:
            raise PluginError(
                "FSDP is not supported with the plugin; use DDP, or DeepSpeed with a file of "
                "configs/deepspeed/"
            )
        if self.label_smoother is not None or getattr(self, "compute_loss_func", None) is not None:
            raise PluginError(
                "label smoothing and compute_loss_func replace the loss of the model, and with it "
                "the mask losses; switch them off"
            )

    @property
    def sharded(self) -> bool:
        """Whether weights are partitioned over ranks (ZeRO-3)."""
        config = getattr(self.args, "hf_deepspeed_config", None)
        return config is not None and config.is_zero3()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """Loss of a micro-step on the same modules for every rank; its parts go to the meter."""
        inputs = uniform_inputs(inputs, self.sama, self.sharded)
        blank = is_blank(inputs["sama"])
        inputs = one_label(inputs) if blank else inputs
        with self.canary.watch(inputs):
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if blank:
            loss = 0 * loss
            self.sama.last_losses = {name: 0 * part for name, part in self.sama.last_losses.items()}
        parts = dict(self.sama.last_losses)
        if model.training and self.base_weight:
            parts["base"] = self._from_base(inputs, outputs.logits)
            loss = loss + parts["base"]
        if model.training:
            self.bad_records.see(inputs["sama"].bad)
            self.meter.add(parts, 1 / self._micro_steps())
        return (loss, outputs) if return_outputs else loss

    def _from_base(self, inputs: dict[str, Any], logits: torch.Tensor) -> torch.Tensor:
        rows = plain_rows(inputs["sama"]).to(logits.device)
        if not len(rows):
            return logits.new_zeros(())
        model = self.accelerator.unwrap_model(self.model)
        ours = torch.tensor(self.sama.ids.in_order(), device=logits.device)
        base = base_logits(self.sama, model, inputs, rows)
        return self.base_weight * divergence(logits[rows], base, inputs["labels"][rows], ours)

    def _micro_steps(self) -> int:
        """Micro-steps of the step under way; at the end of an epoch there may be fewer."""
        return getattr(self, "current_gradient_accumulation_steps", None) or (
            self.args.gradient_accumulation_steps
        )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Training lines also say the parts of the loss."""
        if "loss" in logs and "learning_rate" in logs:
            logs = {**logs, **self.meter.drain(self.accelerator), **self.bad_records.count()}
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """One group for each of plugin, LoRA and mask decoder, with and without decay."""
        if self.optimizer is None:
            model = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups = parameter_groups(
                model.named_parameters(),
                self.rates,
                self.args.learning_rate,
                self.args.weight_decay,
            )
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """A mixture orders itself, by seed and epoch; it is read as it stands."""
        if not isinstance(self.train_dataset, MixtureDataset):
            return super()._get_train_sampler(*args, **kwargs)
        micro_steps = self.args.gradient_accumulation_steps * self.args.world_size
        self.order = EpochOrder(self.train_dataset, self.args.train_batch_size * micro_steps)
        self.remove_callback(FollowEpoch)
        self.add_callback(FollowEpoch(self.order))
        return self.order

    def save_model(self, output_dir: Optional[str] = None, _internal_call: bool = False) -> None:
        """`sama_adapter/` and PEFT's files; under ZeRO-3 every rank must call it."""
        folder = output_dir or self.args.output_dir
        with saving.gathered(self.model):
            self._save(folder)

    def _save(self, output_dir: Optional[str] = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        saving.write(self.sama, self.model, folder)
        if getattr(self, "processing_class", None) is not None:
            self.processing_class.save_pretrained(folder)
        torch.save(self.args, folder / "training_args.bin")

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self.stage is None else str(self.stage)

    def _save_checkpoint(self, model: Any, trial: Any, *args: Any, **kwargs: Any) -> None:
        """Write aside, rename when every rank is done, then remove the oldest."""
        out = self._get_output_dir(trial)
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            saving.start_stage(out)
        self.accelerator.wait_for_everyone()
        self.stage = Path(out) / saving.STAGE
        try:
            super()._save_checkpoint(model, trial, *args, **kwargs)
            if self.args.should_save and self.order is not None:
                self.order.save(self.stage / name, self.state.global_step)
        except BaseException:
            shutil.rmtree(self.stage, ignore_errors=True)
            raise
        finally:
            self.stage = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            final = saving.publish(Path(out) / saving.STAGE, name, out)
            if (self.state.best_model_checkpoint or "").endswith(f"{saving.STAGE}/{name}"):
                self.state.best_model_checkpoint = str(final)
            saving.prune(out, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_adapter(self.sama, Path(resume_from_checkpoint) / FOLDER)

    def _load_optimizer_and_scheduler(self, checkpoint: Optional[str]) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.order is not None:
            self.order.load(checkpoint)

    def _load_best_model(self) -> None:
        load_adapter(self.sama, Path(self.state.best_model_checkpoint) / FOLDER)


class SamaTrainer(SamaTraining, Trainer):
    """`transformers.Trainer` for an attached host.

    Args:
        sama: the handle that `attach` returned.
        model: the model to call: the host, or the PeftModel around it.
        rates: learning rates by part. base_weight: see `base_answers.py`. The rest of the
            arguments are the Trainer's.
    """

    def __init__(
        self,
        sama: SamaModel,
        model: Any,
        args: Any,
        *,
        rates: Optional[Rates] = None,
        base_weight: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(model=model, args=args, **kwargs)
        self.start_sama(sama, rates, base_weight)
