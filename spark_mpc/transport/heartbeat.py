"""Watches one peer while a run is open: is it there, is it the same process, has it given up?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spark_mpc.errors import CertificateRefused, FederationError
from spark_mpc.transport.mailbox import Mailbox
from spark_mpc.wire import RunState, Status

__all__ = ["Heartbeat", "Ping"]

Ping = Callable[[str, bytes, float], tuple[bytes, Status]]
"""(peer, run, timeout in seconds) -> (the peer's process, its status)."""

_UNREACHABLE_SECONDS = 2.0
_LONGEST_LOOK_SECONDS = 5.0


class Heartbeat:
    """Pings one peer about every open run and tells the mailbox what it learns.

    Silence is the time in which this process itself looked and saw nothing: each look counts at most as long as it was
    meant to take. A process that was stopped and resumed therefore asks its peers again before it calls them lost.

    Args:
        peer: the party to watch.
        ping: asks it.
        mailbox: is told.
        timeout_seconds: a peer that is silent for longer is lost.
    """

    def __init__(self, peer: str, ping: Ping, mailbox: Mailbox, timeout_seconds: float) -> None:
        self._peer = peer
        self._ping = ping
        self._mailbox = mailbox
        self._timeout_seconds = timeout_seconds
        self._interval_seconds = min(1.0, timeout_seconds / 4)
        self._patience: dict[bytes, _Patience] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"heartbeat of {peer}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            runs = self._mailbox.runs_to_watch(self._peer, self._interval_seconds)
            self._patience = {run: self._patience.get(run, _Patience()) for run in runs}
            for run, patience in self._patience.items():
                self._look(run, patience)
            if runs:
                self._stopped.wait(self._interval_seconds)

    def _look(self, run: bytes, patience: _Patience) -> None:
        # The rest of the patience bounds the look, so that a silent peer is called lost in time.
        allowed = min(self._timeout_seconds / 2, _LONGEST_LOOK_SECONDS, self._timeout_seconds - patience.silent)
        started = time.monotonic()
        try:
            incarnation, status = self._ping(self._peer, run, allowed)
        except CertificateRefused as error:
            self._mailbox.lost(self._peer, run, error.reason)
        except ConnectionRefusedError:
            self._count(patience, started, allowed)
            patience.refused += self._spent(started, allowed)
        except (OSError, FederationError):
            self._count(patience, started, allowed)
            patience.refused = 0.0
        else:
            self._hear(run, patience, incarnation, status)
        self._judge(run, patience)

    def _spent(self, started: float, allowed: float) -> float:
        return min(time.monotonic() - started, allowed) + self._interval_seconds

    def _count(self, patience: _Patience, started: float, allowed: float) -> None:
        patience.silent += self._spent(started, allowed)

    def _hear(self, run: bytes, patience: _Patience, incarnation: bytes, status: Status) -> None:
        patience.silent = patience.refused = 0.0
        absent = status.state is RunState.UNKNOWN
        patience.absent = patience.absent + self._interval_seconds if absent else 0.0
        self._mailbox.heard(self._peer, run, incarnation, status)

    def _judge(self, run: bytes, patience: _Patience) -> None:
        if patience.refused >= min(_UNREACHABLE_SECONDS, self._timeout_seconds):
            self._mailbox.lost(self._peer, run, "nothing listens at its address any more: restart it and try again")
        elif patience.silent >= self._timeout_seconds:
            self._mailbox.lost(self._peer, run, f"silent for {self._timeout_seconds:g} s: is it stalled, or cut off?")
        elif patience.absent >= self._timeout_seconds:
            self._mailbox.lost(self._peer, run, f"it has not joined the run in {self._timeout_seconds:g} s")


class _Patience:
    """Seconds, as seen by this process while it ran."""

    def __init__(self) -> None:
        self.silent = 0.0
        self.refused = 0.0
        self.absent = 0.0
