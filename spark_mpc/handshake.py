"""Agreement before anything is shared: what the parties say to each other, and the keys that follow from it.

Two messages. `Hello` names everything that must be equal and carries a nonce and an ephemeral X25519 key. Its
transcript, all hellos together, is the run; each party signs it, so that the keys of a run belong to these parties,
this plan, these data versions and this attempt alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from dp.planning.query import canonical, digest
from lake.ledger.store import GENESIS, Head
from spark_mpc.errors import Disagreement, WireError
from spark_mpc.federation_file import differences
from spark_mpc.identity import AttemptKey

__all__ = [
    "HEAD_BYTES",
    "Agreed",
    "Hello",
    "Standing",
    "compare",
    "head_from_bytes",
    "head_to_bytes",
    "pair_secrets",
    "shortened",
    "transcript",
]

_NONCE_BYTES = 32
_LEDGER = re.compile("[0-9a-f]{32}")
_SEQUENCE_BYTES, _HASH_BYTES = 8, 32
HEAD_BYTES = _SEQUENCE_BYTES + _HASH_BYTES
"""Of a head on the wire: always as many."""
_SEEN = re.compile(f"[0-9a-f]{{{2 * HEAD_BYTES}}}")
_LONG_LIST_BYTES = 4096
_LOOKED_INTO = 60  # aggregates; with their measures they stay well below a hello's 64 KiB

Standing = Literal["new", "noised", "release"]
"""What a party's ledger holds of this release: nothing, a paid noised vector without a result, or the result."""


@dataclass(frozen=True)
class Hello:
    """What a party says first. Everything in it is public.

    Attributes:
        party: who speaks; checked against the certificate by the transport.
        version: of spark-mpc.
        protocol: how vectors are added up.
        federation: the federation file's public content.
        task: contribution, recipients and the whole plan.
        data_version: the pinned version of its own table.
        ledger: the id of the ledger that it pays from.
        nonce: 32 fresh bytes, hexadecimal.
        attempt_key: the public half of its X25519 key for this attempt, hexadecimal.
    """

    party: str
    version: str
    protocol: str
    federation: Mapping[str, object]
    task: Mapping[str, object]
    data_version: str
    ledger: str
    nonce: str
    attempt_key: str

    @staticmethod
    def fresh_nonce() -> str:
        """32 bytes from the operating system, hexadecimal."""
        return secrets.token_hex(_NONCE_BYTES)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, party: str) -> Hello:
        """Read a peer's hello, strictly.

        Raises:
            WireError: not a hello of this party.
        """
        fields = _json_object(data, cls.__dataclass_fields__, party)
        dictionaries = {"federation", "task"}
        well_typed = all(isinstance(v, dict if k in dictionaries else str) for k, v in fields.items())
        well_formed = well_typed and len(str(fields["nonce"])) == 2 * _NONCE_BYTES and _is_ledger(fields["ledger"])
        if not well_formed or fields["party"] != party:
            raise WireError(f"hello of {party}: its fields are not those of a hello")
        return cls(**fields)  # type: ignore[arg-type]


def _is_ledger(value: object) -> bool:
    return isinstance(value, str) and _LEDGER.fullmatch(value) is not None


def shortened(public: Mapping[str, object]) -> dict[str, object]:
    """Public fields whose long lists are replaced by their digests, so that a hello stays short.

    Lists of named fields, such as aggregates, are looked into, so that a difference in one of them is named.
    """
    return {name: _shortened(value) for name, value in public.items()}


def _shortened(value: object) -> object:
    if isinstance(value, Mapping):
        return shortened(value)
    if not isinstance(value, list) or len(canonical({"": value})) <= _LONG_LIST_BYTES:
        return value
    if len(value) <= _LOOKED_INTO and all(isinstance(item, Mapping) for item in value):
        return [_shortened(item) for item in value]
    return {"items": len(value), "sha256": digest({"": value}).hex()}


def compare(mine: Hello, theirs: Hello) -> None:
    """Refuse a peer that means anything else.

    Raises:
        Disagreement: every difference, by name, with both values.
    """
    shared = ("version", "protocol", "federation", "task")
    here, there = ({name: getattr(hello, name) for name in shared} for hello in (mine, theirs))
    found = differences(here, there, theirs.party)
    if found:
        raise Disagreement(found)
    if canonical(here) != canonical(there):  # fail closed, whatever the lines above can show
        raise Disagreement([f"the plans here and at {theirs.party} differ in form"])


def transcript(hellos: Mapping[str, Hello]) -> bytes:
    """SHA-256 over all hellos in the order of their parties: the run's id, equal at everyone who saw the same."""
    state = hashlib.sha256(b"spark-mpc run 1\0")
    for party in sorted(hellos):
        data = hellos[party].to_bytes()
        state.update(len(data).to_bytes(8, "big") + data)
    return state.digest()


@dataclass(frozen=True)
class Agreed:
    """What a party says second, to each peer: its signature over the run, and what its ledger holds.

    Attributes:
        signature: over the run and all that follows, by its certificate's key; hexadecimal.
        standing: see `Standing`.
        seen: the newest head that it has seen of that peer's ledger, hexadecimal.
    """

    signature: str
    standing: Standing
    seen: str

    @staticmethod
    def signed_content(run: bytes, party: str, standing: Standing, seen: str) -> bytes:
        """What is signed."""
        return b"spark-mpc agree 2\0" + run + f"{party}\0{standing}\0{seen}".encode()

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, party: str) -> Agreed:
        """Read a peer's agreement, strictly.

        Raises:
            WireError: not an agreement.
        """
        fields = _json_object(data, cls.__dataclass_fields__, party)
        texts = [fields["signature"], fields["seen"]]
        well_typed = fields["standing"] in ("new", "noised", "release") and all(isinstance(one, str) for one in texts)
        if not well_typed or not _SEEN.fullmatch(str(fields["seen"])):
            raise WireError(f"agreement of {party}: its fields are not those of an agreement")
        return cls(**fields)  # type: ignore[arg-type]

    @property
    def signature_bytes(self) -> bytes:
        """The signature as bytes; empty, and so refused, where it is not hexadecimal."""
        try:
            return bytes.fromhex(self.signature)
        except ValueError:
            return b""


def head_to_bytes(head: Head) -> bytes:
    """The number, big-endian, and the hash; zeros for the head of no log."""
    digest = bytes(_HASH_BYTES) if head == GENESIS else bytes.fromhex(head.hash)
    return head.sequence.to_bytes(_SEQUENCE_BYTES, "big") + digest


def head_from_bytes(data: bytes, party: str) -> Head:
    """Read what `head_to_bytes` wrote.

    Raises:
        WireError: anything else.
    """
    sequence = int.from_bytes(data[:_SEQUENCE_BYTES], "big")
    if len(data) != HEAD_BYTES or sequence >= 2**63:
        raise WireError(f"head of the ledger of {party}: it is a number and a hash of {HEAD_BYTES} bytes")
    return GENESIS if sequence == 0 else Head(sequence, data[_SEQUENCE_BYTES:].hex())


def pair_secrets(me: str, attempt_key: AttemptKey, hellos: Mapping[str, Hello]) -> dict[str, bytes]:
    """What this party shares with each other party in this attempt alone, by the peer's name.

    Guarantees: fresh for every attempt, since attempt keys are; equal at both ends; independent between pairs.
    Source: RFC 7748 (X25519).
    """
    return {
        peer: attempt_key.shared_secret(_hex(hello.attempt_key, peer))
        for peer, hello in sorted(hellos.items())
        if peer != me
    }


def _hex(text: str, party: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise WireError(f"hello of {party}: its attempt key is not hexadecimal") from None


def _json_object(data: bytes, expected: Mapping[str, object], party: str) -> dict[str, object]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise WireError(f"message of {party} is not JSON") from None
    if not isinstance(fields, dict) or set(fields) != set(expected):
        raise WireError(f"message of {party} has other fields than {sorted(expected)}")
    return fields
