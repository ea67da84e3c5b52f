"""The federation file: who takes part, at which address, under which certificates and rules.

One self-contained TOML file, the same at all parties; the certificates stand in it as PEM.

    [federation]
    name = "insurers"
    protocol = "additive"               # or "rep3" or "auto", with compute = ["insurer_a", "insurer_b", "insurer_c"]
    timeout_seconds = 60

    [party.insurer_a]
    address = "a.example.org:7001"
    certificates = [\"\"\"-----BEGIN CERTIFICATE----- ...\"\"\"]     # several while a key is being rotated
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from dp.errors import InvalidArgument
from spark_mpc.identity import certificate_name, fingerprint, party_name, read_certificate

__all__ = ["FederationFile", "Peer", "add_party", "differences", "split_address"]

_PROTOCOLS = ("additive", "rep3", "auto")
_COMPUTE_PARTIES = 3
_RULES = {"name", "protocol", "colluders", "compute", "timeout_seconds", "rendezvous_seconds"}
_STANZA = {"address", "certificates"}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_DEFAULT_TIMEOUT_SECONDS = 60.0
_DEFAULT_RENDEZVOUS_SECONDS = 300.0
_DIGEST_CONTEXT = b"spark-mpc federation v1\0"
_ABSENT = "nothing"
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Peer:
    """A party as the others know it.

    Args:
        name: the party's name, which its certificates name too.
        address: "host:port" where the others dial it; an IPv6 host stands in brackets.
        certificates: PEM, one or several; each of them is accepted.

    Raises:
        InvalidArgument: an address without host or port, no certificate, or one that is not this party's.
    """

    name: str
    address: str
    certificates: tuple[str, ...]

    def __post_init__(self) -> None:
        party_name(self.name)
        split_address(self.address)
        if not self.certificates:
            raise InvalidArgument("certificates", [], f"{self.name} needs at least one certificate in PEM")
        for pem in self.certificates:
            owner = certificate_name(read_certificate(pem))
            if owner != self.name:
                raise InvalidArgument("certificates", owner, f"a certificate of {self.name} names {self.name}")


@dataclass(frozen=True)
class FederationFile:
    """The rules that all parties share, and the parties in the order of their names.

    Args:
        name: what the federation is called.
        parties: at least two; names, addresses and certificates all differ.
        protocol: "additive" (sums, n >= 2 parties), "rep3" (three of them compute, one of which may be corrupt), or
            "auto" (for each query the one of less noise, under its assumption).
        colluders: t, how many parties may pool what they know, recipients included; n - 1 unless given. Under rep3 it
            is 1 and counts the three that compute; data parties may join one of them.
        compute: under rep3 and auto, the three that compute; all, unless there are more than three parties.
        timeout_seconds: a peer that is silent for longer is lost.
        rendezvous_seconds: how long a party waits for the others to start.

    Raises:
        InvalidArgument: any of them out of its range.
    """

    name: str
    parties: tuple[Peer, ...]
    protocol: str = "additive"
    colluders: int | None = None
    compute: tuple[str, ...] = ()
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS
    rendezvous_seconds: float = _DEFAULT_RENDEZVOUS_SECONDS

    def __post_init__(self) -> None:
        party_name(self.name, "federation.name")
        if self.protocol not in _PROTOCOLS:
            raise InvalidArgument("protocol", self.protocol, f"this release knows {', '.join(_PROTOCOLS)}")
        object.__setattr__(self, "parties", tuple(sorted(self.parties, key=lambda peer: peer.name)))
        if len(self.parties) < 2:
            raise InvalidArgument("parties", [p.name for p in self.parties], "a federation has at least two parties")
        _refuse_duplicates(self.parties)
        for parameter in ("timeout_seconds", "rendezvous_seconds"):
            _require_seconds(parameter, getattr(self, parameter))
        object.__setattr__(self, "compute", self._compute_parties())
        if self.protocol == "auto" and self.colluders is not None:
            raise InvalidArgument("colluders", self.colluders, 'leave it out, or choose "additive" or "rep3"')
        greatest = 1 if self.protocol == "rep3" else len(self.parties) - 1
        if not isinstance(self.t, int) or isinstance(self.t, bool) or not 1 <= self.t <= greatest:
            raise InvalidArgument(
                "colluders", self.colluders, f"give a whole number from 1 to {greatest}, or leave it out"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FederationFile:
        """Read the file at `path`.

        Raises:
            InvalidArgument: a missing file, or anything in it that is not as it should be.
        """
        return cls.parse(_read(Path(path)))

    @classmethod
    def parse(cls, text: str) -> FederationFile:
        """Read the content of a federation file; unknown keys are refused.

        Raises:
            InvalidArgument: anything that is not as it should be.
        """
        document = _parse_toml(text)
        _only(document, {"federation", "party"}, "the file")
        rules = _table(document, "federation")
        _only(rules, _RULES, "[federation]")
        if "name" not in rules:
            raise InvalidArgument("federation.name", None, 'give the federation a name: name = "insurers"')
        if "compute" in rules:
            if not isinstance(rules["compute"], list) or not all(isinstance(name, str) for name in rules["compute"]):
                raise InvalidArgument("compute", rules["compute"], "give a list of three parties' names")
            rules["compute"] = tuple(rules["compute"])
        return cls(parties=_read_parties(document), **rules)

    @property
    def t(self) -> int:
        """The greatest number of parties that may collude, recipients included."""
        if self.colluders is not None:
            return self.colluders
        return 1 if self.protocol == "rep3" else len(self.parties) - 1

    def _compute_parties(self) -> tuple[str, ...]:
        names = tuple(peer.name for peer in self.parties)
        if self.protocol == "additive":
            if self.compute:
                raise InvalidArgument("compute", list(self.compute), 'it belongs to protocol = "rep3": leave it out')
            return ()
        chosen = tuple(sorted(self.compute)) or names
        if len(set(chosen)) != _COMPUTE_PARTIES or len(chosen) != _COMPUTE_PARTIES or not set(chosen) <= set(names):
            raise InvalidArgument("compute", list(chosen), f"rep3 computes at three different parties of {list(names)}")
        return chosen

    def peer(self, name: str) -> Peer:
        """The party of that name.

        Raises:
            InvalidArgument: there is none.
        """
        for candidate in self.parties:
            if candidate.name == name:
                return candidate
        raise InvalidArgument("me", name, f"the parties are {', '.join(peer.name for peer in self.parties)}")

    def waiting(self, rendezvous_seconds: float) -> FederationFile:
        """The same federation, where this party waits so long for the others to start."""
        return dataclasses.replace(self, rendezvous_seconds=rendezvous_seconds)

    def public(self) -> dict[str, object]:
        """The content as JSON values; certificates as fingerprints. Equal files give equal values."""
        return {
            "name": self.name,
            "protocol": self.protocol,
            "colluders": self.t,
            "compute": list(self.compute),
            "timeout_seconds": float(self.timeout_seconds),
            "rendezvous_seconds": float(self.rendezvous_seconds),
            "party": {
                peer.name: {
                    "address": peer.address,
                    "certificates": sorted(fingerprint(pem) for pem in peer.certificates),
                }
                for peer in self.parties
            },
        }

    def digest(self) -> bytes:
        """The SHA-256 of the content; comments, order and layout of the file do not enter."""
        canonical = json.dumps(self.public(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(_DIGEST_CONTEXT + canonical.encode("utf-8")).digest()


def differences(mine: Mapping[str, object], theirs: Mapping[str, object], peer: str) -> list[str]:
    """Each item in which two public descriptions differ, such as "timeout_seconds: 60.0 here, 30.0 at insurer_b".

    Args:
        mine: nested mappings of JSON values.
        theirs: the same of the peer; it came from outside and may hold anything.
        peer: the peer's name.
    """
    here, there = _flat("", mine), _flat("", theirs)
    return [
        f"{key}: {_shown(here, key)} here, {_shown(there, key)} at {peer}"
        for key in sorted(here.keys() | there.keys())
        if key not in here or key not in there or here[key] != there[key]
    ]


def add_party(
    path: str | os.PathLike[str], peer: Peer, *, federation: str = "federation", protocol: str = "additive"
) -> None:
    """Write a party's stanza into the federation file, which is created if need be; comments in it stay.

    Args:
        path: the file.
        peer: the party; one that is there already, with another certificate, gets one more.
        federation: the federation's name, for a new file.
        protocol: its protocol, for a new file.

    Raises:
        InvalidArgument: the file is malformed, or the party is there under another address.
    """
    target = Path(path)
    text = _read(target) if target.exists() else _new_file(federation, protocol)
    present = {known.name: known for known in _read_parties(_parse_toml(text))}
    document = tomlkit.parse(text)
    if peer.name in present:
        merged = _with_certificates(present[peer.name], peer)
        document["party"][peer.name]["certificates"] = _pem_array(merged.certificates)
    else:
        _refuse_duplicates((*present.values(), peer))
        if "party" not in document:
            document["party"] = tomlkit.table(is_super_table=True)
        document["party"][peer.name] = _stanza(peer)
    target.write_text(tomlkit.dumps(document), encoding="utf-8")


def split_address(address: object) -> tuple[str, int]:
    """The host and port of "host:port".

    Raises:
        InvalidArgument: not of that form, or a port outside 1..65535.
    """
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise InvalidArgument("address", address, 'an address looks like "a.example.org:7001"')
    return host.strip("[]"), int(port)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidArgument("path", str(path), "no such file: `spark-mpc init` makes one") from None
    except UnicodeDecodeError:
        raise InvalidArgument("path", str(path), "a federation file is UTF-8 text") from None


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument("federation file", str(error), "correct the TOML; a party stands in it once") from None


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise InvalidArgument(key, value, f"a federation file has a table [{key}]")
    return value


def _only(table: Mapping[str, object], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise InvalidArgument(where, unknown, f"known are {', '.join(sorted(known))}")


def _read_parties(document: Mapping[str, object]) -> tuple[Peer, ...]:
    stanzas = _table(document, "party") if "party" in document else {}
    return tuple(_read_party(name, stanzas) for name in stanzas)


def _read_party(name: str, stanzas: Mapping[str, object]) -> Peer:
    stanza = _table(stanzas, name)
    _only(stanza, _STANZA, f"[party.{name}]")
    address, certificates = stanza.get("address"), stanza.get("certificates")
    if not isinstance(address, str):
        raise InvalidArgument(f"party.{name}.address", address, 'give one, such as "a.example.org:7001"')
    if not isinstance(certificates, list) or not all(isinstance(pem, str) for pem in certificates):
        raise InvalidArgument(f"party.{name}.certificates", certificates, "give a list of certificates in PEM")
    return Peer(name, address, tuple(pem.strip() + "\n" for pem in certificates))


def _refuse_duplicates(parties: tuple[Peer, ...]) -> None:
    listed: dict[str, list[str]] = {
        "name": [peer.name for peer in parties],
        "address": [":".join(map(str, split_address(peer.address))) for peer in parties],
        "certificates": [fingerprint(pem) for peer in parties for pem in peer.certificates],
    }
    for parameter, values in listed.items():
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise InvalidArgument(parameter, twice, "no two parties share one, and none is listed twice")


def _require_seconds(parameter: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise InvalidArgument(parameter, value, "give a number of seconds above 0")


def _flat(prefix: str, value: object) -> dict[str, str]:
    """Every leaf of nested mappings and lists under its path, as JSON: 1 and "1" differ."""
    if isinstance(value, Mapping):
        children = [(f".{key}" if prefix else str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return {prefix: json.dumps(value, sort_keys=True, default=repr)}
    return {path: leaf for name, inner in children for path, leaf in _flat(prefix + name, inner).items()}


def _shown(flat: Mapping[str, str], key: str) -> str:
    return flat.get(key, _ABSENT)[:_SHOWN_CHARACTERS]


def _new_file(federation: str, protocol: str) -> str:
    document = tomlkit.document()
    document.add(tomlkit.comment("The same file at all parties; compare with `spark-mpc check`."))
    rules = tomlkit.table()
    rules["name"] = party_name(federation, "federation")
    rules["protocol"] = protocol
    rules["timeout_seconds"] = int(_DEFAULT_TIMEOUT_SECONDS)
    rules["rendezvous_seconds"] = int(_DEFAULT_RENDEZVOUS_SECONDS)
    document["federation"] = rules
    return tomlkit.dumps(document)


def _with_certificates(known: Peer, peer: Peer) -> Peer:
    if known.address != peer.address:
        raise InvalidArgument("address", peer.address, f"{peer.name} is in the file at {known.address}: edit it there")
    added = tuple(pem for pem in peer.certificates if pem not in known.certificates)
    return Peer(known.name, known.address, known.certificates + added)


def _stanza(peer: Peer) -> tomlkit.items.Table:
    stanza = tomlkit.table()
    stanza["address"] = peer.address
    stanza["certificates"] = _pem_array(peer.certificates)
    return stanza


def _pem_array(certificates: tuple[str, ...]) -> tomlkit.items.Array:
    array = tomlkit.array()
    for pem in certificates:
        array.append(tomlkit.string(pem, multiline=True))
    return array.multiline(True)
