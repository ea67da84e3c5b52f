"""Calls of a server's procedures, past the driver's cursor: that takes longer than all else a job does for a call.

What is used is `psycopg.Connection.pgconn`, which is there for this.
"""

from __future__ import annotations

import selectors
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

__all__ = ["Calls"]

_EXACT = (str, bytes)
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # takes no descriptor of its own


class Calls:
    """Procedures of the schema that a connection is set to; prepared there when first called."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Of a connection in autocommit, whose texts are in UTF-8."""
        self._connection, self._server = connection, connection.pgconn
        self._prepared: set[bytes] = set()
        self._heard: selectors.BaseSelector = _Selector()
        self._heard.register(self._server.socket, selectors.EVENT_READ)

    def answer(self, procedure: str, *arguments: Any) -> str | None:
        """Call a procedure with all but its last parameter, which is its answer, as the server writes it.

        Raises:
            psycopg.Error: the server refused or failed.
        """
        import psycopg

        server, name = self._server, procedure.encode()
        if name not in self._prepared:
            _checked(server.prepare(name, _text(procedure, len(arguments))))
            self._prepared.add(name)
        # texts and bytes as they are, with their lengths; numbers as they are written
        values = [value.encode() if isinstance(value, str) else _written(value) for value in arguments]
        server.send_query_prepared(name, values, [isinstance(value, _EXACT) for value in arguments])
        try:
            self._send_all()
            result = self._result()
        except psycopg.Error:
            raise
        except BaseException:  # of a signal
            self._connection.cancel()  # else the server goes on when the lock falls
            if not server.flush():
                self._result()
            raise
        _checked(result)
        found = result.get_value(0, result.nfields - 1)
        return None if found is None else found.decode()

    def _send_all(self) -> None:
        while self._server.flush():  # a long vector: the server may have to be heard before it reads on
            self._heard.modify(self._server.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            self._heard.select()
            self._server.consume_input()
            self._heard.modify(self._server.socket, selectors.EVENT_READ)

    def _result(self) -> psycopg.pq.abc.PGresult:
        """The one result of a call, when it is there."""
        while self._server.is_busy():
            self._heard.select()
            self._server.consume_input()
        result = self._server.get_result()
        assert result is not None
        while self._server.get_result() is not None:
            """Nothing more comes; that it ends has to be read."""
        return result


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
