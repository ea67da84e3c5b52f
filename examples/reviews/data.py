"""Product reviews, made up: a few users write many, texts are mostly short, ratings mostly good."""

from __future__ import annotations

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
    count = np.minimum(random.zipf(1.9, users), most)  # Zipf: half of the users write one
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
    """The statistics over all reviews, lengths clamped: key, name, truth."""
    tokens = rows["tokens"].clip(0, MAX_TOKENS)
    truth = {
        "count_reviews": len(rows),
        "count_tokens": tokens.sum(),
        "avg_tokens": tokens.mean(),
        "std_tokens": tokens.std(ddof=0),
        "avg_rating": rows["rating"].mean(),
    }
    return pd.DataFrame({"key": "all", "name": list(truth), "truth": list(truth.values())})


def by_category(rows: pd.DataFrame) -> pd.DataFrame:
    """The same of each category: key, name, truth."""
    groups = rows.assign(tokens=rows["tokens"].clip(0, MAX_TOKENS)).groupby("category")
    tokens = groups["tokens"]
    return tidy(
        pd.DataFrame(
            {
                "count_reviews": groups.size(),
                "count_tokens": tokens.sum(),
                "avg_tokens": tokens.mean(),
                "std_tokens": tokens.std(ddof=0),
                "avg_rating": groups["rating"].mean(),
            }
        )
    )


def share_kept(rows: pd.DataFrame, *, in_category: int | None = None, total: int | None = None) -> float:
    """The share of reviews that count if a user counts with so many in each category, or in all."""
    by, most = (["user"], total) if in_category is None else (["user", "category"], in_category)
    return float(rows.groupby(by).size().clip(upper=most).sum() / len(rows))
