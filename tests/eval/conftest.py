"""Property tests here have no deadline: a shared machine is slow at times, which proves nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")
