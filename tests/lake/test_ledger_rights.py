"""Steward and analyst on a real server: an analyst can use a ledger, and can neither make budget nor rewrite the past.

Every attack is one statement (or a few), made by hand over the analyst's own connection; each ends in a refusal.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, create_engine

from benchmarks._postgres import PostgresServer
from dp.accounting.budget import ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import Claim
from dp.errors import InvalidArgument
from lake.blocks import Blocks
from lake.errors import ApprovalNeeded, LedgerError
from lake.ledger import Ledger
from lake.ledger.guards import install_guards
from lake.ledger.postgres import PostgresStore
from lake.ledger.schema import STATES
from lake.ledger.steward import Steward

Refused = psycopg.errors.InsufficientPrivilege

VISITS = Blocks.every("1 day", "day", since="2020-01-01", name="visits")
DAY = "visits/2020-01-01"
HALF, ONE, MUCH = (f'{{"epsilon": "{amount}", "kind": "pure"}}' for amount in ("1/2", "1", "100"))
ARM = "SELECT armed(0, (SELECT number FROM claims WHERE request_id = 'reserved'), 1, 'a'); "


@dataclass(frozen=True)
class Place:
    """A ledger on a server, and its two roles."""

    server: PostgresServer
    database: str
    steward: str
    analyst: str
    schema: str = "claims"

    def address(self, role: str) -> str:
        return self.server.url(self.database, role, ledger=self.schema)

    @contextlib.contextmanager
    def as_owner(self) -> Iterator[Connection]:
        """The steward's connection for changes of the schema, committed at the end."""
        address = self.server.url(self.database, self.steward).replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(address)
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL search_path TO {self.schema}")
                yield connection
        finally:
            engine.dispose()

    def grant(self, role: str) -> None:
        PostgresStore.grant(self.address(self.steward), role)

    @contextlib.contextmanager
    def by_hand(self, role: str) -> Iterator[psycopg.Connection]:
        """A connection for single statements."""
        with psycopg.connect(self.server.url(self.database, role), autocommit=True) as connection:
            connection.execute(f"SET search_path TO {self.schema}")
            yield connection


def asked(ledger: Ledger, request_id: str, price: Budget, blocks: tuple[str, ...] = ()) -> Claim:
    return ledger.reserve(
        request_id=request_id, price=price, table="visits", data_version="1", release_key=request_id, run_id="run",
        purpose="test", lease_seconds=9_999.0, blocks=blocks,
    )  # fmt: skip


def made_place(server: PostgresServer, capacity: Budget) -> Place:
    steward, analyst = server.create_role("steward"), server.create_role("analyst")
    place = Place(server, server.create_database(steward), steward, analyst)
    Ledger.create(place.address(steward), capacity=capacity).close()
    place.grant(analyst)
    return place


@pytest.fixture(scope="module")
def place(postgres: PostgresServer) -> Place:
    """A ledger of 3 with days of 1, and claims that are named by their state; "dear" needs an approval."""
    place = made_place(postgres, PureDP(3))
    with Ledger.open(place.address(place.steward)) as ledger:
        Steward(ledger).lay_out(VISITS, capacity=PureDP(1))
        Steward(ledger).require_approval(PureDP("1/2"))
    with Ledger.open(place.address(place.analyst)) as ledger:
        asked(ledger, "reserved", PureDP("1/8"))
        asked(ledger, "dear", PureDP("5/8"))
        asked(ledger, "day", PureDP("1/2"), blocks=(DAY,))
        ledger.release(asked(ledger, "released", PureDP("1/8")))
        spent = asked(ledger, "spent", PureDP("1/8"))
        ledger.arm(spent, b"noised")
        ledger.commit(spent, b"release")
    return place


RIGHTS = {
    "raise a capacity": f"UPDATE blocks SET capacity = '{MUCH}'",
    "raise the ledger's capacity": f"UPDATE ledger SET capacity = '{MUCH}'",
    "change settings": "UPDATE ledger SET settings = '{}'",
    "found another ledger": "INSERT INTO ledger SELECT * FROM ledger",
    "lay out": f"INSERT INTO layouts VALUES ('mine', '{{}}', '{MUCH}', 0)",
    "raise a layout": f"UPDATE layouts SET capacity = '{MUCH}'",
    "approve its own claim": f"INSERT INTO approvals VALUES ('dear', '{MUCH}', 0)",
    "withdraw approvals": "DELETE FROM approvals",
    "forget claims": "DELETE FROM claims",
    "forget blocks": "DELETE FROM blocks",
    "forget releases": "DELETE FROM releases",
    "forget the audit log": "DELETE FROM audit",
    "rewrite the audit log": "UPDATE audit SET event = '{}'",
    "rewrite a release": "UPDATE releases SET release = ''",
    "lower a price": "UPDATE claims SET price = '{}'",
    "move a claim to other blocks": "UPDATE claims SET blocks = '[]'",
    "truncate": "TRUNCATE claims",
    "drop": "DROP TABLE claims",
    "drop the schema": "DROP SCHEMA claims CASCADE",
    "create in the schema": "CREATE TABLE claims.more (x int)",
    "create a schema": "CREATE SCHEMA other",
    "alter": "ALTER TABLE blocks ADD COLUMN more text",
    "disable triggers": "ALTER TABLE blocks DISABLE TRIGGER ALL",
    "drop a trigger": "DROP TRIGGER guard_sums ON blocks",
    "replace a guard": "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "replicate": "SET session_replication_role = replica",
    "grant itself more": f"GRANT ALL ON blocks TO CURRENT_USER; UPDATE blocks SET capacity = '{MUCH}'",
    "set the counter of releases": "SELECT setval('releases_number_seq', 1)",
    "claim another version": "UPDATE alembic_version SET version_num = '0001'",
    "run a program": "COPY heads FROM PROGRAM 'true'",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
}
"""What an analyst has no right to."""

GUARDED = {
    "lower what is consumed": (f"UPDATE blocks SET consumed = '{HALF}' WHERE name = 'whole'", "never falls"),
    "lower it in other words": ("UPDATE blocks SET consumed = replace(consumed, '/', '/99')", "never falls"),
    "consume what is no number": ('UPDATE blocks SET consumed = \'{"epsilon": "NaN", "kind": "pure"}\'', "fraction"),
    "consume in another kind": ('UPDATE blocks SET consumed = \'{"rho": "9", "kind": "zcdp"}\'', "never falls"),
    "consume nothing at all": ('UPDATE blocks SET consumed = \'{"kind": "pure"}\'', "never falls"),
    "consume more than there is": (f"UPDATE blocks SET consumed = '{MUCH}'", "no more than its capacity"),
    "reserve more than there is": (f"UPDATE blocks SET acquired = '{MUCH}'", "no more than its capacity"),
    "reserve in other words": (
        'UPDATE blocks SET acquired = \'{"kind": "pure", "epsilon": "0"}\'',
        "no more than its capacity",
    ),
    "reserve twice in one": (
        'UPDATE blocks SET acquired = \'{"epsilon": "0", "epsilon": "0", "kind": "pure"}\'',
        "no more than",
    ),
    "reserve and say more": (
        'UPDATE blocks SET acquired = \'{"epsilon": "0", "kind": "pure"}, "more"\'',
        "no more than",
    ),
    "reserve in another kind": ('UPDATE blocks SET acquired = \'{"epsilon": "0", "kind": "zcdp"}\'', "no more than"),
    "reserve what is no number": ('UPDATE blocks SET acquired = \'{"epsilon": "nan", "kind": "pure"}\'', "fraction"),
    "reserve less than nothing": ('UPDATE blocks SET acquired = \'{"epsilon": "-1", "kind": "pure"}\'', "fraction"),
    "lock again": ("UPDATE blocks SET unlocked = '0'", "the unlocked share grows"),
    "unlock too much": ("UPDATE blocks SET unlocked = '3/2'", "the unlocked share grows"),
    "unlock what is no number": ("UPDATE blocks SET unlocked = 'Infinity'", "the unlocked share grows"),
    "make a larger block": (
        f"INSERT INTO blocks VALUES ('visits/2020-01-02', 'visits', '{MUCH}', '1', 0, '{{}}', '{{}}', 0)",
        "as its layout says",
    ),
    "make a block of no layout": (
        f"INSERT INTO blocks VALUES ('mine/2020-01-02', 'mine', '{ONE}', '1', 0, '{{}}', '{{}}', 0)",
        "as its layout says",
    ),
    "make a block with another's layout": (
        f"INSERT INTO blocks VALUES ('mine', 'visits', '{ONE}', '1', 0, '{{}}', '{{}}', 0)",
        "as its layout says",
    ),
    "make a second whole": (
        "INSERT INTO blocks SELECT 'more', '', capacity, '1', 0, '{}', '{}', 0 FROM ledger",
        "as its layout says",
    ),
    "make a block of other amounts": (
        f"INSERT INTO blocks VALUES ('visits/2020-01-02', 'visits', '{ONE}', '1', 0, '{{}}', '{{}}', 0)",
        "as its layout says",
    ),
    "give back what is spent": ("UPDATE claims SET state = 'released' WHERE state = 'spent'", "steps of a claim"),
    "give back what is armed": (
        f"{ARM} UPDATE claims SET state = 'released' WHERE state = 'armed'",
        "the steps of a claim",
    ),
    "revive what is released": (
        "UPDATE claims SET state = 'reserved' WHERE state = 'released'",
        "the steps of a claim",
    ),
    "spend without arming": ("UPDATE claims SET state = 'spent' WHERE state = 'reserved'", "steps of a claim"),
    "arm without charging the blocks": (
        "UPDATE claims SET state = 'armed' WHERE request_id = 'reserved'",
        "armed by calling",
    ),
    "lower what a paid claim holds": (
        f"UPDATE claims SET held = '{HALF}' WHERE state = 'spent'",
        "holds never changes",
    ),
    "change a vector": (f"{ARM} UPDATE claims SET noised = 'x' WHERE state = 'armed'", "a vector is stored once"),
    "bring a vector back": ("UPDATE claims SET noised = 'x' WHERE state = 'spent'", "a vector is stored once"),
    "give a vector to what is not paid": ("UPDATE claims SET noised = 'x' WHERE state = 'reserved'", "when it is paid"),
    "give back with a vector": (
        "UPDATE claims SET state = 'released', noised = 'x' WHERE state = 'reserved'",
        "when it is paid",
    ),
    "take a step to nowhere": ("UPDATE claims SET state = 'lost' WHERE state = 'reserved'", "steps of a claim"),
    "skip a number of the audit log": (
        "INSERT INTO audit SELECT max(sequence) + 2, 0, 'x', '' FROM audit",
        "continues the hash chain",
    ),
    "break the hash chain": (
        "INSERT INTO audit SELECT max(sequence) + 1, 0, 'x', encode(sha256('x'), 'hex') FROM audit",
        "continues the hash chain",
    ),
    "store an unpaid release": (
        "INSERT INTO releases (release_key, claim, plan, release, stored_at)"
        " SELECT release_key, number, '', 'x', 0 FROM claims WHERE state = 'reserved' LIMIT 1",
        "a claim that paid",
    ),
    "store a release of another's claim": (
        "INSERT INTO releases (release_key, claim, plan, release, stored_at)"
        " SELECT 'other', number, '', 'x', 0 FROM claims WHERE state = 'spent' LIMIT 1",
        "a claim that paid",
    ),
}
"""What guards refuse to an analyst: it has the right to write there, but not that."""

KEPT = (
    *(f"DELETE FROM {table}" for table in ("ledger", "layouts", "blocks", "claims", "releases", "audit", "heads")),
    *(f"TRUNCATE {table}" for table in ("ledger", "layouts", "blocks", "claims", "releases", "audit", "heads")),
    f"UPDATE ledger SET capacity = '{MUCH}'",
    f"UPDATE blocks SET capacity = '{MUCH}'",
    f"UPDATE layouts SET capacity = '{MUCH}'",
    "UPDATE audit SET event = '{}'",
    "UPDATE releases SET release = ''",
    "UPDATE claims SET price = '{}'",
    f"UPDATE blocks SET consumed = '{HALF}' WHERE name = 'whole'",
    "UPDATE claims SET state = 'released' WHERE state = 'spent'",
    "UPDATE claims SET state = 'armed' WHERE request_id = 'dear'",
    "UPDATE claims SET state = 'lost' WHERE state = 'reserved'",
    "UPDATE claims SET noised = 'x' WHERE state = 'reserved'",
)
"""What guards refuse to the steward too."""


@pytest.fixture(scope="module")
def analyst(place: Place) -> Iterator[psycopg.Connection]:
    with place.by_hand(place.analyst) as connection:
        yield connection


@pytest.fixture(scope="module")
def steward(place: Place) -> Iterator[psycopg.Connection]:
    with place.by_hand(place.steward) as connection:
        yield connection


@pytest.mark.parametrize("statement", RIGHTS.values(), ids=RIGHTS)
def test_an_analyst_has_no_right_to(analyst: psycopg.Connection, statement: str) -> None:
    with analyst.transaction(force_rollback=True), pytest.raises(Refused, match=r"permission denied|must be"):
        analyst.execute(statement)


@pytest.mark.parametrize(("statement", "why"), GUARDED.values(), ids=GUARDED)
def test_an_analyst_is_guarded_from(analyst: psycopg.Connection, statement: str, why: str) -> None:
    with analyst.transaction(force_rollback=True), pytest.raises(Refused, match=why):
        analyst.execute(statement)


def test_who_adds_gets_no_more_than_there_is(analyst: psycopg.Connection) -> None:
    """And is refused the rest as others are."""
    with analyst.transaction(force_rollback=True):
        analyst.execute("SET LOCAL spark_mpc.adds = 'yes'")
        before = analyst.execute("SELECT * FROM blocks ORDER BY name").fetchall()
        for asked in (MUCH, '{"epsilon": "0", "kind": "zcdp"}', '{"kind": "pure", "epsilon": "0"}',
                      '{"epsilon": "0"}', f"{HALF}, ", '{"epsilon', ""):  # fmt: skip
            assert analyst.execute("UPDATE blocks SET acquired = %s", (asked,)).rowcount == 0
        assert analyst.execute("SELECT * FROM blocks ORDER BY name").fetchall() == before
        for asked in ("-1/8", "1/0", "NaN", "1.0", ""):
            price = ONE.replace('"1"', f'"{asked}"')
            with pytest.raises(Refused, match="an amount is a fraction"), analyst.transaction():
                analyst.execute("UPDATE blocks SET acquired = %s", (price,))
        for name in ("lower what is consumed", "consume more than there is"):
            with pytest.raises(Refused, match=GUARDED[name][1]), analyst.transaction():
                analyst.execute(GUARDED[name][0])
        with pytest.raises(Refused, match="never falls"), analyst.transaction():
            analyst.execute(f"UPDATE blocks SET acquired = '{ONE}', consumed = '{HALF}' WHERE name = 'whole'")
        added = "UPDATE blocks SET acquired = %s WHERE name = 'whole' RETURNING acquired"
        held = Fraction(json.loads(next(row[5] for row in before if row[0] == "whole"))["epsilon"])
        assert analyst.execute(added, (ONE.replace("1", "2/32"),)).fetchone() == (
            f'{{"epsilon": "{held + Fraction(1, 16)}", "kind": "pure"}}',
        )


def test_numbers_and_hashes_are_filled_in(analyst: psycopg.Connection) -> None:
    """The next ones, as whoever writes them has to write them."""
    with analyst.transaction(force_rollback=True):
        ((digest,),) = analyst.execute("SELECT hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchall()
        analyst.execute("INSERT INTO audit (at, event) VALUES (0, 'x')")
        expected = hashlib.sha256(f"{digest}\nx".encode()).hexdigest()
        last = analyst.execute("SELECT hash, sequence = count(*) OVER () FROM audit ORDER BY sequence DESC LIMIT 1")
        assert last.fetchone() == (expected, True)
        with pytest.raises(Refused, match="continues the hash chain"), analyst.transaction():
            analyst.execute("INSERT INTO audit (at, event, hash) VALUES (0, 'x', '')")
        with pytest.raises(Refused, match="continues the hash chain"):
            analyst.execute("INSERT INTO audit (sequence, at, event) VALUES (1, 0, 'x')")


def test_a_claim_that_is_not_approved_is_not_armed_by_hand(analyst: psycopg.Connection) -> None:
    numbers = analyst.execute("SELECT number, request_id FROM claims WHERE state = 'reserved'").fetchall()
    with analyst.transaction(force_rollback=True):
        done = {name: analyst.execute("SELECT armed(0, %s, 1, 'a')", (number,)).fetchone() for number, name in numbers}
    assert done == {"reserved": (True,), "day": (True,), "dear": (None,)}


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ('{"each": {}}', ""),  # nothing that could be agreed to
        (f'{{"each": {{"whole": {HALF}, "{DAY}": {HALF}}}}}', "a part of each of its blocks"),
        (f'{{"each": {{"{DAY}": {HALF}}}}}', "a part of each of its blocks"),
        (f'{{"each": {{"whole": {HALF}, "whole": {HALF}}}}}', "a part of each of its blocks"),
    ],
)
def test_a_claim_is_armed_for_its_own_blocks_each_once(analyst: psycopg.Connection, held: str, why: str) -> None:
    with analyst.transaction(force_rollback=True):
        analyst.execute("UPDATE claims SET held = %s WHERE request_id = 'reserved'", (held,))
        arm = "SELECT armed(0, number, 1, 'a') FROM claims WHERE request_id = 'reserved'"
        if why:
            with pytest.raises(Refused, match=why):
                analyst.execute(arm)
        else:
            assert analyst.execute(arm).fetchone() == (None,)


def test_at_no_time_that_nobody_could_read(analyst: psycopg.Connection) -> None:
    for now in ("-Infinity", "Infinity", "NaN", "-1"):
        arm = "SELECT armed(%s, number, 1, 'a') FROM claims WHERE request_id = 'reserved'"
        assert analyst.execute(arm, (now,)).fetchone() == (None,)


def test_what_a_superuser_puts_there_is_the_stewards(place: Place) -> None:
    with psycopg.connect(place.server.url(place.database), autocommit=True) as db:
        db.execute("DROP FUNCTION claims.armed; UPDATE claims.alembic_version SET version_num = '0003'")
    PostgresStore.migrate(place.server.url(place.database, ledger=place.schema))
    with place.by_hand(place.steward) as steward:
        owners = steward.execute(
            "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'claims'::regnamespace"
        ).fetchall()
    assert owners == [(place.steward,)]
    with place.as_owner() as connection:
        install_guards(connection)


def test_who_may_only_read_arms_nothing(place: Place) -> None:
    reader = place.server.create_role("reader")
    with place.by_hand(place.steward) as steward:
        steward.execute(
            f"GRANT USAGE ON SCHEMA claims TO {reader}; GRANT SELECT ON ALL TABLES IN SCHEMA claims TO {reader}"
        )
    with place.by_hand(reader) as reading, pytest.raises(Refused, match="permission denied for function armed"):
        reading.execute("SELECT armed(0, number, 1, 'a') FROM claims")


def test_a_claim_on_a_block_that_is_not_there_is_not_armed(analyst: psycopg.Connection) -> None:
    same = "price, owner, weight, table_name, data_version, release_key, run_id, purpose, disclosure, fence"
    times = "lease_seconds, lease_expires_at, created_at, updated_at"
    with analyst.transaction(force_rollback=True):
        analyst.execute(f"""
            INSERT INTO claims (number, request_id, blocks, state, {same}, {times})
            SELECT number + 1, 'nowhere', '["nowhere"]', 'reserved', {same}, 9, 9, 0, 0 FROM claims
            ORDER BY number DESC LIMIT 1""")
        with pytest.raises(Refused, match="blocks that are there"):
            analyst.execute("SELECT armed(0, number, 9, 'a') FROM claims WHERE request_id = 'nowhere'")


def test_a_migration_leaves_analysts_their_steps(place: Place) -> None:
    with place.as_owner() as connection:
        install_guards(connection)
    with Ledger.open(place.address(place.analyst)) as ledger:
        ticket = asked(ledger, "after the migration", PureDP("1/64"))
        ledger.arm(ticket, b"noised")


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        ("state = 'spent'", "begins waiting or reserved"),
        ("state = 'armed'", "begins waiting or reserved"),
        ("state = 'lost'", "begins waiting or reserved"),
        ("state = 'reserved', noised = 'x'", "without a vector"),
        ("state = 'waiting', number = 2147483647", "has the next number"),
    ],
)
@pytest.mark.parametrize("whose", ["analyst", "steward"])
def test_nobody_begins_a_claim_by_hand_that(place: Place, draft: str, why: str, whose: str) -> None:
    if draft == "state = 'spent'" and whose == "steward":
        draft = "state = 'spent', noised = 'x'"  # without a vector it may set budget aside
    with place.by_hand(getattr(place, whose)) as connection:
        connection.execute("CREATE TEMP TABLE draft AS SELECT * FROM claims.claims WHERE state = 'released'")
        connection.execute("UPDATE draft SET request_id = 'free', number = (SELECT max(number) + 1 FROM claims.claims)")
        connection.execute(f"UPDATE draft SET {draft}")
        with pytest.raises(Refused, match=why):
            connection.execute("INSERT INTO claims.claims SELECT * FROM draft")


def test_an_analyst_becomes_no_steward(place: Place) -> None:
    with place.by_hand(place.analyst) as connection, pytest.raises(Refused):
        connection.execute(f"SET ROLE {place.steward}")
    with place.by_hand(place.analyst) as connection, pytest.raises(Refused):
        connection.execute(f"SET SESSION AUTHORIZATION {place.steward}")


def test_a_guard_is_not_deceived_by_tables_of_the_same_name(place: Place) -> None:
    with place.by_hand(place.analyst) as connection:
        connection.execute("CREATE TEMP TABLE audit (sequence int, hash text)")
        connection.execute("INSERT INTO pg_temp.audit VALUES (998, '')")
        with pytest.raises(Refused, match="continues the hash chain"):
            connection.execute("INSERT INTO claims.audit VALUES (999, 0, 'x', encode(sha256(E'\\nx'), 'hex'))")


@pytest.mark.parametrize("statement", KEPT)
def test_guards_bind_the_steward_too(steward: psycopg.Connection, statement: str) -> None:
    with (
        steward.transaction(force_rollback=True),
        pytest.raises(Refused, match=r"never|steps of a claim|not approved|when it is paid"),
    ):
        steward.execute(statement)


def test_guards_fire_in_a_session_that_replays_changes(place: Place) -> None:
    with psycopg.connect(place.server.url(place.database)) as connection:
        connection.execute("SET session_replication_role = replica")
        with pytest.raises(Refused, match="never deleted"):
            connection.execute("DELETE FROM claims.claims")


def test_a_role_without_a_grant_sees_nothing(place: Place) -> None:
    stranger = place.server.create_role("stranger")
    with pytest.raises(LedgerError):
        Ledger.open(place.address(stranger))


def test_an_analyst_makes_no_ledger(place: Place) -> None:
    for schema in ("claims", "another"):
        with pytest.raises(LedgerError):
            Ledger.create(place.server.url(place.database, place.analyst, ledger=schema), capacity=PureDP(9))


def test_an_analyst_acts_as_no_steward(place: Place) -> None:
    with Ledger.open(place.address(place.analyst)) as ledger:
        steward = Steward(ledger)
        with pytest.raises(LedgerError, match="refused"):
            steward.lay_out(Blocks.users(4, name="mine"), capacity=PureDP("1/8"))
        with pytest.raises(LedgerError, match="refused"):
            steward.require_approval(None)
        with pytest.raises(LedgerError, match="refused"):
            steward.approve(max(int(entry.claim_id) for entry in ledger.entries()))
        assert ledger.settings().approval_above == PureDP("1/2")


@pytest.mark.parametrize(
    ("capacity", "price"),
    [
        (PureDP(1), PureDP("1/3")),
        (ApproxDP(1, "1e-6"), ApproxDP("1/3", "1e-9")),
        (RenyiDP({"3/2": 1, 8: 2}), RenyiDP({"3/2": "1/5", 8: 9})),  # used up at one order at once
    ],
    ids=lambda budget: type(budget).__name__,
)
def test_an_analyst_claims_pays_and_gives_back(postgres: PostgresServer, capacity: Budget, price: Budget) -> None:
    place = made_place(postgres, capacity)
    with Ledger.open(place.address(place.analyst)) as ledger:
        kept = ledger.renew(asked(ledger, "kept", price))
        ledger.release(asked(ledger, "given back", price))
        ledger.arm(kept, b"noised")
        ledger.commit(kept, b"answer")
        assert ledger.stored_release("kept") == b"answer"
        assert ledger.spent() == price
        assert [entry.state for entry in ledger.entries()] == ["spent", "released"]


def test_an_analyst_makes_the_blocks_that_are_due_and_arms_what_is_approved(postgres: PostgresServer) -> None:
    place = made_place(postgres, PureDP(3))
    with Ledger.open(place.address(place.steward)) as own, Ledger.open(place.address(place.analyst)) as ledger:
        Steward(own).lay_out(VISITS, capacity=PureDP(1))
        Steward(own).require_approval(PureDP("1/4"))
        claim = asked(ledger, "dear", PureDP("1/2"), blocks=(DAY,))
        with pytest.raises(ApprovalNeeded):
            ledger.arm(claim, b"noised")
        Steward(own).approve(int(claim.claim_id))
        ledger.arm(claim, b"noised")
        ledger.commit(claim, None)
        assert {state.name: state.consumed for state in ledger.blocks()} == {DAY: PureDP("1/2"), "whole": PureDP(1)}


def test_granting_again_takes_back_what_was_too_much(postgres: PostgresServer) -> None:
    place = made_place(postgres, PureDP(1))
    with psycopg.connect(place.server.url(place.database, place.steward)) as connection:
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA claims TO {place.analyst}")
    place.grant(place.analyst)
    with place.by_hand(place.analyst) as connection, pytest.raises(Refused, match="permission denied"):
        connection.execute(f"INSERT INTO approvals VALUES ('any', '{MUCH}', 0)")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE {role} SUPERUSER",
        "ALTER ROLE {role} CREATEROLE",
        "GRANT {steward} TO {role}",
        "GRANT pg_write_all_data TO {role}",
        "GRANT CREATE ON SCHEMA claims TO {role}",
    ],
)
def test_a_role_that_grants_do_not_bind_is_refused(place: Place, statement: str) -> None:
    role = place.server.create_role("powerful")
    with psycopg.connect(place.server.url(place.database)) as connection:
        connection.execute(statement.format(role=role, steward=place.steward))
    with pytest.raises(InvalidArgument, match="name another role"):
        place.grant(role)


def test_a_role_that_is_not_there_is_refused(place: Place) -> None:
    with pytest.raises(InvalidArgument, match="no such role"):
        place.grant("nobody at all")


def test_an_analyst_grants_nothing(place: Place) -> None:
    other = place.server.create_role("other")
    with pytest.raises(InvalidArgument, match="given by its owner"):
        PostgresStore.grant(place.address(place.analyst), other)


def test_guards_can_be_put_in_place_again(place: Place) -> None:
    with place.as_owner() as connection:
        install_guards(connection)
    with place.by_hand(place.analyst) as connection, pytest.raises(Refused, match="never falls"):
        connection.execute(f"UPDATE blocks SET consumed = '{HALF}' WHERE name = 'whole'")


@pytest.mark.parametrize(
    "statement",
    [
        *(f"DELETE FROM {table}" for table in ("ledger", "blocks", "claims", "releases", "audit")),
        f"UPDATE ledger SET capacity = '{MUCH}'",
        f"UPDATE blocks SET capacity = '{MUCH}'",
        "UPDATE audit SET event = '{}'",
        "UPDATE releases SET release = x''",
        "UPDATE claims SET price = '{}'",
        "UPDATE claims SET state = 'released' WHERE state = 'spent'",
        "UPDATE claims SET held = '{}' WHERE state = 'spent'",
    ],
)
def test_a_file_is_guarded_against_accidents(tmp_path: Path, statement: str) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1)) as ledger:
        claim = asked(ledger, "one", PureDP("1/2"))
        ledger.arm(claim, b"noised")
        ledger.commit(claim, b"release")
    refused = pytest.raises(sqlite3.IntegrityError, match=r"never|steps of a claim|not approved")
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as connection, refused:
        connection.execute(statement)


def test_the_steps_of_a_claim_in_a_file_are_these_and_no_others(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1)) as ledger:
        asked(ledger, "one", PureDP("1/2"))
    taken = set()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger", isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(claims)")]
        for old, new in itertools.product([*STATES, "lost"], repeat=2):
            connection.execute("BEGIN")
            changed = {"number": "2", "request_id": "'two'", "state": f"'{old}'"}
            values = ", ".join(changed.get(column, column) for column in columns)
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute(f"INSERT INTO claims SELECT {values} FROM claims WHERE number = 1")
                connection.execute(f"UPDATE claims SET state = '{new}' WHERE number = 2")
                taken.add((old, new))
            connection.execute("ROLLBACK")
    steps = {("waiting", "reserved"), ("waiting", "failed"), ("reserved", "armed"), ("reserved", "released")}
    assert taken == steps | {("armed", "spent")} | {(state, state) for state in STATES}


def test_no_claim_in_a_file_begins_with_a_vector_that_is_not_paid(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1)) as ledger:
        asked(ledger, "one", PureDP("1/2"))
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger", isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(claims)")]
        changed = {"number": "2", "request_id": "'two'", "noised": "x'00'"}
        values = ", ".join(changed.get(column, column) for column in columns)
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute(f"INSERT INTO claims SELECT {values} FROM claims")


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "ledger", capacity=PureDP(1)).close()
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a second user: run this test as root")
def test_another_user_of_the_machine_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger.create(path, capacity=PureDP(1)):
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)  # the way there is open, as on a shared machine
        for kept in tmp_path.iterdir():
            with subprocess.Popen(
                ["/bin/cat", str(kept)], user="nobody", cwd="/", stderr=subprocess.PIPE, text=True
            ) as other:
                _, said = other.communicate()
            assert "Permission denied" in said
