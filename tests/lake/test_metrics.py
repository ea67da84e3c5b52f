"""What Prometheus reads over HTTP is what the ledger holds, and nothing that an analyst wrote."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dp.accounting.budget import ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import Claim
from dp.errors import BudgetExceeded
from lake.blocks import Blocks
from lake.errors import LedgerError
from lake.ledger import BlockState, Ledger, Steward
from lake.ledger.rows import Request
from lake.ledger.selection import Named
from lake.metrics import LedgerCollector, serve_metrics
from lake.scheduling import DPF, ByArrivals
from tests.tools.ledgers import Clock

RULE = Blocks.users(4, name="visits")
NAMES = tuple(f"visits/users-{number}-of-4" for number in range(4))

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """Four blocks of 1, of which 0.6 is open: one waits, one is held, one is half spent, one is given back."""
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(3), clock=clock) as made:
        Steward(made).lay_out(RULE, capacity=PureDP(1))
        Steward(made).schedule(DPF(ByArrivals(10)))
        for number in range(6):
            paid(made, f"open {number}", PureDP("1/100"), NAMES)
        waits(made, "waits", PureDP("0.7"), NAMES[:1])
        reserve(made, "held", PureDP("1/3"), NAMES[1:2])
        paid(made, "paid", PureDP("0.5"), NAMES[2:3])
        made.release(reserve(made, "back", PureDP("0.2"), ()))
        yield made


def reserve(ledger: Ledger, request_id: str, price: Budget, blocks: tuple[str, ...]) -> Claim:
    return ledger.reserve(
        request_id=request_id, price=price, table="secret table", data_version="secret version", blocks=blocks,
        release_key=request_id, run_id="secret run", purpose="secret purpose", lease_seconds=600,
    )  # fmt: skip


def paid(ledger: Ledger, request_id: str, price: Budget, blocks: tuple[str, ...]) -> None:
    claim = reserve(ledger, request_id, price, blocks)
    ledger.arm(claim, b"")
    ledger.commit(claim, None)


def waits(ledger: Ledger, request_id: str, price: Budget, blocks: tuple[str, ...]) -> None:
    request = Request(request_id, lease_seconds=600, timeout_seconds=600, owner="secret owner")
    assert ledger.ask(request, Named(blocks, price, "")).state == "waiting"


def scraped(address: str) -> Samples:
    with urlopen(address, timeout=10) as page:
        text = page.read().decode()
    assert "secret" not in text
    families = text_string_to_metric_families(text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"spark_mpc_ledger_{name}", frozenset(labels.items())]


def names(samples: Samples, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for found, labels in samples if found == f"spark_mpc_ledger_{name}"}


PARTS = ("locked", "unlocked", "acquired", "consumed")


def check_block(samples: Samples, state: BlockState) -> None:
    where = {"layout": state.layout, "block": state.name}
    for amount, capacity in state.capacity.amounts.items():
        assert value(samples, "block_capacity", **where, amount=amount) == float(capacity)
        for part in PARTS:
            exact = getattr(state, part).amounts[amount]
            assert value(samples, "block_budget", **where, amount=amount, part=part) == float(exact)


def test_a_scrape_tells_what_the_ledger_holds(ledger: Ledger, clock: Clock) -> None:
    clock.now += 30
    Steward(ledger).require_approval(PureDP("1/4"), wait_seconds=0)
    with serve_metrics(ledger, port=0) as address:
        assert address.startswith("http://127.0.0.1:")
        samples = scraped(address)
    states = {state.name: state for state in ledger.blocks()}
    for name in NAMES:
        check_block(samples, states[name])
    for part in PARTS:
        total = sum((getattr(states[name], part).epsilon for name in NAMES), Fraction(0))
        assert value(samples, "layout_budget", layout="visits", amount="epsilon", part=part) == float(total)
        whole = getattr(states["whole"], part).epsilon
        assert value(samples, "layout_budget", layout="whole", amount="epsilon", part=part) == float(whole)
    assert value(samples, "layout_capacity", layout="visits", amount="epsilon") == 4
    entries = ledger.entries()
    for state in ("waiting", "reserved", "armed", "spent", "released", "failed"):
        assert value(samples, "claims", state=state) == sum(entry.state == state for entry in entries)
    assert value(samples, "claims", state="waiting") == 1
    assert value(samples, "oldest_wait_seconds") == 30
    assert value(samples, "unapproved_claims") == len(ledger.unapproved()) == 1
    assert value(samples, "blocks", layout="visits", retired="no") == 4
    assert value(samples, "head_sequence") == ledger.head().sequence


def test_events_are_counted_once_however_often_they_are_scraped(ledger: Ledger) -> None:
    with serve_metrics(ledger, port=0) as address:
        first = scraped(address)
        paid(ledger, "one more", PureDP("0.1"), ())
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "too much", PureDP("0.9"), NAMES[1:2])  # arrivals count: the refusal is on record
        again = scraped(address)
    grown = {kind: value(again, "events_total", event=kind) for kind in names(again, "events_total", "event")}
    for kind in names(first, "events_total", "event"):
        grown[kind] -= value(first, "events_total", event=kind)
    assert {kind: count for kind, count in grown.items() if count} == {
        "waiting": 2, "failed": 1, "reserved": 1, "armed": 1, "spent": 1,
    }  # fmt: skip
    log = [event.fields["event"] for event in ledger.events()]
    assert value(again, "events_total", event="reserved") == log.count("reserved")


def test_the_fullest_blocks_that_are_not_retired_have_metrics_of_their_own(ledger: Ledger) -> None:
    for number in range(3):  # each arrival unlocks a tenth, so that the fourth gets all that is left
        with pytest.raises(BudgetExceeded):
            reserve(ledger, f"knocks {number}", PureDP("0.94"), NAMES[3:])
    with serve_metrics(ledger, port=0, fullest=2) as address:
        assert names(scraped(address), "block_capacity", "block") == {NAMES[1], NAMES[2]}
        paid(ledger, "the rest", PureDP("0.94"), NAMES[3:])
        samples = scraped(address)
    assert names(samples, "block_capacity", "block") == {NAMES[1], NAMES[2]}
    assert value(samples, "blocks", layout="visits", retired="yes") == 1


@pytest.mark.parametrize(
    ("capacity", "price"),
    [
        (ApproxDP(2, "1e-6"), ApproxDP("1/3", "1e-9")),
        (RenyiDP({"3/2": 1, 8: 2}), RenyiDP({"3/2": "1/5", 8: 9})),  # negative at one order from now on
    ],
    ids=["approx", "renyi"],
)
def test_every_amount_has_its_own_numbers(tmp_path: Path, capacity: Budget, price: Budget) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=capacity) as ledger:
        paid(ledger, "r", price, ())
        with serve_metrics(ledger, port=0) as address:
            samples = scraped(address)
    for amount, spent in price.amounts.items():
        left = capacity.amounts[amount] - spent
        where = {"layout": "whole", "amount": amount}
        assert value(samples, "layout_budget", **where, part="consumed") == float(spent)
        assert value(samples, "layout_budget", **where, part="unlocked") == float(left)


def test_a_port_that_is_taken_is_an_error_of_ours(ledger: Ledger) -> None:
    with serve_metrics(ledger, port=0) as address:
        taken = int(address.rpartition(":")[2].partition("/")[0])
        with (
            pytest.raises(LedgerError, match=f"cannot be served at 127.0.0.1:{taken}"),
            serve_metrics(ledger, port=taken),
        ):
            pass


def test_a_collector_can_stand_in_a_registry_of_ones_own(ledger: Ledger) -> None:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger))
    assert registry.get_sample_value("spark_mpc_ledger_claims", {"state": "reserved"}) == 1
