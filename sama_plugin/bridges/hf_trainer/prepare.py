"""What a script passed to its Trainer, made ready for the plugin.

Everything that would silently train something else is refused (`refusals.py`), with what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sama_plugin.bridges.hf_trainer.refusals import refuse_arguments, refuse_foreign_lora
from sama_plugin.data.sources import SourceConfig
from sama_plugin.errors import PluginError
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.attach import SamaModel, attach, attached, unwrap
from sama_plugin.model.config import SamaConfig
from sama_plugin.model.sama import SamaModules
from sama_plugin.patching.ledger import Ledger
from sama_plugin.train.material import training_material

OWN_FORMAT = "sama"


@dataclass
class Preparation:
    """Rewrites the arguments of one Trainer constructor call.

    Args:
        data: our JSONL. root: folder of its media, by default the file's own.
        config: sizes and choices of the plugin. ledger: where every change is noted.
    """

    data: Path
    root: Optional[str]
    config: SamaConfig
    ledger: Ledger

    def arguments(self, arguments: dict[str, Any]) -> SamaModel:
        """Change `arguments` (name to value) in place; returns the handle of the attached model.

        Raises:
            PluginError: the script does something that the plugin cannot train with.
        """
        refuse_arguments(arguments)
        sama, model = self._model(arguments["model"], _tokenizer(arguments))
        source = SourceConfig(format=OWN_FORMAT, path=str(self.data), root=self.root or "")
        seed = getattr(arguments.get("args"), "seed", 0)
        dataset, collator = training_material(sama, (source,), seed=seed)
        arguments.update(model=model, train_dataset=dataset, data_collator=collator)
        self._settle(arguments.get("args"))
        if arguments.pop("eval_dataset", None) is not None:
            self.ledger.note("the script's eval_dataset", "left out: it knows no regions")
        self.ledger.note(
            "the script's train_dataset and data_collator",
            f"replaced by {len(dataset)} samples of {self.data}",
        )
        return sama

    def _settle(self, training: Any) -> None:
        """Every rank meets every module, so DDP need not search for unused parameters."""
        if training is not None and training.ddp_find_unused_parameters is None:
            training.ddp_find_unused_parameters = False
            self.ledger.note("the script's ddp_find_unused_parameters", "False instead of unset")

    def _model(self, model: Any, tokenizer: Any) -> tuple[SamaModel, Any]:
        host = unwrap(model)
        if isinstance(getattr(host, "sama", None), SamaModules):
            return attached(model), model
        sama = attach(model, tokenizer, self.config, share_tokenizer=True)
        self.ledger.note(
            f"the script's {type(host).__name__}",
            f"attached ({sama.adapter.name}, {sama.adapter.family(host)}, segmenter "
            f"{sama.segmenter.id}); new tokens added to its tokenizer",
        )
        if hasattr(model, "peft_config"):
            refuse_foreign_lora(sama)
            sama.mark_trainable()
            self.ledger.note("the script's PEFT adapters", "kept as they are; no LoRA of ours")
            return sama, model
        wrapped = add_lora(sama, self.config.lora)
        self.ledger.note(
            "the script's model",
            f"host frozen, LoRA r={self.config.lora.r} on {', '.join(self.config.lora.targets)}",
        )
        return sama, wrapped


def _tokenizer(arguments: dict[str, Any]) -> Any:
    given = arguments.get("processing_class", arguments.get("tokenizer"))
    tokenizer = getattr(given, "tokenizer", given)
    if not hasattr(tokenizer, "add_tokens"):
        raise PluginError(
            "the script gives its Trainer no tokenizer (processing_class is "
            f"{type(given).__name__}); the plugin needs the host's: pass "
            "processing_class=tokenizer, or its processor"
        )
    return tokenizer
