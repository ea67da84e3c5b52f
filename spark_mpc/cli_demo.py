"""`spark-mpc demo`: runs an example that stands beside the package in a checkout, or inside it when installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import click

import spark_mpc

__all__ = ["demo", "examples_package"]

_EXAMPLES = {
    "health_insurance": "health_insurance.job",
    "airports": "airports.job",
    "restaurant": "restaurant.job",
    "reviews": "reviews.job",
    "word_count": "word_count.job",
    "pipeline": "pipeline.job",
    "health_insurance.one_lake": "health_insurance.one_lake",
    "airports.one_lake": "airports.one_lake",
    "innerprod": "programs.innerprod",
    "mult3": "programs.mult3",
}
"""What may be run -> its module, below the examples."""


def examples_package() -> str:
    """The import name of the examples that belong to this very package.

    Raises:
        click.ClickException: they are neither inside the package nor beside it.
    """
    inside = Path(str(spark_mpc.__file__)).parent
    if (inside / "examples" / "__init__.py").is_file():
        return "spark_mpc.examples"
    spec = importlib.util.find_spec("examples")
    if spec is not None and spec.origin == str(inside.parent / "examples" / "__init__.py"):
        return "examples"
    raise click.ClickException("the examples are not beside this package: run it from a checkout, or install the wheel")


@click.command()
@click.argument("example", type=click.Choice(tuple(_EXAMPLES)), default="health_insurance")
@click.option("--parties", type=click.Choice(["3", "6"]), help="Number of insurers (health_insurance only).")
@click.option(
    "--protocol",
    type=click.Choice(["additive", "rep3"]),
    help="How parties compute (not on one lake); default: additive.",
)
@click.option("--epsilon", help="What it costs; default: the example's own.")
@click.option("--exact", metavar="NAME", help="Open without noise, as a disclosure (innerprod and mult3 only).")
@click.option("--local", is_flag=True, help="All parties in one process, as in a notebook (not on one lake).")
@click.option("--name", help="A pipeline's name: the same name resumes (pipeline only).")
@click.option("--crash", metavar="STEP", help="Kill the process in this step (pipeline only).")
@click.option("--output", type=click.Path(file_okay=False), help="Lakes, ledgers, logs; default: the example's own.")
def demo(
    *,
    example: str,
    parties: str | None,
    protocol: str | None,
    epsilon: str | None,
    exact: str | None,
    local: bool,
    name: str | None,
    crash: str | None,
    output: str | None,
) -> None:
    """Run EXAMPLE: with several parties by default one process each, over mutual TLS; or on one lake."""
    given = {
        "--parties": parties,
        "--protocol": protocol,
        "--epsilon": epsilon,
        "--exact": exact,
        "--name": name,
        "--crash": crash,
        "--output": output,
    }
    arguments = [text for option, value in given.items() if value is not None for text in (option, value)]
    _run(example, [*arguments, *(["--local"] if local else [])])


def _run(example: str, arguments: Sequence[str]) -> None:
    try:
        job = importlib.import_module(f"{examples_package()}.{_EXAMPLES[example]}")
    except ModuleNotFoundError as error:
        remedy = f"the examples need {error.name}: run `pip install 'spark-mpc[examples]'`"
        raise click.ClickException(remedy) from error
    job.main.main(args=list(arguments), prog_name=f"spark-mpc demo {example}", standalone_mode=False)
