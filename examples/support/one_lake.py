"""What the examples on one lake share: a folder with a table and a ledger, and questions that are asked aloud."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import wraps
from pathlib import Path

import click
import pandas as pd

from spark_mpc import dp, lake

from .cells import beside_truth
from .jobs import exact_number

__all__ = ["Answer", "Question", "ask", "expected_errors", "lake_options", "open_ledger", "workplace"]

TRUTH_IS_OURS = "The column `truth` is a privilege of this example, whose data are public: no release tells it.\n"


@dataclass(frozen=True)
class Question:
    """A query with its price, and the truth that only an example can know.

    Attributes:
        title: what is asked.
        why: a word on its bounds and on its noise.
        query: how it is asked.
        truth: key, name and truth of each released number, every value clamped as in the query; where bounding drops
            rows, also "counted": the expected truth of what is left, which is what intervals are about.
        epsilon: what it costs.
        delta: likewise.
        bins: names of a list's items, by aggregate.
        most: how many groups are printed, the largest of each number first; None prints all, in order.
    """

    title: str
    why: str
    query: dp.PrivateQuery
    truth: pd.DataFrame = field(repr=False)
    epsilon: Fraction
    delta: Fraction = Fraction(0)
    bins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    most: int | None = None

    def cells(self, accuracy: pd.DataFrame) -> pd.DataFrame:
        """Released numbers, as `dp.Release.accuracy` has them, beside the truth: a row each.

        Returns:
            key, name, value, stddev, lower, upper and the truth's columns. The key joins the grouping columns, and the
            label of what `dp.top_k` found; the name of a list's item is that of its bin.
        """
        labelled = accuracy["label"].notna() & ~accuracy["aggregate"].isin(self.bins.keys())
        parts = [accuracy[column].astype(str) for column in self.query.query.by]
        keys = pd.concat(parts, axis=1).agg(", ".join, axis=1) if parts else pd.Series("all", index=accuracy.index)
        keys = keys.where(~labelled, keys + ", " + accuracy["label"].fillna(""))
        pairs = zip(accuracy["aggregate"], accuracy["bin"].where(~labelled), strict=True)
        names = [name if pd.isna(i) else self.bins[name][int(i)] for name, i in pairs]
        released = accuracy.assign(key=keys, name=names)[["key", "name", "value", "stddev", "lower", "upper"]]
        return beside_truth(released, self.truth)

    def unnamed(self, cells: pd.DataFrame) -> list[str]:
        """The groups that the data have, and that the release does not name; the largest come first."""
        first = self.truth[self.truth["name"] == self.truth["name"].iloc[0]]
        return list(first[~first["key"].isin(cells["key"])].sort_values("truth", ascending=False)["key"])


@dataclass(frozen=True)
class Answer:
    """What a question got.

    Attributes:
        question: which.
        release: what the ledger paid for.
        cells: its numbers beside the truth; see `Question.cells`.
    """

    question: Question
    release: dp.Release
    cells: pd.DataFrame = field(repr=False)


def ask(questions: Iterable[Question], ledger: lake.Ledger) -> list[Answer]:
    """Explain every question, pay for it, and print its answer beside the truth."""
    answers = [_ask(number, question, ledger) for number, question in enumerate(questions, 1)]
    click.echo(f"\nThe ledger: spent {ledger.spent()} of {ledger.capacity}.")
    return answers


def _ask(number: int, question: Question, ledger: lake.Ledger) -> Answer:
    click.echo(f"\n{number}. {question.title}\n{question.why}\n")
    click.echo(question.query.explain(question.epsilon, question.delta))
    release = question.query.release(question.epsilon, question.delta, ledger=ledger)
    cells = question.cells(release.answers.accuracy.to_pandas())
    paid = "free, answered from the ledger" if release.paid_before else f"paid {release.price}"
    click.echo(f"Released ({paid})\n{_table(cells, question.most)}")
    if release.plan.selection is not None and (unnamed := question.unnamed(cells)):
        more = ", ..." if len(unnamed) > 12 else ""
        click.echo(f"    {len(unnamed)} group(s) of the data are not named: {', '.join(unnamed[:12])}{more}")
    return Answer(question, release, cells)


def _table(cells: pd.DataFrame, most: int | None) -> str:
    if most is not None:
        blocks = cells.groupby("name", sort=False)
        cells = pd.concat(block.nlargest(most, "value") for _, block in blocks) if len(cells) else cells
    known = [column for column in ("truth", "counted") if column in cells]
    shown = {column: cells[column].map(_shown) for column in ("value", "lower", "upper", *known)}
    interval = shown["lower"] + " to " + shown["upper"]
    lines = {"group": cells["key"], "number": cells["name"], "released": shown["value"], "95% interval": interval}
    return str(pd.DataFrame({**lines, **{column: shown[column] for column in known}}).to_string(index=False))


def _shown(number: float) -> str:
    if pd.isna(number):
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:,.4g}"


def expected_errors(query: dp.PrivateQuery, epsilon: Fraction, delta: Fraction = Fraction(0)) -> str:
    """The expected errors of a query's plan, on one line; reads no row and costs nothing."""
    return "; ".join(query.explain(epsilon, delta).sections["Expected error (95%)"])


def open_ledger(folder: Path, capacity: dp.Budget) -> lake.Ledger:
    """The ledger of an example's folder. The first time, the steward grants the budget, once and for ever."""
    path = folder / "ledger.sqlite"
    return lake.Ledger.open(path) if path.exists() else lake.Ledger.create(path, capacity=capacity)


@contextmanager
def workplace(output: Path | None, about: str = TRUTH_IS_OURS) -> Iterator[Path]:
    """A folder for table and ledger: the one that was asked for, or one that vanishes afterwards.

    Args:
        output: the one that was asked for.
        about: what to say of the data.
    """
    click.echo(about)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="spark-mpc-") as folder:
        yield Path(folder)


def lake_options(name: str, epsilon: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that every example on one lake has, and turn errors into messages.

    Args:
        name: of its picture.
        epsilon: its own default.
    """
    folder = click.Path(path_type=Path, file_okay=False, resolve_path=True)

    def add(job: Callable[..., None]) -> Callable[..., None]:
        @click.option("--epsilon", type=exact_number, default=epsilon, show_default=True, help="Of every question.")
        @click.option("--output", type=folder, help="Keeps table and ledger; default: a temporary folder.")
        @click.option(
            "--picture",
            type=click.Path(path_type=Path, dir_okay=False),
            default=f"demo-output/{name}.png",
            show_default=True,
            help="Drawn where matplotlib is installed.",
        )
        @wraps(job)
        def guarded(**options: object) -> None:
            try:
                job(**options)
            except dp.SparkMpcError as error:
                raise click.ClickException(str(error)) from error

        return guarded

    return add
