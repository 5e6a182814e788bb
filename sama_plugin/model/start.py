"""Parts that a training starts from: files of `sama import`, loaded over fresh modules.

`start_from` in the settings names them: InstructBLIP's Q-Former for the spatial Q-Former,
VideoRefer's region encoder, or whatever else has our names. Once something was trained and saved,
the setting has done its work and is not kept. Used by `attach.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import torch
from torch import nn

from sama_plugin.errors import CheckpointError
from sama_plugin.model.importers.shards import Checkpoint


@torch.no_grad()
def start_from(modules: nn.Module, files: Sequence[str]) -> list[str]:
    """Copy the tensors of `files` into the plugin's modules; returns their names.

    Raises:
        CheckpointError: a file holds a name the modules do not have, or another shape. Nothing is
            changed then.
    """
    ours = modules.state_dict()
    found = {}
    for file in files:
        source = Checkpoint(Path(file))
        wrong = [
            f"{name} {shape} (here {tuple(ours[name].shape) if name in ours else 'absent'})"
            for name, shape in source.shapes.items()
            if name not in ours or tuple(ours[name].shape) != shape
        ]
        if wrong:
            raise CheckpointError(
                f"start_from {file} does not fit the modules of these settings: "
                f"{'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}. Kinds and sizes in the "
                "settings must be those of the file"
            )
        found.update(source.tensors())
    for name, tensor in found.items():
        ours[name].copy_(tensor)
    return list(found)
