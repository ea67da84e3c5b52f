"""Where a ledger may stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake import filesystems
from lake.errors import LedgerError
from lake.filesystems import file_system_type, refuse_network_file_system

TABLE = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:40 / /mnt/share rw,relatime shared:3 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /mnt/share/local rw,relatime - xfs /dev/vdb rw
32 22 0:42 / /mnt/with\040space rw - cifs //server/x rw
33 22 0:43 / /mnt/ssh rw - fuse.sshfs me@host:/ rw
34 22 0:44 / /mnt/over rw - ext4 /dev/vdc rw
35 34 0:45 / /mnt/over rw - lustre mgs:/fs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ledger", "ext4"),
        ("/mnt/shared/ledger", "ext4"),
        ("/mnt/share/a/ledger", "nfs4"),
        ("/mnt/share/local/ledger", "xfs"),
        ("/mnt/with space/ledger", "cifs"),
        ("/mnt/ssh/ledger", "fuse.sshfs"),
        ("/mnt/over/ledger", "lustre"),
    ],
)
def test_the_innermost_and_latest_mount_counts(path: str, kind: str) -> None:
    assert file_system_type(Path(path), TABLE) == kind


def test_an_empty_table_says_nothing() -> None:
    assert file_system_type(Path("/x"), "") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs", "ceph", "glusterfs"])
def test_network_file_systems_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 0:1 / / rw - ext4 /dev/vda rw\n23 22 0:2 / {tmp_path} rw - {kind} server:/ rw\n")
    monkeypatch.setattr(filesystems, "_MOUNT_TABLE", table)
    with pytest.raises(LedgerError, match=f"{kind}.*local disk of the driver") as caught:
        refuse_network_file_system(tmp_path / "ledger")
    assert str(tmp_path / "ledger") in str(caught.value)
    refuse_network_file_system(Path("/elsewhere/ledger"))


def test_this_disk_is_local(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path / "ledger")
