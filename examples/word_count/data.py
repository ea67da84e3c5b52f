"""The licence texts of the packages of this Python environment: real text, whatever is installed."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pandas as pd

from spark_mpc import dp

from ..support.cells import tidy

__all__ = ["MOST_TIMES", "MOST_WORDS", "SCHEMA", "by_word", "words"]

SCHEMA = "package STRING NOT NULL, file STRING NOT NULL, word STRING NOT NULL, times BIGINT NOT NULL"
MOST_WORDS = 40
"""Of each text, its most frequent words are in the table, and count."""

MOST_TIMES = 5
"""How often a word counts in one text."""

_LICENCE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)(?!.*\.(py|pyc|pyi)$)", re.IGNORECASE)
_WORD = re.compile(r"[a-z]{4,}")
_MOST_BYTES = 200_000  # a list of every dependency's licence is no licence


def words(path: Sequence[str] | None = None) -> pd.DataFrame:
    """The most frequent words of each licence text, with the columns of `SCHEMA`; words of four letters or more.

    Args:
        path: folders with installed packages; None looks where Python does.

    Raises:
        InvalidArgument: no package there came with a licence.
    """
    folders = list(sys.path if path is None else path)
    rows = [
        (package, file, word, times)
        for package, file, text in sorted(_licences(folders))
        for word, times in Counter(_WORD.findall(text.lower())).most_common(MOST_WORDS)
    ]
    if not rows:
        remedy = "no package there brought a licence text along: install some with pip, such as numpy"
        raise dp.InvalidArgument("path", folders, remedy)
    return pd.DataFrame(rows, columns=["package", "file", "word", "times"])


def by_word(rows: pd.DataFrame) -> pd.DataFrame:
    """Texts that have a word, and how often they do, at most `MOST_TIMES` each: key, name, truth."""
    groups = rows.assign(times=rows["times"].clip(upper=MOST_TIMES)).groupby("word")
    return tidy(groups.agg(texts=("times", "size"), times=("times", "sum")))


def _licences(folders: list[str]) -> Iterator[tuple[str, str, str]]:
    """Package, file and text."""
    for package in distributions(path=folders):
        for file in package.files or ():
            path = Path(str(package.locate_file(file)))
            if _LICENCE.match(file.name) and path.is_file() and path.stat().st_size < _MOST_BYTES:
                yield _name(package), str(file), path.read_text(encoding="utf-8", errors="replace")


def _name(package: Distribution) -> str:
    return str(package.metadata["Name"])
