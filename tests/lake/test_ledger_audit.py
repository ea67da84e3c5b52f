"""The audit log: read, chained, carried out again; a hand in the tables is found, and an older copy is told apart."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import psycopg
import pytest

from benchmarks._postgres import PostgresServer
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP, budget_to_json, summed
from lake.blocks import TIME, Blocks
from lake.errors import LedgerBehind, LedgerError
from lake.ledger import Head, Ledger, Steward
from lake.ledger.audit import BY_HAND
from lake.ledger.balances import made_block
from lake.ledger.heads import PeerHead
from lake.ledger.postgres import PostgresStore, is_address
from lake.ledger.rows import Request
from lake.ledger.schema import METADATA
from lake.ledger.store import GENESIS, chained
from lake.scheduling import DPF, ByArrivals
from tests.tools.ledgers import Clock, Place, reserve

DAY = 86_400
VISITS = Blocks.every("1 day", "admitted", since="1970-01-11", name="visits")
NOTHING = '{"epsilon": "0", "kind": "pure"}'


def everything_happens(ledger: Ledger, clock: Clock, unit: Callable[[str], Budget]) -> None:
    """Every kind of event: claims that end in every way, blocks, a child of a claim, settings, an approval."""
    steward = Steward(ledger)
    for request, ending in (("spent", "commit"), ("given back", "release"), ("lapsed", ""), ("armed", "arm")):
        claim = reserve(ledger, request, unit("0.1"), key=request)
        if ending in ("arm", "commit"):
            ledger.arm(claim, b"secret")
        if ending == "commit":
            ledger.commit(claim, b"release", plan="{}")
        if ending == "release":
            ledger.release(claim)
    clock.now += 61
    steward.lay_out(VISITS, capacity=unit("0.2"))
    steward.schedule(DPF(ByArrivals(2)))
    steward.require_approval(unit("0.15"), wait_seconds=0)
    with ledger.claim(VISITS, TIME >= "1970-01-12", demand=unit("0.1"), owner="ann") as claim:
        for request in ("child", "child that ends before"):
            ticket = claim.reserve(
                request_id=request,
                price=unit("0.04"),
                table="visits",
                data_version="v",
                release_key=request,
                run_id="r",
                purpose="p",
                lease_seconds=60,
                blocks=claim.blocks[:1],
                layout=VISITS.fingerprint,
            )
            if request == "child":
                claim.arm(ticket, b"")
                claim.commit(ticket, b"release", plan="{}")
            else:
                claim.release(ticket)
    dear = reserve(ledger, "dear", unit("0.16"), key="dear")
    steward.approve(int(dear.claim_id))
    ledger.release(dear)
    reserve(ledger, "held", unit("0.01"), key="held", lease_seconds=10**6)


@pytest.fixture
def clock() -> Clock:
    made = Clock()
    made.now = 12.5 * DAY
    return made


@pytest.fixture
def place(new_place: Place) -> str:
    return new_place()


@pytest.fixture
def ledger(place: str, clock: Clock) -> Iterator[Ledger]:
    """A ledger in which everything has happened."""
    with Ledger.create(place, capacity=PureDP("1"), clock=clock) as made:
        everything_happens(made, clock, PureDP)
        yield made


def by_hand(place: str, *statements: str) -> None:
    """What its owner can do who takes the guards away first."""
    if is_address(place):
        connection = PostgresStore(place, None)._connection
        guards = [f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in METADATA.tables]
        with closing(connection):
            for statement in (*guards, *statements):
                connection.execute(statement.encode())
        return
    with closing(sqlite3.connect(place, isolation_level=None)) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for statement in (*(f"DROP TRIGGER {name}" for (name,) in names), *statements):
            db.execute(statement)


def last(ledger: Ledger, kind: str) -> int:
    """The number of the last event of a kind."""
    return max(event.sequence for event in ledger.events() if event.fields["event"] == kind)


# -- the log as it should be -------------------------------------------------------------------------------------------


def test_events_are_numbered_timed_and_chained(ledger: Ledger, clock: Clock) -> None:
    events = ledger.events()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].fields["event"] == "created"
    assert events[-1].head == ledger.head()
    assert events[-1].at == clock.now
    hashes = ["", *(event.hash for event in events)]
    assert all(event.hash == chained(hashes[i], event.event) for i, event in enumerate(events))
    assert ledger.events(after=len(events) - 2) == events[-2:]
    assert {event.fields["event"] for event in events} >= {
        "created", "reserved", "armed", "spent", "stored", "released", "laid out", "charged", "block made", "settings",
        "approved",
    }  # fmt: skip


def test_an_event_is_written_in_one_way(ledger: Ledger) -> None:
    """Whoever compares two logs, or hashes what an event says, need not read it first."""
    assert [event.event for event in ledger.events()] == [
        json.dumps(event.fields, sort_keys=True) for event in ledger.events()
    ]


@pytest.mark.parametrize(
    "price", [PureDP("2/16"), ZCDP("1/8"), ApproxDP("1/8", "1e-9"), RenyiDP({10: "1/8", 2: "1/3"})]
)
def test_it_names_the_blocks_of_a_claim_in_order_whatever_their_names(tmp_path: Path, price: Budget) -> None:
    names = ["z", "\u00e9\u2028", 'a"\\', "b"]  # by hand a block can be given any
    with Ledger.create(tmp_path / "ledger", capacity=summed([(price, 8)], price)) as ledger:
        with ledger.books() as books:
            for name in names:
                made_block(books.tx, name, "", ledger.capacity, unlocked=Fraction(1), at=books.tx.now)
            demand = {name: summed([(price, 1 + place % 3)], price) for place, name in enumerate(names)}
            books.reserve(Request("several", 60.0, demand))
        event = ledger.events()[-1]
    assert event.event == json.dumps(event.fields, sort_keys=True)
    assert event.fields["demand"] == {name: budget_to_json(amount) for name, amount in demand.items()}


def test_nothing_secret_is_in_the_log(ledger: Ledger) -> None:
    assert not [event for event in ledger.events() if "secret" in event.event]


def test_the_log_carried_out_again_gives_the_ledger(ledger: Ledger, place: str, clock: Clock) -> None:
    assert ledger.verify() == ledger.head()
    with Ledger.open(place, clock=clock) as again:  # which makes spent of what is armed
        assert again.verify() == again.head()
    clock.now += 2 * 10**6
    ledger.balance()  # which ends what has lapsed
    assert ledger.verify() == ledger.head()


def test_of_a_ledger_of_renyi_orders_too(new_place: Place, clock: Clock) -> None:
    """Where an order is used up its amount is negative, in tables and in events."""
    with Ledger.create(new_place(), capacity=RenyiDP({2: 1, 8: "0.1"}), clock=clock) as ledger:
        everything_happens(ledger, clock, lambda amount: RenyiDP({2: amount, 8: amount}))
        test_an_event_is_written_in_one_way(ledger)
        assert ledger.verify() == ledger.head()


def test_claims_that_wait_and_fail(new_place: Place, clock: Clock) -> None:
    with Ledger.create(new_place(), capacity=PureDP("1"), clock=clock) as ledger:
        Steward(ledger).lay_out(VISITS, capacity=PureDP("0.5"))
        Steward(ledger).schedule(DPF(ByArrivals(100)))
        with pytest.raises(Exception, match="asked"), ledger.claim(VISITS, demand=PureDP("0.4")):
            pass
        kinds = {event.fields["event"] for event in ledger.events()}
        assert {"waiting", "failed"} <= kinds
        assert ledger.verify() == ledger.head()


# -- a hand in the tables ----------------------------------------------------------------------------------------------

TAMPERED: dict[str, tuple[str, Callable[[Ledger], int], str]] = {
    "an event": (
        "UPDATE audit SET event = replace(event, '1/25', '1/1000') WHERE sequence = {n}",
        lambda ledger: last(ledger, "armed"),
        "audit event {n} is not the one that was hashed",
    ),
    "the time of an event": (
        "UPDATE audit SET at = at - 86400 WHERE sequence = {n}",
        lambda ledger: 3,
        "audit event {n} is not the one that was hashed",
    ),
    "an event that is taken out": ("DELETE FROM audit WHERE sequence = {n}", lambda _: 4, "audit event {n} is missing"),
    "the beginning": ("DELETE FROM audit WHERE sequence = 1", lambda _: 1, "audit event {n} is missing"),
    "all events": ("DELETE FROM audit", lambda _: 1, "audit event {n} makes no ledger"),
    "consumed budget": (
        f"UPDATE blocks SET consumed = '{NOTHING}' WHERE name = 'whole'",
        lambda ledger: last(ledger, "reserved"),  # the last that moved anything of the whole
        "audit event {n} leaves block 'whole' with epsilon=0.4 consumed, the ledger says epsilon=0",
    ),
    "acquired budget": (
        f"UPDATE blocks SET acquired = '{NOTHING}' WHERE name = 'whole'",
        lambda ledger: last(ledger, "reserved"),
        "audit event {n} leaves block 'whole' with epsilon=0.01 acquired",
    ),
    "an amount that is none": (
        "UPDATE blocks SET consumed = 'nothing' WHERE name = 'whole'",
        lambda _: 0,
        "a row cannot be read (JSONDecodeError)",
    ),
    "a capacity": (
        'UPDATE ledger SET capacity = \'{{"epsilon": "2", "kind": "pure"}}\'',
        lambda _: 1,
        "audit event {n} gave epsilon=1, the ledger says epsilon=2",
    ),
    "another name": ("UPDATE ledger SET ledger_id = 'other'", lambda _: 1, "audit event {n} made ledger"),
    "a state": (
        "UPDATE claims SET state = 'released' WHERE request_id = 'spent'",
        lambda ledger: next(e.sequence for e in ledger.events() if e.fields["event"] == "spent"),
        "audit event {n} says of claim 1 state spent, the ledger says released",
    ),
    "a price": (
        'UPDATE claims SET price = \'{{"epsilon": "1/100", "kind": "pure"}}\' WHERE request_id = \'spent\'',
        lambda ledger: next(e.sequence for e in ledger.events() if e.fields["event"] == "spent"),
        "audit event {n} says of claim 1 amounts",
    ),
    "a release key": (
        "UPDATE claims SET release_key = 'other' WHERE request_id = 'spent'",
        lambda ledger: next(e.sequence for e in ledger.events() if e.fields["event"] == "spent"),
        "audit event {n} says of claim 1 release key spent, the ledger says other",
    ),
    "a settings row": (
        "UPDATE ledger SET settings = '{{}}'",
        lambda ledger: last(ledger, "settings"),
        "audit event {n} says otherwise of the settings",
    ),
    "a layout": (
        'UPDATE layouts SET capacity = \'{{"epsilon": "9", "kind": "pure"}}\'',
        lambda ledger: last(ledger, "laid out"),
        "audit event {n} says otherwise of layout 'visits'",
    ),
    "an approval": (
        'UPDATE approvals SET price = \'{{"epsilon": "9", "kind": "pure"}}\'',
        lambda ledger: last(ledger, "approved"),
        "audit event {n} says otherwise of approval of 'dear'",
    ),
    "a stored release": (
        "DELETE FROM releases WHERE release_key = 'spent'",
        lambda ledger: next(e.sequence for e in ledger.events() if e.fields["event"] == "stored"),
        "audit event {n} says otherwise of release 'spent'",
    ),
    "an approval that nobody gave": (
        f"INSERT INTO approvals VALUES ('mine', '{NOTHING}', 0)".replace("{", "{{").replace("}", "}}"),
        lambda _: 0,
        "no audit event says what is written of approval of 'mine'",
    ),
    "a block that nobody made": (
        "INSERT INTO blocks SELECT 'visits/1970-01-11', layout, capacity, unlocked, unlocked_at, acquired, consumed,"
        " created_at FROM blocks WHERE name = 'visits/1970-01-12'",
        lambda _: 0,
        "no audit event makes block 'visits/1970-01-11'",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_changed_by_hand_is_found_and_named(ledger: Ledger, place: str, what: str) -> None:
    statement, first_wrong, said = TAMPERED[what]
    number = first_wrong(ledger)
    by_hand(place, statement.format(n=number) if "{n}" in statement or "{{" in statement else statement)
    with pytest.raises(LedgerError) as raised:
        ledger.verify()
    assert said.format(n=number) in str(raised.value)
    assert BY_HAND in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_last_events_taken_out_are_missed(ledger: Ledger, place: str) -> None:
    by_hand(place, f"DELETE FROM audit WHERE sequence = {ledger.head().sequence}")
    with pytest.raises(LedgerError, match="its claims hold epsilon"):
        ledger.verify()


def test_a_log_that_was_written_anew_is_found_by_what_it_says(ledger: Ledger, place: str) -> None:
    """Whoever changes an event and hashes all after it again has a good chain, and another ledger than the tables."""
    number, hashed, statements = last(ledger, "armed"), "", []
    for event in ledger.events():
        text = event.event.replace('"1/25"', '"1/1000"') if event.sequence == number else event.event
        hashed = chained(hashed, text)
        quoted = text.replace("'", "''")
        statements.append(f"UPDATE audit SET event = '{quoted}', hash = '{hashed}' WHERE sequence = {event.sequence}")
    kept = Head(ledger.head().sequence, ledger.head().hash)
    by_hand(place, *statements)
    with pytest.raises(LedgerError, match=rf"audit event {number} \(armed\) says .* which held"):
        ledger.verify()
    with pytest.raises(LedgerBehind, match="has another audit event"):
        ledger.check_head(kept, "the auditor")


def test_an_event_of_an_unknown_kind_is_refused(ledger: Ledger, place: str) -> None:
    head, text = ledger.head(), '{"event": "refunded"}'
    values = f"({head.sequence + 1}, 0, '{text}', '{chained(head.hash, text)}')"
    by_hand(place, f"INSERT INTO audit VALUES {values}")
    with pytest.raises(LedgerError, match=f"audit event {head.sequence + 1} is of an unknown kind 'refunded'"):
        ledger.verify()


# -- heads -------------------------------------------------------------------------------------------------------------


def test_every_head_that_was_ever_seen_is_contained(ledger: Ledger) -> None:
    for head in (GENESIS, *(event.head for event in ledger.events())):
        ledger.check_head(head, "b")


def test_a_head_that_it_lacks_says_who_saw_it_and_what_to_do(ledger: Ledger) -> None:
    head = ledger.head()
    with pytest.raises(LedgerBehind, match=rf"lacks audit event {head.sequence + 3}, which b has seen.*treat the diff"):
        ledger.check_head(Head(head.sequence + 3, head.hash), "b")
    with pytest.raises(LedgerBehind, match=f"another audit event {head.sequence} than b has seen"):
        ledger.check_head(Head(head.sequence, "0" * 64), "b")


def older_copy(ledger: Ledger, place: str, tmp_path: Path, server: Callable[[], PostgresServer]) -> Callable[[], str]:
    """A backup of the ledger as it stands; restoring it gives its place."""
    if not is_address(place):
        copy = tmp_path / "backup"
        with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return lambda: str(copy)
    ledger.close()  # a template must be at rest
    database, copy_name = place.rpartition("?")[0].rpartition("/")[2], f"backup_{tmp_path.name[:40].lower()}"
    with psycopg.connect(server().url(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{copy_name}" TEMPLATE "{database}"'.encode())
    return lambda: place.replace(f"/{database}?", f"/{copy_name}?")


def test_an_older_copy_lacks_what_was_seen_and_goes_another_way(
    place: str, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = Ledger.create(place, capacity=PureDP("1"), clock=clock)
    reserve(made, "before")
    restore = older_copy(made, place, tmp_path, lambda: request.getfixturevalue("postgres"))
    made.close()
    with Ledger.open(place, clock=clock) as went_on:
        went_on.arm(reserve(went_on, "spent"), b"")
        seen = went_on.head()
    with Ledger.open(restore(), clock=clock) as copy:
        assert copy.spent() == PureDP(0)
        with pytest.raises(LedgerBehind, match="lacks"):
            copy.check_head(seen, "b")
        for number in range(4):
            copy.release(reserve(copy, f"other {number}"))
        assert copy.head().sequence > seen.sequence
        assert copy.verify() == copy.head()  # it is a sound ledger; only others know that it is not this one
        with pytest.raises(LedgerBehind, match="another"):
            copy.check_head(seen, "b")


def test_of_each_ledger_of_a_peer_the_newest_head_is_kept(ledger: Ledger, clock: Clock) -> None:
    first, second = ("1" * 32, "2" * 32)
    before = ledger.head()
    ledger.keep_heads([PeerHead("b", first, Head(5, "five")), PeerHead("c", "3" * 32, Head(1, "one"))])
    clock.now += 1
    ledger.keep_heads([PeerHead("b", first, Head(4, "four"))])
    ledger.keep_heads([PeerHead("b", second, Head(2, "two"))])
    kept = [(peer.party, peer.ledger_id, peer.head) for peer in ledger.peer_heads()]
    assert kept == [
        ("b", first, Head(5, "five")), ("b", second, Head(2, "two")), ("c", "3" * 32, Head(1, "one")),
    ]  # fmt: skip
    clock.now += 1
    ledger.keep_heads([PeerHead("b", first, Head(6, "six"))])
    assert [peer.head.sequence for peer in ledger.peer_heads() if peer.party == "b"] == [2, 6]
    assert ledger.head() == before  # what others did is no event of this ledger
    assert ledger.verify() == before


def test_a_claim_that_is_held_open_is_witnessed_like_its_ledger(ledger: Ledger) -> None:
    Steward(ledger).require_approval(None)
    with ledger.claim(demand=PureDP("0.01")) as claim:
        claim.keep_heads([PeerHead("b", "1" * 32, Head(5, "five"))])
        assert claim.peer_heads() == ledger.peer_heads()
        assert claim.head() == ledger.head()
        claim.check_head(claim.head(), "b")
        with pytest.raises(LedgerBehind):
            claim.check_head(Head(10**6, "x"), "b")
