"""Logging: one logger tree, and warnings that are said once."""

from __future__ import annotations

import logging

_SAID: set[str] = set()


def get_logger(name: str = "sama_plugin") -> logging.Logger:
    """Logger below `sama_plugin`; the application decides handlers and levels."""
    return logging.getLogger(name if name.startswith("sama_plugin") else f"sama_plugin.{name}")


def warn_once(key: str, message: str) -> None:
    """Warn the first time `key` is seen in this process."""
    if key not in _SAID:
        _SAID.add(key)
        get_logger().warning(message)
