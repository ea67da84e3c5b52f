"""A federation of real processes for tests: started, commanded over pipes, stopped, killed and restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from dp.accounting.budget import ApproxDP, Budget, PureDP
from lake.ledger import Ledger
from lake.ledger.sqlite import SQLiteStore
from spark_mpc.federation_file import Peer, add_party
from spark_mpc.identity import Identity
from tests.e2e.party_worker import Order
from tests.tools.federations import free_ports

__all__ = ["PARTIES", "Books", "Event", "Parties", "PartyProcess"]

PARTIES = ("a", "b", "c")
_TIMEOUT_SECONDS = 5.0
_RENDEZVOUS_SECONDS = 12.0  # a party that dies before it has greeted is lost after this
_SLACK_SECONDS = 20.0  # other processes share these cores
_START_SECONDS = 120.0
_ROOT = Path(__file__).resolve().parents[2]

Event = dict[str, Any]


class PartyProcess:
    """One party's process and its JVM: a process group of their own, and a thread that reads what it says."""

    def __init__(self, name: str, arguments: Iterable[object], log: Path) -> None:
        self.name, self.log = name, log
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.party_worker", name, *map(str, arguments)],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def order(self, order: Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()

    def next_event(self, seconds: float) -> Event | None:
        """What it says next; None when it has ended."""
        try:
            return self._events.get(timeout=seconds)
        except Empty:
            raise AssertionError(f"{self.name} said nothing for {seconds:g} s: see {self.log}") from None

    def until(self, *wanted: str, seconds: float) -> Event:
        """The first event, or step, of these names; each step on the way starts the time afresh."""
        while (event := self.next_event(seconds)) is not None:
            if event["event"] in wanted or event.get("step") in wanted:
                return event
        raise AssertionError(f"{self.name} ended before {wanted}: see {self.log}")

    def outcome(self, seconds: float = _RENDEZVOUS_SECONDS + _SLACK_SECONDS) -> Event:
        """How the order ended; by default within the federation's timeouts of its last step, as if a peer had died."""
        return self.until("released", "failed", seconds=seconds)

    def wait_for_death(self) -> None:
        """By its own hand, in the middle of an order."""
        while (event := self.next_event(_START_SECONDS)) is not None:
            assert event["event"] == "step", f"{self.name} outlived its order: {event}"
        assert self._process.wait(_SLACK_SECONDS) == -signal.SIGKILL

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the process and its JVM."""
        with suppress(ProcessLookupError):  # nothing of the group is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)


@dataclass(frozen=True)
class Books:
    """What a party's ledger holds of one release; read beside its owner, without settling anything.

    Attributes:
        states: of its entries, oldest first.
        noised: the paid vector that can be masked afresh, or None.
        stored: the stored release, or None.
    """

    states: tuple[str, ...]
    noised: bytes | None
    stored: bytes | None

    @property
    def paid(self) -> int:
        """How often it was paid for."""
        return sum(state in ("armed", "spent") for state in self.states)


class Parties:
    """Parties over mutual TLS on loopback, each with its Spark, its lake and its ledger.

    Args:
        folder: for all that they write.
        protocol: "additive", or "rep3", under which every release pays a small delta, too.
        names: of all of them; under rep3 the first three compute.
    """

    def __init__(self, folder: Path, protocol: str = "additive", names: Sequence[str] = PARTIES) -> None:
        self.folder, self.names = folder, tuple(names)
        self._delta = Fraction(1, 10**9) if protocol == "rep3" else Fraction(0)
        self._processes: dict[str, PartyProcess] = {}
        self._federation = _write_federation(folder, protocol, self.names)
        for name in self.names:
            capacity = ApproxDP(100, 1000 * self._delta) if self._delta else PureDP(100)
            Ledger.create(self.ledger(name), capacity=capacity).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for process in self._processes.values():
                stack.callback(process.end)

    def price(self, epsilon: Fraction) -> PureDP | ApproxDP:
        """Of a release at this epsilon."""
        return ApproxDP(epsilon, self._delta) if self._delta else PureDP(epsilon)

    def plus(self, spent: PureDP | ApproxDP, debits: int, epsilon: Fraction) -> PureDP | ApproxDP:
        """What is spent after so many more releases at this epsilon."""
        paid = PureDP(spent.epsilon + debits * epsilon)
        return ApproxDP(paid.epsilon, spent.delta + debits * self._delta) if isinstance(spent, ApproxDP) else paid

    def asks(self, epsilon: Fraction, fault: str = "", step: str = "", *, task: str = "query") -> Order:
        """What a party is told to ask for."""
        return Order(str(epsilon), fault, step, delta=str(self._delta), task=task)

    def ledger(self, name: str) -> Path:
        return self.folder / f"{name}.ledger"

    def start(self, name: str, *, ledger: Path | None = None) -> None:
        """Start a party, or start it again."""
        if name in self._processes:
            self._processes.pop(name).end()
        arguments = (self._federation, self.folder / f"{name}.delta", ledger or self.ledger(name))
        self._processes[name] = PartyProcess(name, arguments, self.folder / f"{name}.log")

    def all_ready(self) -> None:
        """Start whoever does not run, and wait until all of them do."""
        started = [name for name in self.names if name not in self._processes or not self[name].is_running]
        for name in started:
            self.start(name)
        self.wait_ready(*started)

    def wait_ready(self, *names: str) -> None:
        for name in names:
            self[name].until("ready", seconds=_START_SECONDS)

    def __getitem__(self, name: str) -> PartyProcess:
        return self._processes[name]

    def order(self, orders: Mapping[str, Order]) -> None:
        """Tell every party what to ask for."""
        for name, order in orders.items():
            self[name].order(order)

    def outcomes(self, *names: str) -> dict[str, Event]:
        """How their orders ended."""
        return {name: self[name].outcome() for name in names}

    def ask(self, epsilon: Fraction, *, task: str = "query") -> dict[str, Event]:
        """All parties ask for a release, undisturbed."""
        self.order(dict.fromkeys(self.names, self.asks(epsilon, task=task)))
        # not hurried: a party that was just started reads its lake for the first time while the others wait for it
        return {name: self[name].outcome(_START_SECONDS) for name in self.names}

    def books(self, name: str, epsilon: Fraction) -> Books:
        """What a party's ledger holds of the release at this epsilon."""
        with self._read(name) as ledger:
            entries = [entry for entry in ledger.entries() if entry.price == self.price(epsilon)]
            key = entries[-1].release_key if entries else ""
            resumable = ledger.resumable(key)
            noised = None if resumable is None else resumable.noised
            return Books(tuple(entry.state for entry in entries), noised, ledger.stored_release(key))

    def spent(self) -> dict[str, PureDP | ApproxDP]:
        """Of every party's ledger."""
        spent = {}
        for name in self.names:
            with self._read(name) as ledger:
                budget = ledger.spent()
                assert isinstance(budget, PureDP | ApproxDP)
                spent[name] = budget
        return spent

    def reserved(self, name: str, *, seconds_from_now: float) -> Budget:
        """What will be reserved on a party's ledger if nothing happens until then."""
        with self._read(name, seconds_from_now) as ledger:
            return ledger.reserved()

    def _read(self, name: str, seconds_from_now: float = 0.0) -> Ledger:
        # not `Ledger.open`, which settles what a crash left behind: here it is looked at as it is
        return Ledger(SQLiteStore(self.ledger(name), lambda: time.time() + seconds_from_now))


def _write_federation(folder: Path, protocol: str, names: tuple[str, ...]) -> Path:
    path = folder / "federation.toml"
    rules = f"compute = {list(names[:3])}\n" if protocol == "rep3" else ""
    rules += f"timeout_seconds = {_TIMEOUT_SECONDS}\nrendezvous_seconds = {_RENDEZVOUS_SECONDS}\n"
    path.write_text(f'[federation]\nname = "faults"\nprotocol = "{protocol}"\n{rules}')
    with free_ports(len(names)) as ports:
        for name, port in zip(names, ports, strict=True):
            identity = Identity.create(name)
            identity.save(folder)
            add_party(path, Peer(name, f"127.0.0.1:{port}", (identity.certificate,)))
    return path
