"""Everything that costs nothing, in the order of use: tune on public rows, set error targets, run dry; then a picture.

python -m examples.before_paying PICTURES

The "public" rows are made up here: visits of patients to wards, most patients with a few, some with dozens.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from spark_mpc import dp, lake

WARDS = ["east", "north", "south", "west"]
PATIENTS, SEED = 2_000, 7


def made_up_visits() -> pd.DataFrame:
    """Rows (patient, ward, cost): last year's, say, which were published."""
    rng = np.random.default_rng(SEED)
    patients = np.repeat(np.arange(PATIENTS), rng.geometric(0.15, PATIENTS))
    return pd.DataFrame(
        {
            "patient_id": patients,
            "ward": rng.choice(WARDS, len(patients), p=[0.4, 0.3, 0.2, 0.1]),
            "cost": rng.gamma(2.0, 150.0, len(patients)),
        }
    )


def costs(frame: dp.PrivateFrame, *, max_total_rows: int, upper: int = 1000) -> dp.PrivateQuery:
    """The question, with the parameters that are to be chosen."""
    grouped = frame.groupBy("ward", keys=WARDS, max_total_rows=max_total_rows)
    return grouped.agg(dp.count().alias("visits"), dp.sum("cost", 0, upper).alias("cost"))


def main(pictures: Path) -> None:
    """Print what is found; save tuning.png and release.png."""
    spark = lake.delta_session("before paying")
    public = spark.createDataFrame(made_up_visits())

    tuning = dp.tune(public, costs, {"max_total_rows": [1, 2, 4, 8, 16, 32, 64]}, epsilon="1", unit="patient_id")
    print(tuning)
    tuning.plot().savefig(pictures / "tuning.png")

    # in earnest: lake.Table.forPath(spark, path, unit=..., keys=...).private()
    visits = dp.private(public, unit="patient_id", null_units="drop", name="visits", keys={"ward": WARDS})
    query = costs(visits, max_total_rows=int(str(tuning.best["max_total_rows"])))
    budget = query.budget_for({"visits": 100, "cost": dp.relative("0.05", of=1_000_000)})
    print(budget)

    dry = costs(visits.synthetic(5000), max_total_rows=32).release(epsilon=budget.epsilon)
    dry.show()
    dry.plot().savefig(pictures / "release.png")
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
