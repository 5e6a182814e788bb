"""Checkpoints on disk, one tensor at a time: safetensors or torch files, single or in shards.

Reading opens headers only; a tensor is loaded when it is asked for, so memory holds about one shard
whatever the size of the model. Pickled files are read with `weights_only`. Writing collects tensors
until a shard is full. Used by every importer.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

import torch
from torch import Tensor

from sama_plugin.errors import CheckpointError

SHARD_BYTES = 4 << 30
_NESTED = ("model", "state_dict", "module")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class Checkpoint:
    """The tensors of a file or a folder, by name.

    Attributes:
        path: what was opened. config: `config.json` beside the tensors, or an empty dict.
        shapes: name to shape of every tensor, in file order.

    Raises:
        CheckpointError: nothing to read, a shard is missing, truncated or not what its index says.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._file_of: dict[str, Path] = {}
        self._opened: Optional[tuple[Path, Any]] = None
        self.config = _read_json(self.path / "config.json") if self.path.is_dir() else {}
        for file in _files(self.path):
            for name, shape in _header(file).items():
                if name in self.shapes:
                    raise CheckpointError(
                        f"{name} is in {self._file_of[name].name} and in {file.name}; the folder "
                        f"{self.path} mixes two checkpoints"
                    )
                self.shapes[name], self._file_of[name] = shape, file
        _check_index(self.path, self._file_of)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def read(self, name: str) -> Tensor:
        """One tensor; its file stays open until another file's tensor is asked for."""
        file = self._file_of[name]
        if self._opened is None or self._opened[0] != file:
            self._opened = (file, _open(file))
        return _tensor(self._opened[1], name)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, file by file."""
        for name in self.shapes:
            yield name, self.read(name)


class ShardWriter:
    """Writes `model.safetensors`, or numbered shards and their index when one file is not enough.

    Use as a context manager; the folder has to exist.

    Args:
        folder: where. limit: bytes a shard may hold. stem: file name without number and suffix.
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES, stem: str = "model"):
        self.folder, self.limit, self.stem = Path(folder), limit, stem
        self.total = 0
        self._held: dict[str, Tensor] = {}
        self._held_bytes = 0
        self._shards: list[list[str]] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self._finish()

    def put(self, name: str, tensor: Tensor) -> None:
        """Add one tensor; a copy, if it is a view of a larger one."""
        size = tensor.numel() * tensor.element_size()
        if self._held and self._held_bytes + size > self.limit:
            self._flush()
        self._held[name] = tensor.clone().contiguous()
        self._held_bytes += size
        self.total += size

    def _flush(self) -> None:
        from safetensors.torch import save_file

        save_file(self._held, str(self._part(len(self._shards))), metadata={"format": "pt"})
        self._shards.append(list(self._held))
        self._held, self._held_bytes = {}, 0

    def _finish(self) -> None:
        if self._held or not self._shards:
            self._flush()
        count = len(self._shards)
        if count == 1:
            self._part(0).rename(self.folder / f"{self.stem}.safetensors")
            return
        places = {}
        for number, names in enumerate(self._shards):
            file = f"{self.stem}-{number + 1:05d}-of-{count:05d}.safetensors"
            self._part(number).rename(self.folder / file)
            places.update(dict.fromkeys(names, file))
        index = {"metadata": {"total_size": self.total}, "weight_map": places}
        path = self.folder / f"{self.stem}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n")

    def _part(self, number: int) -> Path:
        return self.folder / f".{self.stem}-{number}.part"


def token_ids(folder: Path) -> dict[str, int]:
    """Ids of the added tokens of a tokenizer folder, from whichever of its files names them."""
    found: dict[str, int] = {}
    for entry in _read_json(folder / "tokenizer.json").get("added_tokens", []):
        found[entry["content"]] = entry["id"]
    described = _read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    for number, entry in described.items():
        found[entry["content"]] = int(number)
    found.update(_read_json(folder / "added_tokens.json"))
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist; give a checkpoint file or folder")
    for patterns in (("*.safetensors",), ("*.bin", "*.pth", "*.pt")):
        files = sorted(file for pattern in patterns for file in path.glob(pattern))
        files = [file for file in files if file.name != "training_args.bin"]
        if files:
            return files
    raise CheckpointError(f"{path} holds no .safetensors, .bin, .pth or .pt file")


def _check_index(path: Path, found: Mapping[str, Path]) -> None:
    for name in _INDEXES:
        promised = _read_json(path / name).get("weight_map", {}) if path.is_dir() else {}
        absent = sorted({file for file in promised.values() if not (path / file).exists()})
        if absent:
            raise CheckpointError(
                f"{path / name} lists {', '.join(absent[:4])}, not in the folder; "
                "download the missing shard(s)"
            )
        lost = [key for key, file in promised.items() if getattr(found.get(key), "name", 0) != file]
        if lost:
            raise CheckpointError(
                f"{path / name} promises {len(lost)} tensor(s) that its shards do not hold, "
                f"{lost[0]} for one; index and shards are of different checkpoints"
            )


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    opened = _open(file)
    if isinstance(opened, Mapping):
        return {name: tuple(value.shape) for name, value in opened.items()}
    names = opened.keys()
    return {name: tuple(opened.get_slice(name).get_shape()) for name in names}


def _open(file: Path) -> Any:
    """A safetensors handle, or the mapping of a torch file."""
    try:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            return safe_open(str(file), framework="pt")
        mapped = zipfile.is_zipfile(file)  # files of torch before 1.6 are none
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise CheckpointError(
            f"{file} is truncated or no checkpoint ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:160]}); download it again"
        ) from error
    return _table(file, state)


def _table(file: Path, state: Any) -> Mapping[str, Tensor]:
    """The names and tensors of what a torch file held."""
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{file} holds a {type(state).__name__}, not tensors by name; give the file of the "
            "weights"
        )
    for key in _NESTED:
        if isinstance(state.get(key), Mapping):
            state = state[key]
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{file} holds {type(value).__name__} under {name!r} where a tensor under a name "
                "was expected; give the file of the weights"
            )
    return state


def _tensor(opened: Any, name: str) -> Tensor:
    return opened[name] if isinstance(opened, Mapping) else opened.get_tensor(name)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; download it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{path} holds a {type(found).__name__} where names and values were expected; "
            "download it again"
        )
    return found
