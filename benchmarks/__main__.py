"""The command: `python -m benchmarks NAME [--quick]`."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module

import click

import benchmarks

__all__ = ["checked", "main", "names"]

_REQUIRED = ("benchmark", "case", "seconds")


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name[0] != "_")


def checked(name: str, records: Iterator[dict[str, object]]) -> Iterator[Mapping[str, object]]:
    """Records with the benchmark's name in front.

    Raises:
        ValueError: a record without one of the fields that every reader relies on.
    """
    for record in records:
        complete = {"benchmark": name, **record}
        missing = [field for field in _REQUIRED if field not in complete]
        if missing:
            raise ValueError(f"benchmark {name}: a record lacks {missing}: {record}")
        yield complete


@click.command()
@click.argument("name", type=click.Choice(names()))
@click.option("--quick", is_flag=True, help="Fewer rows: shows that it runs, not how fast it is.")
def main(name: str, quick: bool) -> None:
    """Run the benchmark NAME and print its results as JSON, one object a line."""
    run = import_module(f"benchmarks.{name}").run
    for record in checked(name, run(quick)):
        click.echo(json.dumps(record))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
