"""LV-VIS: instances in the YouTube-VIS 2019 layout, with a mask dictionary where one is given."""

from __future__ import annotations

from sama_plugin.data.formats.youtube_vis import read

__all__ = ["read"]
