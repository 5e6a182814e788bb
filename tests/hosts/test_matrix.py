"""Every host whose language model can be chosen, over every text backbone: one step, one answer,
one round trip. Native InternVL's row is `test_backbones.py`; Qwen-VL hosts bring their decoder.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from tests.hosts.internvl_chat.lookalike import internvl_chat
from tests.hosts.test_backbones import TABLE, goes_round
from tests.hosts.tiny import llava, llava_next_video, llava_onevision

Made = Callable[[], tuple[Any, Any]]


def over(build: Callable[..., Any]) -> Callable[..., Made]:
    """A host of transformers over a family."""
    return lambda family, changes: functools.partial(build, family=family, **changes)


HOSTS: dict[str, Callable[..., Made]] = {
    "internvl_chat": lambda family, changes: functools.partial(
        internvl_chat, family=family, text=changes
    ),
    "llava": over(llava),
    "llava_next_video": over(llava_next_video),
    "llava_onevision": over(llava_onevision),
}
QUICK = {("internvl_chat", "qwen3"), ("llava", "mistral"), ("llava_next_video", "llama")}
CELLS = [
    pytest.param(
        host,
        family,
        marks=() if (host, family) in QUICK else pytest.mark.slow,
        id=f"{host}-{family}",
    )
    for host in HOSTS
    for family in TABLE
    if family in CONFIG_MAPPING_NAMES
]


@pytest.mark.parametrize(("host", "family"), CELLS)
def test_trained_one_step_generated_saved_and_loaded(host, family, tmp_path):
    goes_round(HOSTS[host](family, TABLE[family][0]), tmp_path)
