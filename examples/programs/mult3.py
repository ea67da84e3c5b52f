"""One number of each of three insurers, multiplied: the smallest program that needs more than sums."""

from __future__ import annotations

import spark_mpc as mpc
from spark_mpc import dp

from .job import INSURERS, command, pooled

__all__ = ["main", "mult3", "people", "truth"]

MOST_PEOPLE = 3000  # of one insurer; more are cut off


def mult3(x: mpc.SecretInts, y: mpc.SecretInts, z: mpc.SecretInts) -> mpc.SecretInts:
    """The product of three."""
    return x * y * z


def people(claims: mpc.FederatedFrame) -> mpc.Program:
    """Trios of people, one of each insurer, who all went to the doctor: nobody learns a count."""
    patients = claims.where("mdvis >= 1").groupBy(max_groups=1).agg(dp.count_units())
    x, y, z = (mpc.secret(patients, of=insurer, at_most=MOST_PEOPLE) for insurer in INSURERS)
    return mpc.program(mult3, x=x, y=y, z=z)


def truth() -> int:
    """The pooled truth."""
    rows = pooled()
    return int(rows[rows["mdvis"] >= 1].groupby("insurer")["zper"].nunique().prod())


main = command(f"{__package__}.mult3", people, truth)

if __name__ == "__main__":
    main()
