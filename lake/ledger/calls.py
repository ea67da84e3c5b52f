"""Calls of a server's procedures, past the driver's cursor: that takes longer than all else a job does for a call.

What is used is `psycopg.Connection.pgconn`, which is there for this.
"""

from __future__ import annotations

import contextlib
import selectors
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

__all__ = ["Calls"]

_NUMBERS, _BYTES = (int, float), (bytes, bytearray, memoryview)
_DONE = (1, 2)  # libpq's PGRES_COMMAND_OK and PGRES_TUPLES_OK
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # takes no descriptor of its own


class Calls:
    """Procedures of the schema that a connection is set to; prepared there when first called."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Of a connection in autocommit, whose texts are in UTF-8."""
        self._connection, self._server = connection, connection.pgconn
        self._prepared: dict[str, bytes] = {}  # by procedure; nothing else on this connection prepares, or forgets
        self._tried = 0
        self._heard: selectors.BaseSelector = _Selector()
        self._heard.register(self._server.socket, selectors.EVENT_READ)

    def answer(self, procedure: str, *arguments: Any) -> str | None:
        """Call a procedure with all but its last parameter, which is its answer, as the server writes it.

        Raises:
            psycopg.Error: the server refused or failed.
        """
        import psycopg

        server, name = self._server, self._prepared.get(procedure)
        if name is None:
            self._tried += 1  # another name each time: one that was interrupted may be there
            name = f"{procedure}_{self._tried}".encode()
            _checked(server.prepare(name, _text(procedure, len(arguments))))
            self._prepared[procedure] = name
        values, exact = map(list, zip(*map(_written, arguments), strict=True))
        server.send_query_prepared(name, values, exact)
        try:
            self._send_all()
            result = self._last()
        except psycopg.Error:
            raise
        except BaseException:  # of a signal
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel()  # else the server goes on when the lock falls
                if not server.flush():
                    self._last()
            raise
        assert result is not None
        _checked(result)
        found = result.get_value(0, result.nfields - 1)
        return None if found is None else found.decode()

    def _send_all(self) -> None:
        while self._server.flush():  # a long vector: the server may have to be heard before it reads on
            self._heard.modify(self._server.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            self._heard.select()
            self._server.consume_input()
            self._heard.modify(self._server.socket, selectors.EVENT_READ)

    def _last(self) -> psycopg.pq.abc.PGresult | None:
        """What came last, when all is there: an error may follow what was done, if it cannot be made durable."""
        result = None
        while True:
            while self._server.is_busy():
                self._heard.select()
                self._server.consume_input()
            more = self._server.get_result()
            if more is None:
                return result
            result = more


def _written(value: object) -> tuple[bytes | None, bool]:
    """What is sent, and whether it is exactly that, with its length: texts and bytes; numbers are sent as text."""
    if isinstance(value, str):
        return str.encode(value), True  # what it is, not what a class of texts prints
    if isinstance(value, _NUMBERS):
        return str(value).encode(), False
    if value is None:
        return None, False
    return (bytes(value), True) if isinstance(value, _BYTES) else (str(value).encode(), False)


def _checked(result: psycopg.pq.abc.PGresult) -> psycopg.pq.abc.PGresult:
    if result.status not in _DONE:
        from psycopg.errors import error_from_result

        raise error_from_result(result)
    return result


@cache
def _text(procedure: str, arguments: int) -> bytes:
    places = "".join(f"${place}, " for place in range(1, arguments + 1))
    return f"CALL {procedure}({places}NULL)".encode()
