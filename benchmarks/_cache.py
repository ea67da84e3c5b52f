"""Where benchmarks keep what is made once: data, and the peers' environments."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """A folder of the user's cache, which exists; removing it costs time and nothing else."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "spark-mpc" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
