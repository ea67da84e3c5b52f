"""The data that we and our peers are given: visits (user, key, value), made once with numpy and kept as Parquet.

Ten rows a user on average, 1,000 keys of Zipf's distribution, values uniform in 0..100: under 4 groups x 4 rows most
rows are dropped, under 16 rows hardly any.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks._cache import cache_folder
from benchmarks.peers.protocol import KEYS, MAX_GROUPS, MAX_ROWS, VALUES

__all__ = ["Visits"]

_FORMAT = 1  # raised when the same name comes to mean other rows
_SEED = 4
_ROWS_PER_USER = 10
_FILES = 8

Longs = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Visits:
    """One table of visits.

    Attributes:
        name: tells it from others.
        user: shape (rows,), likewise the others.
        key: 0..KEYS - 1.
        value: within VALUES.
    """

    name: str
    user: Longs
    key: Longs
    value: Longs

    @classmethod
    def many(cls, rows: int) -> Visits:
        """Users with about ten rows each."""
        random = np.random.default_rng(_SEED)
        user = random.integers(0, rows // _ROWS_PER_USER, rows)
        return cls(f"many-{rows}", user, _keys(random, rows), _values(random, rows))

    @classmethod
    def within_bounds(cls, rows: int) -> Visits:
        """What is left of `many` when no user has more than MAX_GROUPS groups and MAX_ROWS rows in each."""
        visits = cls.many(rows)
        pairs, pair = np.unique(visits.user * KEYS + visits.key, return_inverse=True)
        chosen = _first_of_each(pairs // KEYS, MAX_GROUPS)[pair]
        kept = np.flatnonzero(chosen)
        kept = kept[_first_of_each(pair[kept], MAX_ROWS)]
        return cls(f"within-bounds-{rows}", visits.user[kept], visits.key[kept], visits.value[kept])

    @classmethod
    def single(cls, rows: int) -> Visits:
        """Every user has one row: no bound drops anything."""
        random = np.random.default_rng(_SEED)
        return cls(f"single-{rows}", np.arange(rows), _keys(random, rows), _values(random, rows))

    def parquet(self) -> Path:
        """The folder of its Parquet files, written on first use."""
        target = cache_folder("visits") / f"{self.name}-format-{_FORMAT}"
        if not target.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=target.parent))
            for number, rows in enumerate(np.array_split(np.arange(len(self.user)), _FILES)):
                table = {name: getattr(self, name)[rows] for name in ("user", "key", "value")}
                pq.write_table(pa.table(table), scratch / f"part-{number}.parquet")
            try:
                scratch.rename(target)
            except OSError:  # another process was first
                shutil.rmtree(scratch)
        return target

    def truth(self, aggregate: str) -> NDArray[np.float64]:
        """The exact answer of every key, shape (KEYS,); NaN where it has none.

        Args:
            aggregate: one of AGGREGATES.
        """
        counts = np.bincount(self.key, minlength=KEYS).astype(np.float64)
        sums = np.bincount(self.key, self.value, KEYS).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / counts
            match aggregate:
                case "count":
                    return counts
                case "sum":
                    return sums
                case "mean":
                    return means
                case "variance":
                    return np.asarray(np.bincount(self.key, self.value**2, KEYS) / counts - means**2)
                case "median":
                    order = np.argsort(self.key, kind="stable")
                    groups = np.split(self.value[order], np.cumsum(counts.astype(np.int64))[:-1])
                    return np.array([np.median(group) if len(group) else np.nan for group in groups])
        raise ValueError(f"no truth for {aggregate!r}")


def _keys(random: np.random.Generator, rows: int) -> Longs:
    weights = 1 / np.arange(1, KEYS + 1)
    return random.choice(KEYS, size=rows, p=weights / weights.sum())


def _values(random: np.random.Generator, rows: int) -> Longs:
    return random.integers(VALUES[0], VALUES[1], rows, endpoint=True)


def _first_of_each(owner: Longs, most: int) -> NDArray[np.bool_]:
    """Which elements are among a random `most` of their owner's."""
    order = np.lexsort((np.random.default_rng(_SEED).random(len(owner)), owner))
    ranked = owner[order]
    starts = np.searchsorted(ranked, ranked)  # where each owner's run begins
    chosen = np.zeros(len(owner), np.bool_)
    chosen[order] = np.arange(len(owner)) - starts < most
    return chosen
