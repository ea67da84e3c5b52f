"""Product reviews, made up: a few users write many, texts are mostly short, ratings mostly good."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..support.cells import tidy

__all__ = ["CATEGORIES", "MAX_TOKENS", "MOST_REVIEWS", "SCHEMA", "by_category", "overall", "reviews", "share_kept"]

SCHEMA = "user BIGINT NOT NULL, category STRING NOT NULL, rating BIGINT NOT NULL, tokens BIGINT NOT NULL"
CATEGORIES = (
    "beauty",
    "books",
    "clothing",
    "electronics",
    "games",
    "garden",
    "grocery",
    "music",
    "pets",
    "sports",
    "tools",
)
MAX_TOKENS = 145
"""The clamp of a review's length; PrivateKube's preprocessing cuts texts there."""

MOST_REVIEWS = 20
"""How many reviews of a user count."""

_RATINGS = (0.06, 0.05, 0.09, 0.2, 0.6)


def reviews(users: int = 20_000, most: int = 300) -> pd.DataFrame:
    """Reviews with the columns of `SCHEMA`.

    Args:
        users: how many there are.
        most: how many reviews one user writes at most.
    """
    random = np.random.default_rng(2021)
    count = np.minimum(random.zipf(2.3, users), most)  # Zipf: 70% of the users write one
    rows = int(count.sum())
    popular = 1 / np.arange(1, len(CATEGORIES) + 1)
    favourite = random.choice(len(CATEGORIES), users, p=popular / popular.sum())
    elsewhere = random.choice(len(CATEGORIES), rows, p=popular / popular.sum())
    category = np.where(random.random(rows) < 0.6, np.repeat(favourite, count), elsewhere)
    good = random.choice(np.arange(1, 6), rows, p=_RATINGS)
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(users), count),
            "category": np.array(CATEGORIES)[category],
            "rating": np.clip(good - (category % 3 == 2) * random.integers(0, 2, rows), 1, 5),
            "tokens": 1 + random.lognormal(3.4 + 0.05 * category, 0.8).astype(np.int64),
        }
    )


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    """The statistics over all reviews: key, name, truth, counted; see `by_category`."""
    return _statistics(rows.assign(category="all"))


def by_category(rows: pd.DataFrame) -> pd.DataFrame:
    """The statistics of each category, lengths clamped: key, name, truth, counted.

    What is counted is expected: at most `MOST_REVIEWS` of a user, chosen at random.
    """
    return _statistics(rows)


def _statistics(rows: pd.DataFrame) -> pd.DataFrame:
    chance = (MOST_REVIEWS / rows.groupby("user")["user"].transform("size")).clip(upper=1.0)
    counted = _weighted(rows, chance).rename(columns={"truth": "counted"})
    return _weighted(rows, chance * 0 + 1).merge(counted, on=["key", "name"], validate="one_to_one")


def _weighted(rows: pd.DataFrame, weight: pd.Series[float]) -> pd.DataFrame:
    tokens, category = rows["tokens"].clip(0, MAX_TOKENS), rows["category"]

    def total(values: pd.Series[float]) -> pd.Series[float]:
        return values.groupby(category).sum()

    count, length = total(weight), total(weight * tokens)
    variance = total(weight * tokens**2) / count - (length / count) ** 2
    return tidy(
        pd.DataFrame(
            {
                "count_reviews": count,
                "count_tokens": length,
                "avg_tokens": length / count,
                "std_tokens": variance**0.5,
                "avg_rating": total(weight * rows["rating"]) / count,
            }
        )
    )


def share_kept(rows: pd.DataFrame, *, by: Sequence[str], most: int) -> float:
    """The share of reviews that count if at most so many do in each group of these columns."""
    return float(rows.groupby(list(by)).size().clip(upper=most).sum() / len(rows))
