"""What a ledger's tables refuse, whoever writes: triggers. They are a second line; the rules themselves are in Python.

A guard stops what would give budget back or rewrite the past, be it a mistake in this library or a hand in the
database. Who owns the tables can remove them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table

from lake.ledger.schema import METADATA, audit, blocks, claims, heads, layouts, ledger, releases

__all__ = ["install_guards"]

_STEPS = ("waiting>reserved", "waiting>failed", "reserved>armed", "reserved>released", "armed>spent")
_APPENDED = (audit, layouts, releases)
_FIXED = {
    ledger: ("ledger_id", "capacity", "created_at"),
    blocks: ("name", "layout", "capacity", "created_at"),
    claims: (
        "number", "request_id", "parent", "blocks", "price", "owner", "weight", "table_name", "data_version",
        "release_key", "run_id", "purpose", "disclosure", "lease_seconds", "created_at",
    ),
    heads: ("ledger_id",),
}  # fmt: skip

_FUNCTIONS = [Path(__file__).with_name(name) for name in ("guards.sql", "steps.sql")]


@dataclass(frozen=True)
class _Guard:
    """One trigger: what it refuses.

    Attributes:
        name: of the trigger.
        table: where it stands.
        on: "INSERT", "DELETE", "UPDATE" or "UPDATE OF columns".
        when: the rows that it refuses, as SQL on OLD and NEW that every store understands; "" for all.
        why: what the error says, without quotation marks.
    """

    name: str
    table: Table
    on: str
    when: str
    why: str


def install_guards(connection: Connection) -> None:
    """Put the guards of this version in place of those that are there, and on PostgreSQL the procedures of
    `lake.ledger.steps` beside them; the caller commits.

    Guarantees:
        Refused to everybody, the owner included: to delete a row, other than an approval; to change a row of the audit
        log, a layout or a release; to change a capacity; to change what a claim asked for, or to take a step back in
        its life; to give it a vector over another, or before it is paid. On PostgreSQL also: an event that does not
        continue the hash chain, a block that is not as its layout says, consumed or an unlocked share that falls, sums
        beyond a capacity, arming without the approval that the settings ask for, a release that no armed or spent claim
        paid for, a claim out of number, or one that begins in a state in which none begins, or with a vector. And, to
        all but the owner: to arm a claim by hand, without charging its blocks, and to make one that is spent as it is
        made.

    Args:
        connection: to the ledger's tables, which stand in the default schema of the connection.
    """
    statements = _on_postgres(connection) if connection.dialect.name == "postgresql" else _on_sqlite()
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _guards() -> list[_Guard]:
    return [*_deletions(), *_appended(), *_fixed(), *_life()]


def _deletions() -> list[_Guard]:
    tables = [table for table in METADATA.sorted_tables if table.name != "approvals"]
    return [_Guard(f"keep_{table}", table, "DELETE", "", f"rows of {table} are never deleted") for table in tables]


def _appended() -> list[_Guard]:
    return [_Guard(f"append_{table}", table, "UPDATE", "", f"rows of {table} are never changed") for table in _APPENDED]


def _fixed() -> list[_Guard]:
    return [
        _Guard(f"fix_{table}", table, f"UPDATE OF {', '.join(columns)}", _changed(*columns),
               f"of a row of {table} these never change: {', '.join(columns)}")
        for table, columns in _FIXED.items()
    ]  # fmt: skip


def _life() -> list[_Guard]:
    pairs = (step.split(">") for step in _STEPS)
    steps = " OR ".join(f"OLD.state = '{old}' AND NEW.state = '{new}'" for old, new in pairs)  # no list: see schema
    no_step = f"OLD.state <> NEW.state AND NOT ({steps})"
    paid = "OLD.state IN ('armed', 'spent')"
    unpaid = "NEW.state <> 'armed' AND NEW.state <> 'spent'"
    again = f"NEW.noised IS NOT NULL AND (OLD.noised IS NOT NULL OR OLD.state = 'spent' OR {unpaid})"
    return [
        _Guard("step_claims", claims, "UPDATE OF state", no_step, f"the steps of a claim are {', '.join(_STEPS)}"),
        _Guard("hold_claims", claims, "UPDATE OF held", f"{paid} AND {_changed('held')}",
               "what a paid claim holds never changes"),
        _Guard("noised_claims", claims, "UPDATE OF noised", again,
               "a vector is stored once, when it is paid, and kept or dropped"),
    ]  # fmt: skip


def _checks() -> list[tuple[Table, str, str]]:
    """Triggers that call one of the functions, which has the trigger's name; a server reads a WHEN anew each time."""
    return [
        (audit, "guard_chain", "INSERT ON TABLE FOR EACH ROW"),
        (blocks, "guard_block", "INSERT ON TABLE FOR EACH ROW"),
        (blocks, "guard_sums", "UPDATE OF acquired, consumed ON TABLE FOR EACH ROW"),
        (blocks, "guard_share", "UPDATE OF unlocked ON TABLE FOR EACH ROW"),
        (releases, "guard_paid", "INSERT ON TABLE FOR EACH ROW"),
        (claims, "guard_begin", "INSERT ON TABLE FOR EACH ROW"),
        (claims, "guard_armed", "UPDATE OF state ON TABLE FOR EACH ROW"),
    ]


def _changed(*columns: str) -> str:
    return "(" + " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns) + ")"


def _on_sqlite() -> list[str]:
    statements = []
    for guard in _guards():
        when = f" WHEN {guard.when.replace('IS DISTINCT FROM', 'IS NOT')}" if guard.when else ""
        statements.append(f'DROP TRIGGER IF EXISTS "{guard.name}"')
        statements.append(
            f'CREATE TRIGGER "{guard.name}" BEFORE {guard.on} ON {guard.table}{when}'
            f" BEGIN SELECT RAISE(ABORT, '{guard.why}'); END"
        )
    return statements


def _on_postgres(connection: Connection) -> list[str]:
    found = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    schema = connection.dialect.identifier_preparer.quote_identifier(found)
    statements = [file.read_text(encoding="utf-8").replace("{schema}", schema) for file in _FUNCTIONS]
    for guard in _guards():
        on = "DELETE OR TRUNCATE" if guard.on == "DELETE" else guard.on
        when = f" FOR EACH ROW WHEN ({guard.when})" if guard.when else ""
        action = f"BEFORE {on} ON {schema}.{guard.table}{when} EXECUTE FUNCTION {schema}.guard('{guard.why}')"
        statements += _trigger(schema, guard.table, guard.name, action)
    for table, name, on in _checks():
        action = f"BEFORE {on} EXECUTE FUNCTION {schema}.{name}()".replace("TABLE", f"{schema}.{table}")
        statements += _trigger(schema, table, name, action)
    return statements


def _trigger(schema: str, table: Table, name: str, action: str) -> list[str]:
    """`ALWAYS`: in a session that replays changes of another server too."""
    return [
        f'DROP TRIGGER IF EXISTS "{name}" ON {schema}.{table}',
        f'CREATE TRIGGER "{name}" {action}',
        f'ALTER TABLE {schema}.{table} ENABLE ALWAYS TRIGGER "{name}"',
    ]
