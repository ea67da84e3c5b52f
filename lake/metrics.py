"""What a ledger has left, for Prometheus: a collector over an open ledger, and a page that serves it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from dp.accounting.budget import RenyiDP
from dp.errors import InvalidArgument
from lake.errors import LedgerError
from lake.ledger import BlockState, Ledger
from lake.ledger.approval import unapproved
from lake.ledger.audit import events_after
from lake.ledger.schema import WHOLE, claims
from lake.ledger.settings import read_settings
from lake.ledger.store import Transaction

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["FULLEST_BLOCKS", "LedgerCollector", "serve_metrics"]

FULLEST_BLOCKS = 20
"""So many blocks of each layout have metrics of their own, unless told otherwise."""

Samples = Iterable[tuple[tuple[str, ...], float | Fraction]]
"""Label values, and a number."""

_PREFIX = "spark_mpc_ledger_"
_PARTS = ("locked", "unlocked", "acquired", "consumed")
_STATES = ("waiting", "reserved", "armed", "spent", "released", "failed")
_BY_STATE = select(claims.c.state, func.count(), func.min(claims.c.created_at)).group_by(claims.c.state)


@dataclass(frozen=True)
class _Look:
    """A ledger at one moment.

    Attributes:
        blocks: layout -> its blocks; the whole stands under its own name.
        claims: state -> how many.
        unapproved: how many of the reserved ones the steward has to approve.
        oldest_wait_seconds: age of the oldest claim that waits; 0 without one.
        events: kind -> how many the audit log has.
        sequence: the number of the last of them.
    """

    blocks: dict[str, list[BlockState]]
    claims: dict[str, int]
    unapproved: int
    oldest_wait_seconds: float
    events: dict[str, int]
    sequence: int


class LedgerCollector:
    """Metrics of one open ledger, read when they are asked for; register it with a registry of prometheus_client.

    Amounts become the nearest floating-point numbers; what is exact is in the ledger's exports.

    Leaks:
        To whoever may read them: what layouts and their fullest blocks have left, and how many claims there are. Label
        values are names of layouts, blocks, amounts, states and events: nothing that an analyst wrote.
    Cost:
        One transaction a scrape, which reads every block. The first scrape reads the whole audit log, later ones what
        is new in it. Five numbers for each amount of a layout, and as many for each of its fullest blocks.
    """

    def __init__(self, ledger: Ledger, *, fullest: int = FULLEST_BLOCKS) -> None:
        """Watch a ledger.

        Args:
            ledger: open; other threads may use it meanwhile.
            fullest: so many blocks of each layout have metrics of their own: the fullest that are not retired.

        Raises:
            InvalidArgument: the library prometheus_client is not there.
        """
        if find_spec("prometheus_client") is None:
            raise InvalidArgument("metrics", "prometheus_client is not installed", "pip install 'spark-mpc[metrics]'")
        self._ledger, self._fullest = ledger, fullest
        self._events: Counter[str] = Counter()
        self._sequence = 0

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand."""
        look = self._look()
        layouts = [((layout,), states) for layout, states in look.blocks.items()]
        blocks = [
            ((layout, state.name), [state])
            for (layout,), states in layouts
            if layout != WHOLE
            for state in _fullest(states, self._fullest)
        ]
        yield from _budgets("layout", ("layout",), layouts)
        yield from _budgets("block", ("layout", "block"), blocks)
        yield _gauge("blocks", "Blocks that were made", ("layout", "retired"), _retired(look.blocks))
        by_state = [((state,), look.claims.get(state, 0)) for state in _STATES]
        yield _gauge("claims", "Claims by their state", ("state",), by_state)
        asking = "Reserved claims that the steward has to approve"
        yield _gauge("unapproved_claims", asking, (), [((), look.unapproved)])
        oldest = "Age of the oldest claim that waits, 0 without one"
        yield _gauge("oldest_wait_seconds", oldest, (), [((), look.oldest_wait_seconds)])
        yield _gauge("head_sequence", "Number of the last event of the audit log", (), [((), look.sequence)])
        yield _events(look.events)

    def _look(self) -> _Look:
        with self._ledger.books() as books:
            rows = {state: (count, oldest) for state, count, oldest in books.tx.rows(_BY_STATE)}
            blocks: dict[str, list[BlockState]] = defaultdict(list)
            for state in books.accounts.all():
                blocks[state.layout or WHOLE].append(state)
            waits = max(books.tx.now - rows["waiting"][1], 0.0) if "waiting" in rows else 0.0
            counts = {state: count for state, (count, _) in rows.items()}
            asking = len(unapproved(books, read_settings(books.tx)))
            return _Look(blocks, counts, asking, waits, self._counted(books.tx), self._sequence)

    def _counted(self, tx: Transaction) -> dict[str, int]:
        """How many events of each kind there are; the transaction keeps other threads out meanwhile."""
        for event in events_after(tx, self._sequence):
            self._events[event.fields["event"]] += 1
            self._sequence = event.sequence
        return dict(self._events)


@contextmanager
def serve_metrics(
    ledger: Ledger, *, port: int = 9464, host: str = "127.0.0.1", fullest: int = FULLEST_BLOCKS
) -> Iterator[str]:
    """Serve a ledger's metrics over HTTP while the block runs; gives the page's address.

    Args:
        ledger: open.
        port: where to listen; 0 for a free one.
        host: whom to listen to: whoever reaches the page may read it.
        fullest: see `LedgerCollector`.

    Raises:
        LedgerError: the port is taken, or not one that this user may have.
    """
    collector = LedgerCollector(ledger, fullest=fullest)
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        problem = f"its metrics cannot be served at {host}:{port} ({error.strerror})"
        raise LedgerError(ledger.name, problem, "choose another --port or --host") from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _budgets(
    scope: str, names: tuple[str, ...], accounts: Sequence[tuple[tuple[str, ...], Sequence[BlockState]]]
) -> Iterator[GaugeMetricFamily]:
    """Capacity and its four parts, of each group of blocks together."""
    capacity = [
        ((*labels, name), amount) for labels, states in accounts for name, amount in _total(states, "capacity").items()
    ]
    parts = [
        ((*labels, name, part), amount)
        for labels, states in accounts
        for part in _PARTS
        for name, amount in _total(states, part).items()
    ]
    yield _gauge(f"{scope}_capacity", f"All that a {scope} ever gives", (*names, "amount"), capacity)
    yield _gauge(f"{scope}_budget", f"Parts of the capacity of a {scope}", (*names, "amount", "part"), parts)


def _total(states: Sequence[BlockState], part: str) -> dict[str, Fraction]:
    """Amounts, not a budget: a thousand blocks may have more than 1 of delta between them."""
    amounts = [getattr(state, part).amounts for state in states]
    return {name: sum((each[name] for each in amounts), Fraction(0)) for name in amounts[0]}


def _fullest(states: Sequence[BlockState], count: int) -> list[BlockState]:
    return sorted((state for state in states if not state.retired), key=_fullness, reverse=True)[:count]


def _fullness(state: BlockState) -> Fraction:
    """How much of it is consumed or held: of the scarcest amount, of the best Renyi order."""
    left = state.remaining.amounts
    used = [1 - left[name] / whole for name, whole in state.capacity.amounts.items() if whole]
    return min(used) if isinstance(state.capacity, RenyiDP) else max(used)


def _retired(blocks: dict[str, list[BlockState]]) -> Samples:
    for layout, states in blocks.items():
        gone = sum(state.retired for state in states)
        yield (layout, "yes"), gone
        yield (layout, "no"), len(states) - gone


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def _events(counts: dict[str, int]) -> CounterMetricFamily:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"{_PREFIX}events", "Events of the audit log", labels=("event",))
    for kind, count in sorted(counts.items()):
        family.add_metric((kind,), count)
    return family
