"""The mean of checkpoints: exact, whole or refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sama_plugin import cli
from sama_plugin.errors import CheckpointError
from sama_plugin.model.adapters import add_lora
from sama_plugin.model.attach import attach
from sama_plugin.model.checkpoint import load_adapter, read_config, read_tensors, save_adapter
from sama_plugin.model.mean import mean_adapter


@pytest.fixture
def ends(sama, tmp_path):
    """Three checkpoints of one lineage, as folders."""
    add_lora(sama, sama.config.lora)
    generator = torch.Generator().manual_seed(5)
    folders = []
    for number in range(3):
        with torch.no_grad():
            for parameter in sama.host.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        folders.append(save_adapter(sama, tmp_path / f"end{number}"))
    return folders


def test_every_tensor_is_the_weighted_mean_and_loads(ends, tmp_path):
    from sama_plugin.miniworld.host import tiny_host

    shares = (0.2, 0.3, 0.5)
    mean = mean_adapter(ends, shares, tmp_path / "mean")
    parts, found = [read_tensors(folder) for folder in ends], read_tensors(mean)
    assert found.keys() == parts[0].keys() and len(found) == 2
    for file, tensors in found.items():
        for name, tensor in tensors.items():
            wanted = sum(share * part[file][name] for share, part in zip(shares, parts))
            torch.testing.assert_close(tensor, wanted)
    assert not torch.equal(*(part["lora.safetensors"][name] for part in (parts[0], found)))
    load_adapter(attach(*tiny_host(seed=0), read_config(mean)), mean)
    card = (mean / "README.md").read_text()
    assert card.index(f"0.3 of `{ends[1]}`") < card.index("# sama_adapter")


def test_all_of_one_is_that_one(ends, tmp_path):
    mean = mean_adapter(ends[:2], (0, 1), tmp_path / "mean")
    for file in ("modules.safetensors", "lora.safetensors"):
        wanted = load_file(ends[1] / file)
        assert all(torch.equal(value, wanted[key]) for key, value in load_file(mean / file).items())


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((1.0,), "2 checkpoints and 1 shares"),
        ((0.5, 0.6), r"0.5, 0.6 \(sum 1.1\)"),
        ((-0.5, 1.5), "from 0 to 1"),
        ((float("nan"), 0.5), "nan, 0.5"),
    ],
)
def test_shares_that_do_not_fit_are_refused(ends, tmp_path, shares, said):
    with pytest.raises(CheckpointError, match=said):
        mean_adapter(ends[:2], shares, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_other_settings_are_refused_and_named(ends, tmp_path):
    path = ends[0] / "config.json"
    described = json.loads(path.read_text())
    described["settings"]["lora"]["alpha"] += 1
    path.write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"end0 has settings\.lora\.alpha"):
        mean_adapter(ends, (0.2, 0.3, 0.5), tmp_path / "mean")


def test_other_tensors_are_refused_and_nothing_is_left(ends, tmp_path):
    path = ends[0] / "lora.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="end0/lora.safetensors .* other tensors"):
        mean_adapter(ends, (0.2, 0.3, 0.5), tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["end0", "end1", "end2"]


def test_the_command_takes_equal_shares_and_overwrites_nothing(ends, tmp_path, capsys):
    command = ["average", *map(str, ends[:2]), "--to", str(tmp_path / "mean")]
    assert cli.main(command) == 0
    name = "lora.safetensors"
    one, two, mean = (load_file(folder / name) for folder in (*ends[:2], tmp_path / "mean"))
    for key, value in mean.items():
        torch.testing.assert_close(value, (one[key] + two[key]) / 2)
    assert cli.main(command) == 2
    assert "exists already" in capsys.readouterr().err
    folders = [str(tmp_path / "nowhere"), str(ends[0])]
    assert cli.main(["average", *folders, "--to", str(tmp_path / "other")]) == 2
    assert "nowhere is not a sama_adapter folder" in capsys.readouterr().err
