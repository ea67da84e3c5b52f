"""The first step of a run: greet, compare, sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dp._about import __version__
from dp.accounting.ledger import BudgetLedger
from dp.execution.one_lake import Source
from dp.planning.query import digest
from spark_mpc.errors import Disagreement, SignatureRefused
from spark_mpc.handshake import (
    Agreed,
    Hello,
    Standing,
    compare,
    head_from_bytes,
    head_to_bytes,
    pair_secrets,
    shortened,
    transcript,
)
from spark_mpc.identity import AttemptKey, verify
from spark_mpc.party import Party, Task
from spark_mpc.talk import exchange, exchange_each
from spark_mpc.transport.base import RENDEZVOUS
from spark_mpc.witness import check_witness, heads_seen

__all__ = ["Agreement", "Greeting", "agree", "greet"]

_HELLO_BYTES = 64 * 1024
_AGREED_BYTES = 4 * 1024


@dataclass(frozen=True)
class Greeting:
    """All hellos of an attempt, compared and found equal in what they mean.

    Attributes:
        run: their transcript.
        hellos: by party, this one's among them.
        attempt_key: the private half of this party's.
    """

    run: bytes
    hellos: Mapping[str, Hello]
    attempt_key: AttemptKey = field(repr=False)

    @property
    def ledgers(self) -> dict[str, str]:
        """The id of every party's ledger."""
        return {name: hello.ledger for name, hello in self.hellos.items()}


@dataclass(frozen=True)
class Agreement:
    """One run among parties that mean the same.

    Attributes:
        run: its id.
        release_key: names the release in every ledger: the task and all data versions.
        secrets: what this party shares with each other in this attempt.
        standings: what every party's ledger holds of the release.
        ledgers: the id of every party's ledger.
    """

    run: bytes
    release_key: str
    secrets: Mapping[str, bytes] = field(repr=False)
    standings: Mapping[str, Standing]
    ledgers: Mapping[str, str]

    def resumes(self, party: str) -> bool:
        """Whether a party has paid before and masks its stored vector afresh."""
        return self.standings[party] == "noised"

    @property
    def holders(self) -> list[str]:
        """Parties whose ledger has the result already."""
        return sorted(party for party, standing in self.standings.items() if standing == "release")


def greet(party: Party, task: Task, source: Source) -> Greeting:
    """Exchange hellos and compare them.

    Raises:
        Disagreement: a peer means something else; it names every difference. Nothing was sent but the hello.
    """
    attempt_key = AttemptKey()
    mine = Hello(
        party=party.name,
        version=__version__,
        protocol=task.protocol,
        federation=party.federation.public(),
        task=shortened(task.to_json()),
        data_version=source.data_version,
        ledger=party.ledger.ledger_id,
        nonce=Hello.fresh_nonce(),
        attempt_key=attempt_key.public.hex(),
    )
    answers = exchange(party.transport, RENDEZVOUS, "hello", mine.to_bytes(), _HELLO_BYTES)
    hellos = {peer: Hello.from_bytes(data, peer) for peer, data in answers.items()}
    for theirs in hellos.values():
        compare(mine, theirs)
    hellos[party.name] = mine
    _require_own_ledgers(hellos)
    return Greeting(transcript(hellos), hellos, attempt_key)


def _require_own_ledgers(hellos: Mapping[str, Hello]) -> None:
    """A copy of a ledger at another party would be a budget that nobody gave."""
    owners: dict[str, str] = {}
    for party in sorted(hellos):
        first = owners.setdefault(hellos[party].ledger, party)
        if first != party:
            raise Disagreement([f"ledger: {first} and {party} pay from the same one, {hellos[party].ledger}"])


def agree(party: Party, task: Task, greeting: Greeting) -> Agreement:
    """Sign the run, check the peers' signatures, and derive this attempt's keys.

    Raises:
        SignatureRefused: a peer's signature is not by a certificate that is pinned for it, over this run.
        LedgerBehind: this party's ledger lacks what a peer has seen of it.
    """
    run, versions = greeting.run, {name: hello.data_version for name, hello in greeting.hellos.items()}
    key = digest({"task": task.to_json(), "data_versions": versions}).hex()
    standing = _standing(party.ledger, key)
    seen = {peer: head_to_bytes(head).hex() for peer, head in heads_seen(party, greeting.ledgers).items()}
    words = {peer: _signed(party, run, standing, head).to_bytes() for peer, head in seen.items()}
    answers = exchange_each(party.transport, run, "agree", words, _AGREED_BYTES)
    agreed = {peer: Agreed.from_bytes(data, peer) for peer, data in answers.items()}
    for peer, theirs in agreed.items():
        _verify(party.federation.peer(peer).certificates, theirs, run, peer)
    check_witness(party, {peer: head_from_bytes(bytes.fromhex(theirs.seen), peer) for peer, theirs in agreed.items()})
    standings = {party.name: standing} | {peer: theirs.standing for peer, theirs in agreed.items()}
    keys = pair_secrets(party.name, greeting.attempt_key, greeting.hellos)
    return Agreement(run, key, keys, standings, greeting.ledgers)


def _signed(party: Party, run: bytes, standing: Standing, seen: str) -> Agreed:
    return Agreed(party.identity.sign(Agreed.signed_content(run, party.name, standing, seen)).hex(), standing, seen)


def _standing(ledger: BudgetLedger, release_key: str) -> Standing:
    if ledger.stored_release(release_key) is not None:
        return "release"
    resumable = ledger.resumable(release_key)
    return "noised" if resumable is not None and resumable.noised else "new"


def _verify(certificates: tuple[str, ...], theirs: Agreed, run: bytes, peer: str) -> None:
    """One of the peer's pinned certificates signed (it has several while it rotates them)."""
    content = Agreed.signed_content(run, peer, theirs.standing, theirs.seen)
    for certificate in certificates:
        try:
            return verify(certificate, theirs.signature_bytes, content)
        except SignatureRefused:
            continue
    raise SignatureRefused(f"agreement of {peer}: not signed by a certificate that is pinned for it")
