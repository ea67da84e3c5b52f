"""What a server does of a claim in one call (`steps.sql`): the same as transactions do, only where nothing is in the
way, and durably before anybody hears of it."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from socket import socket
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, select

from benchmarks._postgres import PostgresServer
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import EntryState
from dp.errors import BudgetExceeded, SparkMpcError
from lake.blocks import Blocks
from lake.errors import ApprovalNeeded, ClaimLost, LeaseExpired, LedgerError
from lake.ledger import Ledger, Steward, postgres
from lake.ledger.postgres import PostgresStore
from lake.ledger.rows import Request
from lake.ledger.schema import audit, blocks, claims, releases
from lake.ledger.selection import Named
from lake.ledger.store import Row, Store
from lake.scheduling import DPF, ByArrivals
from tests.tools.ledgers import Clock, Place, reserve, state
from tests.tools.postgres import started
from tests.tools.postgres_relay import Relay

pytestmark = pytest.mark.slow

DAYS = Blocks.every("1 day", "day", since="1970-01-11", name="visits")
DAY, NEXT_DAY = "visits/1970-01-11", "visits/1970-01-12"
TABLES = [select(table).order_by(*table.primary_key) for table in (blocks, claims, releases, audit)]

KINDS: dict[str, tuple[Budget, Callable[[int], Budget]]] = {
    "pure": (PureDP(2), lambda parts: PureDP(f"{parts}/210")),
    "approx": (ApproxDP(2, "1/1000"), lambda parts: ApproxDP(f"{parts}/210", f"{parts}/999999")),
    "zcdp": (ZCDP("4/3"), lambda parts: ZCDP(f"{parts}/77")),
    "renyi": (
        RenyiDP({"1.5": "1/1000", 2: "1/2", 16: 3, 100: 1}),
        lambda parts: RenyiDP({"1.5": f"{parts}/5", 2: f"{parts}/70", 16: f"{parts}/3", 100: f"{parts}/50"}),
    ),
}


class OnlyTransactions:
    """A server's store without its procedures."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def at_once(self, step: str, *arguments: Any) -> Row | None:
        return None


@pytest.fixture
def new_place(postgres: PostgresServer) -> Place:
    """Fresh places on the server."""
    database, names = postgres.create_database(), iter(range(99))
    return lambda: postgres.url(database, ledger=f"ledger_{next(names)}")


@pytest.fixture
def ledger(new_place: Place, clock: Clock) -> Iterator[Ledger]:
    with Ledger.create(new_place(), capacity=PureDP(1), clock=clock) as made:
        yield made


def tables(ledger: Ledger) -> list[list[Row]]:
    with ledger._store.transaction() as tx:
        return [tx.rows(table) for table in TABLES]


def facts(ledger: Ledger) -> list[object]:
    """Every row of every table, but for random names; of the audit log what its events say."""
    of_blocks, of_claims, of_releases, _ = tables(ledger)
    of_claims[0] = (1, "the layout's", *of_claims[0][2:])
    events = [event.fields for event in ledger.events()]
    events[0]["ledger"] = "made just now"
    return [of_blocks, of_claims, of_releases, events]


def asked(name: str, choice: Named, lease: float = 60.0, key: str = "") -> tuple[Request, Named]:
    request = Request(name, lease, table='a "table"', purpose="ward\n\\ 'and' Straße", release_key=key or name)
    return request, choice


# --- the same as transactions


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_leaves_what_transactions_leave(new_place: Place, clock: Clock, kind: str) -> None:
    capacity, priced = KINDS[kind]
    place = new_place()
    with (
        Ledger.create(new_place(), capacity=capacity, clock=clock) as calls,
        Ledger.create(place, capacity=capacity, clock=clock) as made,
        Ledger(OnlyTransactions(PostgresStore(place, clock))) as transactions,
    ):
        calls._ledger_id = transactions._ledger_id = made._ledger_id
        for steward in (Steward(calls), Steward(made)):
            steward.lay_out(DAYS, capacity=priced(40))
        for seed in range(40):
            outcomes = [taken(ledger, priced, random.Random(seed), clock) for ledger in (calls, transactions)]
            assert outcomes[0] == outcomes[1]
            clock.now += 0.37
        assert facts(calls) == facts(transactions)
        states = {entry.state for entry in calls.entries()}
        assert states >= {"spent", "armed", "reserved"}
        assert calls.verify().sequence == made.verify().sequence >= 60


def taken(ledger: Ledger, priced: Callable[[int], Budget], chance: random.Random, clock: Clock) -> list[object]:
    """A claim and some of its steps; what each of them said."""
    places = chance.choice([("whole",), (DAY,), (DAY, NEXT_DAY), (NEXT_DAY, DAY)])
    layout = "" if places == ("whole",) else chance.choice(["", DAYS.fingerprint])
    number = chance.randrange(10**9)
    choice = Named(places, priced(chance.choice([1, 2, 3, 7])), layout)
    said: list[object] = []
    try:
        row = ledger.ask(*asked(f"job {number}", choice, key=chance.choice(["", "shared"])))
        said.append(row)
        ticket = row.ticket(ledger.ledger_id)
        if chance.random() < 0.8:
            ledger.arm(ticket, chance.randbytes(9))
            if chance.random() < 0.8:
                ledger.commit(ticket, chance.choice([None, chance.randbytes(5)]), plan="{}")
    except SparkMpcError as error:
        said.append((type(error), str(error).partition(" on ledger")[0]))
    return said


def test_a_block_that_needs_no_making_is_claimed_in_one_call(ledger: Ledger) -> None:
    """By the rule as it was laid out, by none, and not by another of that name."""
    Steward(ledger).lay_out(DAYS, capacity=PureDP("1/2"))
    reserve_blocks(ledger, "makes it", DAYS.fingerprint)
    assert called(ledger, "r1", (DAY,), layout=DAYS.fingerprint)
    assert called(ledger, "r2", (DAY,), layout="")
    other = Blocks.every("2 days", "day", since="1970-01-11", name="visits")
    assert not called(ledger, "r3", (DAY,), layout=other.fingerprint)


def reserve_blocks(ledger: Ledger, name: str, layout: str) -> None:
    ledger.ask(*asked(name, Named((DAY,), PureDP("1/100"), layout)))


def called(
    ledger: Ledger, name: str = "new", names: tuple[str, ...] = ("whole",), price: str = "1/10", layout: str = ""
) -> bool:
    """Whether the procedure alone makes a claim."""
    text = f'{{"epsilon": "{price}", "kind": "pure"}}'
    record = ("owner", "table", "1", "key", "run", "purpose")
    return ledger._store.at_once("claim", json.dumps(names), text, layout, name, *record, 60.0, 0.0, 1) is not None


# --- only where nothing is in the way


def waits(ledger: Ledger) -> dict[str, Any]:
    reserve(ledger, "most", "0.9")
    assert ledger.ask(Request("w", 60, timeout_seconds=60), Named(("whole",), PureDP("0.9"), "")).state == "waiting"
    return {}


def overdue(ledger: Ledger, clock: Clock) -> dict[str, Any]:
    reserve(ledger, "r", lease_seconds=5)
    clock.now += 5
    return {}


def locked(ledger: Ledger) -> dict[str, Any]:
    Steward(ledger).lay_out(DAYS, capacity=PureDP("1/2"))
    Steward(ledger).schedule(DPF(ByArrivals(20)))
    ledger.ask(*asked("makes it", Named((DAY,), PureDP("1/1000"), "")))
    return {"names": (DAY,), "price": "1/1000"}


IN_THE_WAY: dict[str, Callable[[Ledger, Clock], dict[str, Any]]] = {
    "the request was made": lambda ledger, clock: {"name": reserve(ledger, "old").request_id},
    "somebody waits": lambda ledger, clock: waits(ledger),
    "a lease is over": overdue,
    "there is no room": lambda ledger, clock: {"price": "11/10"},
    "there is no room any more": lambda ledger, clock: {"price": "1/10"} if reserve(ledger, "r", "0.95") else {},
    "there is no such block": lambda ledger, clock: {"names": ("whole", "visits/1970-01-11")},
    "nothing is asked": lambda ledger, clock: {"price": "0"},
    "nothing is unlocked": lambda ledger, clock: locked(ledger),
}


@pytest.mark.parametrize("way", IN_THE_WAY)
def test_a_claim_with_something_in_its_way_is_left_to_a_transaction(ledger: Ledger, clock: Clock, way: str) -> None:
    arguments = IN_THE_WAY[way](ledger, clock)
    before = tables(ledger)
    assert not called(ledger, **arguments)
    assert tables(ledger) == before


@pytest.mark.parametrize("price", ["-1/10", "1/0", "0.1", "NaN", ""])
def test_a_price_that_is_no_fraction_is_refused(ledger: Ledger, price: str) -> None:
    before = tables(ledger)
    with pytest.raises(LedgerError, match="an amount is a fraction"):
        called(ledger, price=price)
    assert tables(ledger) == before


def test_a_text_is_taken_whole_or_refused(ledger: Ledger) -> None:
    """None ends at a zero byte, where a name of C does."""
    before = tables(ledger)
    with pytest.raises(LedgerError, match="0x00"):
        called(ledger, name="one\0other")
    assert tables(ledger) == before


def test_texts_are_the_same_in_another_encoding(new_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with Ledger.create(new_place(), capacity=PureDP(1)) as ledger:
        assert called(ledger, name="Straße 東京")
        assert ledger._store.at_once("arm", 1, 1, bytes(range(256)))
        with ledger._store.transaction() as tx:
            (row,) = tx.rows(TABLES[1])
    assert "Straße 東京" in row
    assert bytes(range(256)) in row


def test_a_long_release_is_sent_whole(ledger: Ledger) -> None:
    """Longer than the system takes at once."""
    long = random.Random(1).randbytes(30_000_000)
    ticket = reserve(ledger, "r")
    ledger.arm(ticket, long[1:])
    ledger.commit(ticket, long, plan="{}")
    assert ledger.stored_release("key") == long


def test_a_call_that_waits_is_interrupted_by_a_signal_and_undone(new_place: Place) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    place = new_place()
    with Ledger.create(place, capacity=PureDP(1)) as ledger, Ledger.open(place) as holder:
        before, earlier = tables(ledger), signal.signal(signal.SIGALRM, interrupt)
        try:
            with holder._store.transaction() as tx:
                tx.rows(TABLES[0])
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                with pytest.raises(KeyboardInterrupt):
                    called(ledger)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, earlier)
        assert tables(ledger) == before
        assert called(ledger)


def test_an_old_handle_takes_its_steps_after_a_refusal_too(new_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has asked the server's clock so often that a driver may keep that question, and forget what is kept."""
    hours = iter(range(0, 10**6, 3600))
    monkeypatch.setattr(postgres, "_uptime", lambda: float(next(hours)))
    with Ledger.create(new_place(), capacity=PureDP(1)) as ledger:
        for number in range(8):
            ticket = reserve(ledger, f"r{number}", "1/100")
        ledger.arm(ticket, b"v")
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "much", "2")
        assert called(ledger)
        ledger.commit(ticket, b"release", plan="{}")


class Interrupted:
    """A connection to a server; a signal comes once, when a call of it is over.

    Args:
        server: the connection.
        method: whose call.
        when: of what it returns.
    """

    def __init__(self, server: Any, method: str, when: Callable[[Any], bool]) -> None:
        self._server, self._method, self._when = server, method, when
        self._done = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._server, name)
        return self._interrupted(found) if name == self._method and not self._done else found

    def _interrupted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = method(*arguments)
            if self._when(result):
                self._done = True
                raise KeyboardInterrupt
            return result

        return call


@pytest.mark.parametrize(
    ("method", "when", "made"),
    [
        ("prepare", lambda _: True, 1),  # a signal that comes while the server prepares is heard of afterwards
        ("get_result", lambda result: result is None, 2),  # all was heard
    ],
    ids=["preparing", "all heard"],
)
def test_a_handle_whose_first_call_was_interrupted_takes_its_steps(
    ledger: Ledger, method: str, when: Callable[[Any], bool], made: int
) -> None:
    calls = ledger._store._calls  # type: ignore[attr-defined]
    calls._server = Interrupted(calls._server, method, when)
    with pytest.raises(KeyboardInterrupt):
        called(ledger, "first")
    assert called(ledger)
    assert len(ledger.entries()) == made


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_vector_is_stored_as_its_bytes(ledger: Ledger, kind: type[Any]) -> None:
    ledger.arm(reserve(ledger, "r"), kind(b"\x01\0vector"))
    with ledger._store.transaction() as tx:
        (row,) = tx.rows(TABLES[1])
    assert b"\x01\0vector" in row


def test_a_session_that_says_it_adds_is_told_that_it_does_not(new_place: Place) -> None:
    place = new_place()
    Ledger.create(place, capacity=PureDP(1)).close()
    with Ledger.open(f"{place}&options=-c%20spark_mpc.adds%3Dyes") as ledger:
        ledger.release(reserve(ledger, "r", "1/2"))
        assert ledger.remaining() == PureDP(1)
        assert ledger.verify() == ledger.head()


@pytest.mark.parametrize("fault", [Relay.full_disk, Relay.gone])
def test_a_call_that_ends_but_is_not_made_durable_is_no_claim(
    postgres: PostgresServer, new_place: Place, fault: Callable[[socket], None]
) -> None:
    place = new_place()
    Ledger.create(place, capacity=PureDP(1)).close()
    address = make_url(place)
    with Relay(postgres.folder / f".s.PGSQL.{address.query['port']}") as relay:
        query = {**address.query, "host": "127.0.0.1", "port": str(relay.port)}
        off = {"sslmode": "disable", "gssencmode": "disable"}
        with Ledger.open(address.set(query={**query, **off}).render_as_string(hide_password=False)) as ledger:
            assert called(ledger, "before", price="1/100")
            relay.fault = fault
            with pytest.raises(LedgerError, match="PostgreSQL failed"):
                called(ledger, price="1/100")


def test_a_price_of_another_kind_is_left_to_a_transaction(ledger: Ledger) -> None:
    before = tables(ledger)
    for text in ('{"kind": "pure"}', '{"kind": "zcdp", "rho": "1"}', '{"epsilon": "1/9", "kind": "zcdp"}',
                 '{"delta": "0", "epsilon": "1/9", "kind": "pure"}', '{"epsilon": "1/9"}'):  # fmt: skip
        assert ledger._store.at_once("claim", '["whole"]', text, "", "r", *[""] * 6, 60.0, 0.0, 1) is None
    assert tables(ledger) == before


def test_a_block_is_claimed_once(ledger: Ledger) -> None:
    before = tables(ledger)
    assert not called(ledger, names=("whole", "whole"))
    assert tables(ledger) == before


def test_an_amount_too_long_to_be_read_again_is_not_written(ledger: Ledger) -> None:
    """Python reads numbers of at most 4,300 digits: a sum with more would lock everybody out."""
    reserve(ledger, "r1", PureDP(Fraction(1, 10**3000 + 1)))
    before = tables(ledger)
    with pytest.raises(ValueError, match="4300 digits"):
        reserve(ledger, "r2", PureDP(Fraction(1, 10**3000 + 3)))
    assert tables(ledger) == before
    assert ledger.verify().sequence == 2


def test_arming_looks_at_state_fence_lease_and_approval(ledger: Ledger, clock: Clock) -> None:
    ticket = reserve(ledger, "r", lease_seconds=60)
    newer = ledger.renew(ticket)
    number = int(ticket.claim_id)

    def arms(fence: int) -> bool:
        return ledger._store.at_once("arm", number, fence, b"v") is not None

    assert not arms(ticket.fence)
    Steward(ledger).require_approval(PureDP("1/20"))
    assert not arms(newer.fence)
    Steward(ledger).require_approval(None)
    clock.now += 60
    assert not arms(newer.fence)
    clock.now -= 1
    assert arms(newer.fence)
    assert not arms(newer.fence)
    assert state(ledger, ticket) == "armed"
    other = reserve(ledger, "s", lease_seconds=1)
    clock.now += 1
    with pytest.raises(LeaseExpired):
        ledger.arm(other, b"v")


def test_an_approved_claim_is_armed(ledger: Ledger) -> None:
    Steward(ledger).require_approval(PureDP("1/20"))
    ticket = reserve(ledger, "r", "1/10", key="dear")
    with pytest.raises(ApprovalNeeded):
        ledger.arm(ticket, b"v")
    Steward(ledger).approve(int(ticket.claim_id))
    ledger.arm(ticket, b"v")
    assert state(ledger, ticket) == "armed"


def test_committing_again_changes_nothing(ledger: Ledger) -> None:
    ticket = reserve(ledger, "r")
    ledger.arm(ticket, b"v")
    ledger.commit(ticket, b"first", plan="{}")
    before = tables(ledger)
    ledger.commit(ticket, b"second", plan="[]")
    assert tables(ledger) == before
    assert ledger.stored_release("key") == b"first"


def test_an_analyst_takes_all_steps_by_calls(postgres: PostgresServer, clock: Clock) -> None:
    steward, analyst = postgres.create_role("steward"), postgres.create_role("analyst")
    database = postgres.create_database(steward)
    Ledger.create(postgres.url(database, steward), capacity=PureDP(1), clock=clock).close()
    PostgresStore.grant(postgres.url(database, steward), analyst)
    with Ledger.open(postgres.url(database, analyst), clock=clock) as ledger:
        assert called(ledger)
        assert ledger._store.at_once("arm", 1, 1, b"v")
        assert ledger._store.at_once("spend", 1, 1, b"release", "{}")
        assert ledger.balance().spent == PureDP("1/10")


# --- durable before anybody hears of it


@pytest.fixture(scope="module")
def slow_writer() -> Iterator[PostgresServer]:
    """A server that writes its log by itself every ten seconds only, and as little as it can: what nobody waited for is
    lost in a crash."""
    started().close()  # or the test is skipped
    with PostgresServer({"wal_writer_delay": "10s", "wal_level": "minimal", "max_wal_senders": "0"}) as server:
        yield server


@pytest.fixture
def address(slow_writer: PostgresServer, clock: Clock) -> str:
    address = slow_writer.url(slow_writer.create_database())
    Ledger.create(address, capacity=PureDP(1), clock=clock).close()
    return address


def test_what_was_answered_is_there_after_a_crash_of_the_server(slow_writer: PostgresServer, address: str) -> None:
    record = ("owner", "table", "1", "key", "run", "purpose")
    price = '{"epsilon": "1/100", "kind": "pure"}'
    steps: dict[EntryState, tuple[Any, ...]] = {
        "reserved": ("claim", '["whole"]', price, "", "request", *record, 60.0, 0.0, 1),
        "armed": ("arm", 1, 1, b"vector"),
        "spent": ("spend", 1, 1, b"release", "{}"),
    }
    for becomes, step in steps.items():
        with closing(PostgresStore(address, Clock())) as store:
            assert store.at_once(*step)
            slow_writer.crash()
        with Ledger(PostgresStore(address, Clock())) as ledger:
            assert [entry.state for entry in ledger.entries()] == [becomes]
            ledger.verify()


def test_what_others_saw_of_it_is_there_after_a_crash_of_the_server(slow_writer: PostgresServer, address: str) -> None:
    """They see a step before the disk has it; before they are told, they wait for the disk."""
    with psycopg.connect(address.partition("&ledger")[0], autocommit=True) as unfinished:
        unfinished.execute("SET synchronous_commit = off")
        unfinished.execute("""SELECT privacy_ledger.record(1, '"event": "settings", "settings": {}')""")
        with Ledger(PostgresStore(address, Clock())) as other:
            seen = other.head()
        slow_writer.crash()
    assert seen.sequence == 2
    with Ledger(PostgresStore(address, Clock())) as ledger:
        ledger.check_head(seen, "a peer")


def test_a_refusal_that_follows_from_it_waits_for_the_disk_too(slow_writer: PostgresServer, address: str) -> None:
    with Ledger(PostgresStore(address, Clock())) as other:
        ticket = reserve(other, "r")
        with psycopg.connect(address.partition("&ledger")[0], autocommit=True) as unfinished:
            unfinished.execute("SET synchronous_commit = off")
            unfinished.execute("SELECT privacy_ledger.armed(1e6, 1, 1, 'v')")
            with pytest.raises(ClaimLost, match="is armed"):
                other.release(ticket)
            slow_writer.crash()
    with Ledger(PostgresStore(address, Clock())) as ledger:
        assert state(ledger, ticket) == "armed"
