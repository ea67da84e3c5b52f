"""Writes `frames.json`: frames in hexadecimal, valid ones with their meaning and corrupt ones with the reason.

Run as `python -m tests.vectors.wire.generate`. It packs the bytes itself, by the layout in `spark_mpc/wire.py`'s
docstring, so that encoder and decoder are both held against it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

__all__ = ["FRAMES", "frames"]

FRAMES = Path(__file__).with_name("frames.json")
_RUN, _INCARNATION = bytes(range(32)), bytes(range(16))


def _frame(
    *,
    magic: bytes = b"SMPC",
    version: int = 1,
    kind: int = 1,
    step: bytes = b"upload/0",
    step_length: int | None = None,
    sequence: int = 3,
    payload: bytes = b"payload",
    length: int | None = None,
) -> bytes:
    head = struct.pack(">4sBBB", magic, version, kind, len(step) if step_length is None else step_length)
    numbers = struct.pack(">QQ", sequence, len(payload) if length is None else length)
    return head + _RUN + _INCARNATION + numbers + step + payload


def frames() -> dict[str, list[dict[str, object]]]:
    """All vectors."""
    valid = {
        "message": (1, b"upload/0", b"payload", 3),
        "empty": (1, b"done", b"", 0),
        "deepest sequence": (1, b"join/sort/3", b"x", 2**64 - 1),
        "ping": (2, b"ping", b"", 0),
        "stream": (9, b"stream", b"", 0),
        "status": (8, b"ping", b'{"state": "open", "step": "local", "reason": ""}', 0),
    }
    corrupt = {
        "nothing": (b"", "starts with"),
        "cut in the prefix": (_frame()[:40], "starts with"),
        "cut in the step": (_frame()[:74], "declares"),
        "cut in the payload": (_frame()[:-1], "declares 7 bytes and has 6"),
        "left over": (_frame() + b"!", "declares 7 bytes and has 8"),
        "other magic": (_frame(magic=b"HTTP"), "not a frame"),
        "another version": (_frame(version=2), "frame version 2"),
        "unknown kind": (_frame(kind=10), "unknown kind"),
        "kind zero": (_frame(kind=0), "unknown kind"),
        "no step": (_frame(step=b""), "step label"),
        "long step": (_frame(step=b"a" * 65), "step label"),
        "step in capitals": (_frame(step=b"UPLOAD"), "use a-z"),
        "step with a control character": (_frame(step=b"up\nload"), "use a-z"),
        "step with an empty part": (_frame(step=b"upload//0"), "use a-z"),
        "step not ASCII": (_frame(step="größe".encode()), "use a-z"),
        "step ending in a slash": (_frame(step=b"upload/"), "use a-z"),
        "step length too small": (_frame(step_length=4), "declares 7 bytes and has 11"),
        "huge length": (_frame(length=2**64 - 1), "at most 1000"),
        "length over the limit": (_frame(payload=bytes(1001)), "at most 1000"),
        "length too small": (_frame(length=6), "declares 6 bytes and has 7"),
    }
    return {
        "valid": [
            {
                "name": name,
                "frame": _frame(kind=kind, step=step, payload=payload, sequence=sequence).hex(),
                "kind": kind,
                "step": step.decode(),
                "sequence": sequence,
                "payload": payload.hex(),
                "run": _RUN.hex(),
                "incarnation": _INCARNATION.hex(),
            }
            for name, (kind, step, payload, sequence) in valid.items()
        ],
        "corrupt": [
            {"name": name, "frame": frame.hex(), "reason": reason} for name, (frame, reason) in corrupt.items()
        ],
    }


if __name__ == "__main__":
    FRAMES.write_text(json.dumps(frames(), indent=1) + "\n", encoding="utf-8")
