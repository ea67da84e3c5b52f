"""Calls of a server's procedures, past the driver's cursor: that takes longer than all else a job does for a call."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

__all__ = ["Calls"]

_EXACT = (str, bytes)


class Calls:
    """Procedures of the schema that a connection is set to; prepared there when first called."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Of a connection in autocommit, whose texts are in UTF-8."""
        self._connection = connection
        self._prepared: set[bytes] = set()

    def answer(self, procedure: str, *arguments: Any) -> str | None:
        """Call a procedure with all but its last parameter, which is its answer, as the server writes it.

        Raises:
            psycopg.Error: the server refused or failed.
        """
        from psycopg.generators import execute

        server, name = self._connection.pgconn, procedure.encode()
        if name not in self._prepared:
            _checked(server.prepare(name, _text(procedure, len(arguments))))
            self._prepared.add(name)
        # texts and bytes as they are, with their lengths; numbers as they are written
        values = [value.encode() if isinstance(value, str) else _written(value) for value in arguments]
        server.send_query_prepared(name, values, [isinstance(value, _EXACT) for value in arguments])
        result = _checked(self._connection.wait(execute(server))[0])
        found = result.get_value(0, result.nfields - 1)
        return None if found is None else found.decode()


def _written(value: object) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def _checked(result: psycopg.pq.abc.PGresult) -> psycopg.pq.abc.PGresult:
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise error_from_result(result)
    return result


@cache
def _text(procedure: str, arguments: int) -> bytes:
    places = "".join(f"${place}, " for place in range(1, arguments + 1))
    return f"CALL {procedure}({places}NULL)".encode()
