"""Do the parties of a federation reach each other, and mean the same? Every party asks at the same time."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dp._about import __version__
from spark_mpc.errors import FederationError
from spark_mpc.federation_file import FederationFile, Peer, differences
from spark_mpc.identity import read_certificate
from spark_mpc.transport.base import RENDEZVOUS, Transport
from spark_mpc.wire import INLINE_BYTES

__all__ = ["PeerReport", "check_federation"]

_SOON = datetime.timedelta(days=30)


@dataclass(frozen=True)
class PeerReport:
    """What one peer's check showed.

    Args:
        peer: its name.
        reachable: whether greetings went both ways.
        expires: when the last of its certificates in the file ends.
        version: the release that runs there; "" if it is unknown.
        file_equal: whether its federation file has the content of ours.
        problems: one line each; none means that all is well.
    """

    peer: str
    reachable: bool
    expires: datetime.datetime
    version: str
    file_equal: bool
    problems: tuple[str, ...]


def check_federation(transport: Transport, federation: FederationFile) -> list[PeerReport]:
    """Exchange versions and file contents with every peer.

    Args:
        transport: started.
        federation: our file.

    Returns:
        One report for each peer, in the order of their names.
    """
    with ThreadPoolExecutor(len(transport.peers)) as threads:
        return list(threads.map(lambda peer: _check_peer(transport, federation, peer), transport.peers))


def _check_peer(transport: Transport, federation: FederationFile, peer: str) -> PeerReport:
    expires = max(read_certificate(pem).not_valid_after_utc for pem in federation.peer(peer).certificates)
    mine = {"version": __version__, "federation": federation.public()}
    try:
        transport.send(peer, RENDEZVOUS, "check", json.dumps(mine).encode("ascii"))
        theirs = _described(transport.receive(peer, RENDEZVOUS, "check", INLINE_BYTES))
    except FederationError as error:
        return PeerReport(peer, False, expires, "", False, (f"{peer}: {error}",))
    found = differences(mine, theirs, peer)
    version = str(theirs.get("version", ""))[:32]
    equal = theirs.get("federation") == mine["federation"]
    return PeerReport(peer, True, expires, version, equal, (*found, *_expiring(federation.peer(peer), expires)))


def _described(payload: bytes) -> Mapping[str, object]:
    try:
        described = json.loads(payload)
    except (ValueError, RecursionError):
        described = None
    return described if isinstance(described, dict) else {}


def _expiring(peer: Peer, expires: datetime.datetime) -> tuple[str, ...]:
    if datetime.datetime.now(datetime.UTC) + _SOON < expires:
        return ()
    return (f"{peer.name}: its certificate ends on {expires:%Y-%m-%d}: add a new one with `spark-mpc init` in time",)
