"""What a benchmark ran on, in words: processor, cores, and what its figures depend on."""

from __future__ import annotations

import os
import platform
import re
import ssl
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np

__all__ = ["machine"]

_PROCESSORS = Path("/proc/cpuinfo")


def machine(cores: int) -> str:
    """Processor, cores, versions and the day.

    Args:
        cores: that the benchmark confines itself to.
    """
    compiled = "with numba" if find_spec("numba") else "without numba"
    return "; ".join(
        [
            _processor(),
            f"{min(cores, os.cpu_count() or cores)} of {os.cpu_count()} cores",
            platform.system(),
            f"Python {platform.python_version()}, numpy {np.__version__}, {compiled}",
            ssl.OPENSSL_VERSION.rsplit(" ", 3)[0],
            datetime.now(UTC).date().isoformat(),
        ]
    )


def _processor() -> str:
    """Its name, and whether it has AVX-512, on which the speed of AES-GCM depends (decision 0013)."""
    if not _PROCESSORS.exists():
        return platform.machine()
    told = _PROCESSORS.read_text()
    name = re.search(r"model name\s*:\s*(.+)", told)
    wide = "with" if re.search(r"\bavx512f\b", told) else "without"
    return f"{name.group(1) if name else platform.machine()} {wide} AVX-512"
