"""Serving what a ledger has left to Prometheus."""

from __future__ import annotations

import threading

import click

from lake.ledger import Ledger
from lake.metrics import FULLEST_BLOCKS, serve_metrics
from spark_mpc.cli_ledger.common import WHERE, told

__all__ = ["metrics"]


@click.command()
@WHERE
@click.option("--port", type=click.IntRange(0, 65535), default=9464, show_default=True, help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; nobody is asked for a password.")
@click.option("--fullest", type=click.IntRange(min=0), default=FULLEST_BLOCKS, show_default=True,
              help="So many blocks of each layout have metrics of their own.")  # fmt: skip
@told
def metrics(path: str, port: int, host: str, fullest: int) -> None:
    """Serve the ledger PATH to Prometheus, until Ctrl-C."""
    with Ledger.open(path) as opened, serve_metrics(opened, port=port, host=host, fullest=fullest) as address:
        click.echo(f"serving {opened.name} at {address}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return
