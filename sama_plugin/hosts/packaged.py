"""Hosts that come with the package, by name instead of by path.

"mini" is the pre-trained twin, "tiny" a random one for trials; extensions add theirs under the
entry point group `sama_plugin.packaged_hosts`. They are strings here because the mini world stands
above this room. Used wherever a host is loaded: `train/host.py`, `infer/load.py`.
"""

from __future__ import annotations

from sama_plugin.registry import Registry

PACKAGED_HOSTS = Registry(
    "packaged_hosts",
    {
        "mini": "sama_plugin.miniworld.host:load_mini",
        "tiny": "sama_plugin.miniworld.host:tiny_host",
    },
)
"""Name to a function without arguments that gives (model, tokenizer)."""
