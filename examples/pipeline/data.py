"""A week of hospital stays, made up: the same week every time."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd

__all__ = ["MOST_AGE", "MOST_HOURS", "SCHEMA", "SINCE", "WARDS", "stays"]

SCHEMA = (
    "patient BIGINT NOT NULL, admitted DATE NOT NULL, ward STRING NOT NULL, age DOUBLE NOT NULL, "
    "urgent BIGINT NOT NULL, hours DOUBLE NOT NULL"
)
SINCE = date(2026, 3, 2)
DAYS = 7
WARDS = ("heart", "lung", "children", "surgery")
MOST_AGE, MOST_HOURS = 100, 240


def stays(patients: int = 8000) -> pd.DataFrame:
    """A stay of every patient, with the columns of `SCHEMA`."""
    random = np.random.default_rng(2026)
    ward = random.choice(WARDS, patients, p=[0.3, 0.2, 0.2, 0.3])
    age = np.where(ward == "children", random.uniform(0, 16, patients), random.normal(60, 18, patients).clip(16, 100))
    urgent = random.integers(0, 2, patients)
    hours = (24 + 0.8 * age + 30 * urgent + random.gamma(2, 12, patients)).clip(0, MOST_HOURS)
    days = random.integers(0, DAYS, patients)
    return pd.DataFrame(
        {
            "patient": np.arange(patients),
            "admitted": [SINCE + timedelta(days=int(day)) for day in days],
            "ward": ward,
            "age": age.round(1),
            "urgent": urgent,
            "hours": hours.round(1),
        }
    )
