"""`spark-mpc demo`: runs an example that stands beside the package in a checkout, or inside it when installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import click

import spark_mpc

__all__ = ["demo", "examples_package"]

_EXAMPLES = ("health_insurance", "airports")


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
@click.argument("example", type=click.Choice(_EXAMPLES), default=_EXAMPLES[0])
@click.option("--parties", type=click.Choice(["3", "6"]), help="Number of insurers (health_insurance only).")
@click.option("--epsilon", default="1", show_default=True, help="What all answers cost together.")
@click.option("--local", is_flag=True, help="All parties in one process, as in a notebook.")
@click.option(
    "--output", type=click.Path(file_okay=False), default="demo-output", show_default=True, help="Lakes, ledgers, logs."
)
def demo(example: str, parties: str | None, epsilon: str, local: bool, output: str) -> None:
    """Run EXAMPLE: by default, one process per party on this machine, over mutual TLS."""
    arguments = ["--epsilon", epsilon, "--output", output, *(["--local"] if local else [])]
    if parties is not None:
        arguments += ["--parties", parties]
    _run(example, arguments)


def _run(example: str, arguments: Sequence[str]) -> None:
    try:
        job = importlib.import_module(f"{examples_package()}.{example}.job")
    except ModuleNotFoundError as error:
        remedy = f"the examples need {error.name}: run `pip install 'spark-mpc[examples]'`"
        raise click.ClickException(remedy) from error
    job.main.main(args=list(arguments), prog_name=f"spark-mpc demo {example}", standalone_mode=False)
