"""`spark-mpc ledger`: a steward's commands, and what anybody who may read a ledger can see of it.

common      how a ledger is named on the command line, and how our errors end a command
tables      text for people: aligned columns, bars, claims a line each
founding    create, lay-out, schedule, migrate, grant
approving   approval, approve
looking     show, blocks, claims, watch
auditing    export, verify, mirror
serving     metrics
"""

from __future__ import annotations

import click

from spark_mpc.cli_ledger.approving import approval, approve
from spark_mpc.cli_ledger.auditing import export, mirror, verify
from spark_mpc.cli_ledger.founding import create, grant, lay_out, migrate, schedule
from spark_mpc.cli_ledger.looking import blocks, claims, show, watch
from spark_mpc.cli_ledger.serving import metrics

__all__ = ["ledger"]


@click.group()
def ledger() -> None:
    """Keep a privacy ledger: a file, or "postgresql://user@host/database?ledger=NAME"."""


for _steward in (create, lay_out, schedule, approval, approve, grant, migrate):
    ledger.add_command(_steward)
for _anybody in (show, blocks, claims, watch, export, verify, mirror, metrics):
    ledger.add_command(_anybody)
