"""The path of a query or a program over several parties, as one of them walks it.

agree     hello, compare, sign: one run, its keys, what every ledger holds of the release, and that none was set back
reserve   this party's ledger claims the price, durably, and waits for its steward's approval where that is needed
local     bounding and aggregation on this party's Spark
share     under rep3, every party's words towards the three that compute
compute   a program over them
noise     this party's part, once, or drawn under sharing; what can be opened later is stored when the claim is armed
ready     nobody arms before everybody can
arm       durable and final, before the first byte from which a result can follow
open      all have armed, and told where their ledgers end; then the noised cells, to the recipients
commit    the ledger stores the release
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from dp.accounting.budget import Budget
from dp.accounting.ledger import Claim
from dp.execution.leases import LEASE_SECONDS, keep_lease
from dp.execution.local import Vector, staging_for
from dp.execution.one_lake import Source
from dp.execution.release import StoredRelease
from spark_mpc.agreement import Agreement, agree, greet
from spark_mpc.errors import Disagreement, FederationError, RunAborted
from spark_mpc.party import Party, Task
from spark_mpc.ring.masks import Words
from spark_mpc.sums.base import Joint, Work
from spark_mpc.talk import public_reason, take_leave
from spark_mpc.transport.base import RENDEZVOUS
from spark_mpc.witness import other_ledgers, tell_heads

__all__ = ["Outcome", "run_party", "run_together"]

_STORED_OVERHEAD_BYTES = 4 * 1024


@dataclass(frozen=True)
class Outcome:
    """What a recipient holds at the end of a run.

    Attributes:
        stored: the opened cells.
        price: what they cost this owner's ledger, once.
        paid_before: whether they were answered from a stored release: nothing was charged this time.
        notices: what else the recipient has to know: who pays from a ledger never seen before.
    """

    stored: StoredRelease = field(repr=False)
    price: Budget
    paid_before: bool
    notices: tuple[str, ...] = ()


@contextmanager
def _told_to_peers(party: Party, run: bytes) -> Iterator[None]:
    """End the run at every party when it fails here."""
    try:
        yield
    except Disagreement:
        raise  # all parties find it in the same hellos; who took its own back would leave the others waiting for it
    except BaseException as error:
        party.transport.abort(run, public_reason(error))
        raise


def run_party(party: Party, task: Task, source: Source, staging: str | None) -> Outcome | None:
    """Walk the path as one party.

    Args:
        party: who walks.
        task: what is asked; the peers must ask the same.
        source: this party's own rows.
        staging: a private directory for long vectors, if executors are elsewhere.

    Returns:
        What was opened; None for a party that is no recipient.

    Raises:
        Disagreement: a peer means something else; nothing was reserved or sent.
        BudgetExceeded: this party's ledger has less left; nobody has paid.
        ApprovalNeeded: this party's steward wants to be asked, and did not agree in time; nobody has paid.
        DisclosureRefused: this owner's policy does not list what would be opened without noise; nobody has paid.
        LedgerBehind: this party's ledger lacks what a peer has seen of it; nobody has paid.
        PeerLost, AbortedByPeer: a peer is gone or gave up. Ledgers that had armed have paid, the others have not.

    Guarantees: a result anywhere means that every contributor's ledger had armed. Of what is raised here the peers are
        told the kind of error, nothing more, unless it concerns what is public between parties anyway.
    """
    price = task.price(party.ledger.capacity)  # checked against this ledger's kind before anybody is bothered
    with _told_to_peers(party, RENDEZVOUS):
        party.enter("agree")
        greeting = greet(party, task, source)
        party.transport.begin(greeting.run)
    with _told_to_peers(party, greeting.run):
        # before the signature: all hear of a refusal, and nobody goes on without every party's word
        task.require_permission(party.policy, source.data_version)
        agreement = agree(party, task, greeting)
        notices = other_ledgers(party, agreement.ledgers)
        if agreement.holders:
            tell_heads(party, agreement.run, "ready", party.ledger.head(), agreement.ledgers)
            stored = _fetched(party, task, agreement)
        else:
            stored = _contributed(party, task, source, agreement, staging)
    take_leave(party.transport, greeting.run)
    party.enter("release")
    if stored is None:
        return None
    return Outcome(stored, price, paid_before=bool(agreement.holders), notices=notices)


def run_together(run: Callable[[Party], Outcome | None], parties: Sequence[Party]) -> Outcome | None:
    """Every party of this process at once; what the first recipient holds is returned.

    Raises:
        Exception: what went wrong first, not its echo at the parties that were told of it.
    """
    with ThreadPoolExecutor(len(parties)) as pool:
        futures = [pool.submit(run, party) for party in parties]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, RunAborted)):
        raise error
    return next((outcome for future in futures if (outcome := future.result()) is not None), None)


def _contributed(
    party: Party, task: Task, source: Source, agreement: Agreement, staging: str | None
) -> StoredRelease | None:
    resumes = agreement.resumes(party.name)
    resumable = party.ledger.resumable(agreement.release_key) if resumes else None
    if resumes and resumable is None:  # a fresh draw now would be a second one beside the peers' resumed vectors
        raise FederationError("this party's ledger has changed since it agreed to resume: run the query again")
    with ExitStack() as stack:
        directory = stack.enter_context(staging_for(task.length, source.spark, staging, party.long_cells))
        joint = stack.enter_context(task.joint(_work(party, task, source, agreement, directory)))
        if resumable is not None:  # paid before: the same noised vector, under this attempt's masks
            claim = resumable.claim
            joint.resume(resumable.noised)
            _ready(party, agreement)
        else:
            claim = _prepared_and_armed(
                party, task, source, agreement, lambda exact: joint.prepare(exact.staged(directory))
            )
        armed = party.ledger.head()
        party.enter("open")
        # every party's veto ends here: with an upload of its own it would have one, with shares it has not
        tell_heads(party, agreement.run, "armed", armed, agreement.ledgers)
        return _opened(party, agreement, claim, joint)


def _work(party: Party, task: Task, source: Source, agreement: Agreement, directory: str) -> Work:
    return Work(
        me=party.name,
        file=party.federation,
        transport=party.transport,
        run=agreement.run,
        recipients=task.recipients,
        secrets=agreement.secrets,
        spark=source.spark,
        directory=directory,
        enter=party.enter,
    )


def _prepared_and_armed(
    party: Party, task: Task, source: Source, agreement: Agreement, prepare: Callable[[Vector], bytes]
) -> Claim:
    party.enter("reserve")
    reserved = party.ledger.reserve(
        request_id=agreement.run.hex(),
        price=task.price(party.ledger.capacity),
        table=source.name,
        data_version=source.data_version,
        release_key=agreement.release_key,
        run_id=agreement.run.hex(),
        purpose=task.purpose,
        lease_seconds=LEASE_SECONDS,
        disclosure=task.disclosure,
        blocks=source.blocks,
        layout=source.layout,
    )
    with keep_lease(party.ledger, reserved) as lease:
        # Peers go on to what needs this party and wait there: however long, because its heartbeats answer.
        party.ledger.await_approval(reserved, lambda: party.transport.check(agreement.run))
        party.enter("local")
        stored = prepare(task.exact(party, source))
        _ready(party, agreement)
        party.transport.check(agreement.run)  # a run that is over already would be paid for nothing
    claim = lease.claim  # nobody renews it any more
    party.enter("arm")
    party.ledger.arm(claim, stored)
    return claim


def _ready(party: Party, agreement: Agreement) -> None:
    """Nobody arms before everybody can, and before every ledger contains what the others have seen of it."""
    party.enter("ready")
    tell_heads(party, agreement.run, "ready", party.ledger.head(), agreement.ledgers)


def _opened(party: Party, agreement: Agreement, claim: Claim, joint: Joint) -> StoredRelease | None:
    def commit(total: Words | None) -> StoredRelease | None:
        stored = None if total is None else StoredRelease(agreement.run.hex(), total)
        party.enter("commit")
        party.ledger.commit(claim, None if stored is None else stored.to_bytes())
        return stored

    return joint.open(commit)


def _fetched(party: Party, task: Task, agreement: Agreement) -> StoredRelease | None:
    """The release is paid for and somebody has it: recipients who lost it get it from the first who holds it."""
    holder, *_ = agreement.holders
    missing = [name for name in task.recipients if agreement.standings[name] != "release"]
    stored = party.ledger.stored_release(agreement.release_key)
    if party.name == holder and stored is not None:
        for name in missing:
            with suppress(FederationError):  # who is lost meanwhile asks again, and keeps nobody else from it
                party.transport.send(name, agreement.run, "release", stored)
    if stored is None and party.name in missing:
        stored = _received_release(party, task, agreement, holder)
    return None if stored is None else task.read(stored)


def _received_release(party: Party, task: Task, agreement: Agreement, holder: str) -> bytes:
    paid = party.ledger.resumable(agreement.release_key)
    if paid is None:
        remedy = "open the ledger that paid, or ask the steward where it is"
        raise FederationError(f"{holder} holds this release, but this ledger has not paid for it: {remedy}")
    limit = 8 * task.length + _STORED_OVERHEAD_BYTES
    data = party.transport.receive(holder, agreement.run, "release", limit)
    task.read(data)
    party.ledger.commit(paid.claim, data)
    return data
