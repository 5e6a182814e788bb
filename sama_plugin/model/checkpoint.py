"""The `sama_adapter/` folder: what one fine-tuning taught, independent of the host's class and
checkpoint format.

    sama_adapter/
      config.json          widths, LLM family, token strings, wording, [SEG] convention, segmenter,
                           settings
      modules.safetensors  region encoder, aggregator, token rows, [SEG] head, mask decoder copy
      vocabulary.txt       BERT's word pieces, where the aggregator reads those
      lora.safetensors     LoRA under canonical names: layers.<n>.<q|k|v|o|gate|up|down>.<A|B>
      README.md            model card

PEFT's own files are written beside the folder for the host in use. A folder appears whole or not at
all.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Union

import torch
from torch import Tensor

from sama_plugin import __version__
from sama_plugin.atomic import atomic_dir
from sama_plugin.dialog.tokens import NEW_TOKENS
from sama_plugin.errors import CheckpointError
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.config import LoraSettings, SamaConfig
from sama_plugin.model.lora_split import fill, join, language_lora, settings_in_use, split
from sama_plugin.settings import from_dict, to_dict

if TYPE_CHECKING:
    from sama_plugin.model.attach import SamaModel

FOLDER = "sama_adapter"
FORMAT = 1
MODULES, LORA = "modules.safetensors", "lora.safetensors"
VOCABULARY = "vocabulary.txt"
SEG_CONVENTION = "state of the step that consumes [SEG]"


def save_adapter(
    sama: SamaModel,
    folder: Union[str, Path],
    *,
    peft_model: Any = None,
    notes: str = "",
) -> Path:
    """Write `folder` (usually named `sama_adapter`) atomically; PEFT files go to its parent when
    `peft_model` is given. Sharded parameters must be whole (`sharding.py`).

    Args:
        notes: text for the model card (data, steps, scores).
    """
    from safetensors.torch import save_file

    lora = split(sama, language_lora(sama), settings_in_use(sama))
    with atomic_dir(folder) as temporary:
        save_file(_stored(sama.modules.state_dict()), temporary / MODULES)
        if lora:
            save_file(_stored(lora), temporary / LORA)
        if sama.config.aggregator.vocabulary is not None:
            shutil.copyfile(sama.config.aggregator.vocabulary, temporary / VOCABULARY)
        (temporary / "config.json").write_text(
            json.dumps(_describe(sama, bool(lora)), indent=2) + "\n"
        )
        (temporary / "README.md").write_text(_card(sama, notes))
    if peft_model is not None and hasattr(peft_model, "peft_config"):
        peft_model.save_pretrained(str(Path(folder).parent), save_embedding_layers=False)
    return Path(folder)


def half_precision(folder: Union[str, Path], target: Union[str, Path]) -> Path:
    """A copy of a checkpoint with its floating tensors in 16 bit, for shipping."""
    from safetensors.torch import save_file

    folder = Path(folder)
    read_description(folder)
    with atomic_dir(target) as temporary:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".safetensors":
                save_file(_stored(_load(path), torch.float16), temporary / path.name)
            elif path.is_file():
                (temporary / path.name).write_bytes(path.read_bytes())
    return Path(target)


def read_config(folder: Union[str, Path]) -> SamaConfig:
    """The settings a checkpoint was trained with; attach with these before `load_adapter`."""
    described = read_description(Path(folder))
    config = from_dict(SamaConfig, described["settings"], str(Path(folder) / "config.json"))
    if config.aggregator.vocabulary is not None:
        config.aggregator.vocabulary = str(Path(folder) / VOCABULARY)
    if config.seg.weights is not None and (Path(folder) / config.seg.weights).is_file():
        config.seg.weights = str(Path(folder) / config.seg.weights)
    return config


def read_modules(folder: Union[str, Path]) -> dict[str, Tensor]:
    """The tensors of a checkpoint's plugin modules, as they are stored."""
    read_description(Path(folder))
    return _load(Path(folder) / MODULES)


def read_tensors(folder: Union[str, Path]) -> dict[str, dict[str, Tensor]]:
    """All tensors of a checkpoint as they are stored, by file and name."""
    folder = Path(folder)
    files = (MODULES, LORA) if read_description(folder)["lora"] else (MODULES,)
    return {name: _load(folder / name) for name in files}


def load_adapter(sama: SamaModel, folder: Union[str, Path]) -> Any:
    """Load a checkpoint into an attached host; returns the model to call (a PeftModel when there is
    LoRA).

    Raises:
        CheckpointError: other width, LLM family, tokens, module shapes or number of layers, or a
            damaged file. Nothing is changed in that case.
    """
    folder = Path(folder)
    described = read_description(folder)
    _check_fit(sama, described, folder)
    tensors = read_tensors(folder)
    modules, lora = tensors[MODULES], tensors.get(LORA, {})
    _check_shapes(sama.modules.state_dict(), modules, folder)
    model = sama.host
    if lora:
        settings = from_dict(LoraSettings, described["settings"]["lora"], str(folder))
        joined = join(sama, lora, settings, folder / LORA)
        if not language_lora(sama):
            model = add_lora(sama, settings, _other_ranks(settings, joined))
        fill(sama, joined, settings, folder / LORA)
    sama.modules.load_state_dict(modules)
    return model


def _other_ranks(settings: LoraSettings, joined: Mapping[str, Any]) -> dict[str, int]:
    ranks = {name: down.shape[0] for name, (down, _) in joined.items()}
    return {name: rank for name, rank in ranks.items() if rank != settings.r}


def _stored(
    tensors: Mapping[str, Tensor], dtype: Optional[torch.dtype] = None
) -> dict[str, Tensor]:
    return {
        name: (value.detach().to(dtype) if dtype and value.is_floating_point() else value.detach())
        .cpu()
        .contiguous()
        .clone()
        for name, value in tensors.items()
    }


def _describe(sama: SamaModel, lora: bool) -> dict[str, Any]:
    settings = {**to_dict(sama.config), "lora": to_dict(settings_in_use(sama))}
    settings["start_from"] = []
    if settings["aggregator"]["vocabulary"] is not None:
        settings["aggregator"]["vocabulary"] = VOCABULARY
    return {
        "format": FORMAT,
        "plugin_version": __version__,
        "host": sama.adapter.name,
        "family": sama.adapter.family(sama.host),
        "width": sama.adapter.width(sama.host),
        "tokens": list(NEW_TOKENS),
        "frame_wording": sama.adapter.visual_prefix(1, 0, True),
        "inject_scale": sama.taps.scale,
        "seg_convention": SEG_CONVENTION,
        "segmenter": sama.segmenter.id,
        "segmenter_fingerprint": sama.segmenter.fingerprint,
        "lora": lora,
        "settings": settings,
    }


def read_description(folder: Path) -> dict[str, Any]:
    """What config.json of a checkpoint says.

    Raises:
        CheckpointError: not a checkpoint, damaged, or of another format.
    """
    path = folder / "config.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{folder} is not a {FOLDER} folder: cannot read {path.name} ({error.strerror})"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the checkpoint again") from error
    if not isinstance(described, dict):
        raise CheckpointError(
            f"{path} is damaged: it holds a {type(described).__name__}; copy the checkpoint again"
        )
    if described.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {described.get('format')!r}, this version reads {FORMAT}; use the "
            f"sama_plugin that wrote it ({described.get('plugin_version', 'not named')})"
        )
    return described


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error}); copy the checkpoint again"
        ) from error


def _check_fit(sama: SamaModel, described: Mapping[str, Any], folder: Path) -> None:
    here = {
        "width": sama.adapter.width(sama.host),
        "family": sama.adapter.family(sama.host),
        "tokens": list(NEW_TOKENS),
        "segmenter": sama.segmenter.id,
    }
    for key, value in here.items():
        if described[key] != value:
            raise CheckpointError(
                f"{folder} was trained with {key} {described[key]!r}; this host has {value!r}. "
                "Load it on the host it was trained for, or train again"
            )


def _check_shapes(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], folder: Path) -> None:
    wrong = [
        f"{name} {tuple(theirs[name].shape) if name in theirs else 'missing'} (expected "
        f"{tuple(tensor.shape)})"
        for name, tensor in ours.items()
        if name not in theirs or theirs[name].shape != tensor.shape
    ]
    wrong += [f"{name} unexpected" for name in theirs if name not in ours]
    if wrong:
        raise CheckpointError(
            f"{folder} does not fit the attached modules: "
            f"{'; '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''}. "
            "Attach with the settings of the checkpoint (read_config)"
        )


def _card(sama: SamaModel, notes: str) -> str:
    family, width = sama.adapter.family(sama.host), sama.adapter.width(sama.host)
    return (
        f"# sama_adapter\n\nReferring and grounding for a {family} InternVL-style host of width "
        f"{width}, segmenter "
        f"{sama.segmenter.id}. Trained and read by sama_plugin {__version__}.\n\n"
        "```python\nfrom sama_plugin import attach\n"
        "from sama_plugin.model.checkpoint import load_adapter, read_config\n\n"
        "sama = attach(model, tokenizer, read_config(folder))\nmodel = "
        "load_adapter(sama, folder)\n```\n"
        f"{notes and chr(10) + notes + chr(10)}"
    )
