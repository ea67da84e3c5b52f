"""What a wait asks between two looks: is there still something to wait for, and has its cause been reported?"""

from __future__ import annotations

import time
from collections.abc import Callable

from spark_mpc.transport.base import Progress

__all__ = ["Check", "reported"]

_PATIENCE_SECONDS = 1.0  # a wait that is shorter is not worth a progress line

Check = Callable[[], None]
"""Raises when a wait has lost its purpose."""


def reported(check: Check, what: Callable[[], str], on_progress: Progress) -> Check:
    """A check for one wait, which also reports what is awaited when that takes long, and when it changes.

    Args:
        check: asked first.
        what: who is awaited, and where that party is.
        on_progress: told.
    """
    started, told = time.monotonic(), ""

    def asked() -> None:
        nonlocal told
        check()
        if time.monotonic() - started > _PATIENCE_SECONDS and what() != told:
            told = what()
            on_progress(f"waiting for {told}")

    return asked
