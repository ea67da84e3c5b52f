"""The exchange by unit, without Spark: every row arrives as it was sent, and all rows of a unit in one bucket."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import chain, pairwise
from typing import Any

import pyarrow as pa
import pytest

from dp.execution.scatter import packed_by_bucket, unpacked

INTEGERS = [0, 1, -1, 127, -128, 2**15, -(2**31), 2**31, 2**63 - 1, -(2**63)]
SALT = 99


def draw_batches(seed: int, *, values: list[int | None], text: bool, rows: int = 3000) -> list[pa.RecordBatch]:
    rng = random.Random(seed)
    units = [rng.randrange(50) for _ in range(rows)]
    names = [f"unit {unit}".encode() for unit in units]
    columns: dict[str, Any] = {"unit": pa.array(names if text else units, pa.binary() if text else pa.int64())}
    if text:  # a hash that many units share brings them into one bucket, and does no harm
        columns["unit_hash"] = pa.array([(unit % 7) * 2**60 - 2**62 for unit in units], pa.int64())
    columns["group"] = pa.array([rng.randrange(9) for _ in units], pa.int32())
    columns["m0"] = pa.array([rng.choice(values) for _ in units], pa.int64())
    whole = pa.RecordBatch.from_pydict(columns)
    cuts = sorted({0, rows, *(rng.randrange(rows) for _ in range(4))})
    return [whole.slice(start, stop - start) for start, stop in pairwise(cuts)]


def rows_of(batches: list[pa.RecordBatch] | pa.Table) -> list[tuple[Any, ...]]:
    table = batches if isinstance(batches, pa.Table) else pa.Table.from_batches(batches)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.mark.parametrize("text", [False, True], ids=["integer", "text"])
@pytest.mark.parametrize(
    "values",
    [[5], [-128, 127], [128], [None], [None, 3], [None, *INTEGERS], INTEGERS],
    ids=lambda values: str(values)[:20],
)
@pytest.mark.parametrize("buckets", [1, 2, 7, 300])
def test_all_rows_arrive_and_a_unit_is_in_one_bucket(buckets: int, values: list[int | None], text: bool) -> None:
    """ATTACKS 14: also where a column has other NULLs, and other widths, in one batch than in the next."""
    sent = draw_batches(buckets, values=values, text=text)
    # chunks of their own, as tasks before the exchange make them
    packed = [out for batch in sent for out in packed_by_bucket([batch], salt=SALT, buckets=buckets)]
    by_bucket: dict[int, list[pa.RecordBatch]] = defaultdict(list)
    for out in packed:
        for place, bucket in enumerate(out.column("bucket").to_pylist()):
            assert 0 <= bucket < buckets
            by_bucket[bucket].append(out.select(["packed"]).slice(place, 1))
    received = {bucket: rows_of(unpacked(streams)) for bucket, streams in by_bucket.items()}
    assert sorted(map(repr, chain.from_iterable(received.values()))) == sorted(map(repr, rows_of(sent)))
    owners = [{row[0] for row in rows} for rows in received.values()]
    assert sum(map(len, owners)) == len(set().union(*owners)), "no unit is in two buckets"
    if buckets > 1:
        assert len(received) > 1


def test_another_salt_spreads_units_otherwise() -> None:
    sent = draw_batches(3, values=[1], text=False)
    one, same, other = (
        pa.Table.from_batches(packed_by_bucket(sent, salt=salt, buckets=8)) for salt in (SALT, SALT, SALT + 1)
    )
    assert one.equals(same)
    assert not one.equals(other)


def test_integers_travel_in_few_bytes() -> None:
    """Of the twenty bytes of a row three are needed."""
    sent = draw_batches(4, values=[0, 100], text=False, rows=60_000)
    packed = pa.Table.from_batches(packed_by_bucket(sent, salt=SALT, buckets=4))
    assert packed.nbytes < 60_000 * 4
    assert pa.Table.from_batches(sent).nbytes >= 60_000 * 20


def test_nothing_comes_of_nothing() -> None:
    assert unpacked([]) is None
    assert unpacked(packed_by_bucket([], salt=SALT, buckets=4)) is None
