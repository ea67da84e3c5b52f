"""Where a ledger may stand: on a local disk.

SQLite's locks and its shared-memory index do not work across the clients of a network file system: two drivers could
both pass the budget check.
"""

from __future__ import annotations

import re
from pathlib import Path

from lake.errors import LedgerError

__all__ = ["file_system_type", "refuse_network_file_system"]

_MOUNT_TABLE = Path("/proc/self/mountinfo")

_NETWORK = frozenset(
    (
        *("9p", "afp", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "wekafs"),
    )
)
# Everything else that FUSE serves may be a network or an object store: sshfs, s3fs, gcsfuse, rclone, juicefs, ...
_LOCAL_FUSE = frozenset(["fuse.fuse-overlayfs", "fuse.bindfs", "fuse.mergerfs", "fuse.gocryptfs"])


def refuse_network_file_system(path: Path) -> None:
    """Check that `path` lies on a local file system, as far as the mount table tells.

    The table is Linux's; on other systems nothing is checked.

    Raises:
        LedgerError: a network file system; names path, type and remedy.
    """
    if not _MOUNT_TABLE.exists():
        return
    kind = file_system_type(path.resolve(), _MOUNT_TABLE.read_text())
    if kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
        raise LedgerError(path, f"lies on the network file system {kind!r}", "put it on a local disk of the driver")


def file_system_type(path: Path, mount_table: str) -> str:
    """The type of the file system that holds `path`, "" if the table does not say.

    Args:
        path: absolute and free of symbolic links; need not exist.
        mount_table: the text of /proc/self/mountinfo, whose later lines cover earlier ones at the same place.
    """
    best, kind = -1, ""
    for line in mount_table.splitlines():
        mount, separator, source = line.partition(" - ")
        if not separator:
            continue
        point = Path(_unescaped(mount.split(" ")[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), source.split(" ")[0]
    return kind


def _unescaped(field: str) -> str:
    """Mount tables write a space as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), field)
