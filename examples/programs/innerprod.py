"""How alike are the portfolios of two insurers? The inner product of how many people each has on every plan."""

from __future__ import annotations

import spark_mpc as mpc
from spark_mpc import dp

from ..health_insurance import data
from .job import INSURERS, command, pooled

__all__ = ["innerprod", "main", "portfolios", "truth"]

MOST_PEOPLE = 1000  # of one insurer on one plan; more are cut off


def innerprod(x: mpc.SecretInts, y: mpc.SecretInts) -> mpc.SecretInts:
    """The sum of products."""
    return x.dot(y)


def portfolios(claims: mpc.FederatedFrame) -> mpc.Program:
    """Pairs of people, one of insurer_a and one of insurer_b, who are on the same plan: nobody learns the counts."""
    people = claims.groupBy("plan", keys=data.PLANS, max_groups=1).agg(dp.count_units())
    a, b, _ = INSURERS
    return mpc.program(
        innerprod,
        x=mpc.secret(people, of=a, at_most=MOST_PEOPLE),
        y=mpc.secret(people, of=b, at_most=MOST_PEOPLE),
    )


def truth() -> int:
    """The pooled truth."""
    people = pooled().groupby(["insurer", "plan"])["zper"].nunique().unstack(fill_value=0)
    a, b, _ = INSURERS
    return int((people.loc[a] * people.loc[b]).sum())


main = command(f"{__package__}.innerprod", portfolios, truth)

if __name__ == "__main__":
    main()
