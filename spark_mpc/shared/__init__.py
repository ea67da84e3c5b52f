"""Secret arrays that feel like numbers: integers, reals and truth values, with operators and public bounds.

    x = shared_ints(engine, owner=0, values=mine, length=1000, bound=10**6)
    y = shared_ints(engine, owner=1, values=mine, length=1000, bound=10**6)
    total = select(x < y, x, y).sum()
    total.open()                            # an array at the parties that are named, None elsewhere

All three parties run the same lines; nothing of a value shows until `open`.
"""

from spark_mpc.shared.choice import select
from spark_mpc.shared.ints import MOST_COMPARED, SharedBits, SharedInts, shared_bits, shared_ints
from spark_mpc.shared.reals import SharedReals, shared_reals

__all__ = [
    "MOST_COMPARED",
    "SharedBits",
    "SharedInts",
    "SharedReals",
    "select",
    "shared_bits",
    "shared_ints",
    "shared_reals",
]
