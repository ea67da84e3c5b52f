"""Who may do what to a ledger on PostgreSQL: its owner is the steward; an analyst may take the steps of claims."""

from __future__ import annotations

from sqlalchemy import Connection, text

from dp.errors import InvalidArgument
from lake.ledger.schema import METADATA

__all__ = ["grant_analyst"]

_MAY_ADD = ("audit", "blocks", "claims", "heads", "releases")
_MAY_CHANGE = {
    "blocks": ("unlocked", "unlocked_at", "acquired", "consumed"),
    "claims": ("held", "state", "fence", "lease_expires_at", "deadline_at", "noised", "updated_at"),
    "ledger": ("passed",),
    "heads": ("party", "sequence", "hash", "seen_at"),
}

# What would let a role past the grants: it may become the owner, or is one whom grants do not bind.
_UNBOUND = text("""
    SELECT rolsuper OR rolcreaterole OR rolreplication OR pg_has_role(rolname, nspowner, 'MEMBER')
        OR has_schema_privilege(rolname, pg_namespace.oid, 'CREATE')
        OR pg_has_role(rolname, 'pg_write_all_data', 'MEMBER')
    FROM pg_roles, pg_namespace WHERE rolname = :role AND nspname = :schema
""")

_OWNER = text("""
    SELECT current_user AS me, nspowner::regrole AS owner, pg_has_role(nspowner, 'USAGE') AS owns
    FROM pg_namespace WHERE nspname = :schema
""")


def grant_analyst(connection: Connection, schema: str, role: str) -> None:
    """Let a role use a ledger: read it, claim, consume and store releases; the ledger's owner does this, and commits.

    Guarantees:
        The role gets these rights and keeps no others that it had on the ledger's tables. It cannot make a ledger in
        the schema, lay out blocks, change a capacity or settings, or approve. What it may write is bound by the guards.
    Leaks:
        To the role: everything in the ledger, noised vectors included, which its jobs need to resume.

    Args:
        connection: as the owner.
        schema: the ledger's name.
        role: who analyses; a role that can log in, or a group of such roles.

    Raises:
        InvalidArgument: no such role or schema, a role that grants would not bind, or a connection of somebody else.
    """
    _require_owner(connection, schema)
    _require_bound(connection, schema, role)
    quote = connection.dialect.identifier_preparer.quote_identifier
    place, to = quote(schema), quote(role)
    tables = [*METADATA.tables, "alembic_version"]
    statements = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {place} FROM {to}",
        f"GRANT USAGE ON SCHEMA {place} TO {to}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {place} TO {to}",
        f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {place} TO {to}",
        *(f"GRANT SELECT ON {place}.{table} TO {to}" for table in tables),
        *(f"GRANT INSERT ON {place}.{table} TO {to}" for table in _MAY_ADD),
        *(f"GRANT UPDATE ({', '.join(names)}) ON {place}.{table} TO {to}" for table, names in _MAY_CHANGE.items()),
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _require_owner(connection: Connection, schema: str) -> None:
    """PostgreSQL only warns of a grant that is not one's to give."""
    found = connection.execute(_OWNER, {"schema": schema}).one_or_none()
    if found is not None and not found.owns:
        raise InvalidArgument("user", found.me, f"rights on ledger {schema!r} are given by its owner: {found.owner}")


def _require_bound(connection: Connection, schema: str, role: str) -> None:
    unbound = connection.execute(_UNBOUND, {"role": role, "schema": schema}).scalar_one_or_none()
    if unbound is None:
        raise InvalidArgument("role", role, f"no such role, or no ledger {schema!r}: see \\du and \\dn in psql")
    if unbound:
        remedy = "it is a superuser, may make roles or tables there, or is a member of the owner: name another role"
        raise InvalidArgument("role", role, remedy)
