"""The command `spark-mpc`: set a party up, see whether the federation fits together, keep the ledger, run the demo."""

from __future__ import annotations

from pathlib import Path

import click

from dp._about import __version__
from dp.errors import InvalidArgument, SparkMpcError
from spark_mpc.check import PeerReport, check_federation
from spark_mpc.cli_demo import demo
from spark_mpc.cli_ledger import ledger
from spark_mpc.federation_file import FederationFile, Peer, add_party, split_address
from spark_mpc.identity import Identity, fingerprint, party_name
from spark_mpc.transport import tls_transport

__all__ = ["main"]

_FEDERATION = click.option(
    "--federation",
    "federation_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("federation.toml"),
    show_default=True,
    help="The federation file.",
)


@click.group()
@click.version_option(__version__, prog_name="spark-mpc")
def main() -> None:
    """A clean room without a landlord: joint, differentially private statistics over several lakes."""


@main.command()
@click.argument("name")
@click.option("--address", required=True, metavar="HOST:PORT", help="Where the peers dial this party.")
@_FEDERATION
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    help="Where the key and the certificate go.  [default: here]",
)
@click.option(
    "--protocol", type=click.Choice(["additive", "rep3", "auto"]), default="additive", help="Of a new federation file."
)
@click.option("--valid-days", default=730, show_default=True, help="How long the certificate is valid.")
def init(*, name: str, address: str, federation_path: Path, directory: Path, protocol: str, valid_days: int) -> None:
    """Make party NAME a key and a certificate, and write its stanza into the federation file."""
    try:
        party_name(name)
        split_address(address)
        identity = Identity.create(name, valid_days=valid_days)
        identity.refuse_overwriting(directory)
        add_party(federation_path, Peer(name, address, (identity.certificate,)), protocol=protocol)
        identity.save(directory)
    except SparkMpcError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"key          {directory / name}.key   keep it here: nobody else ever needs it")
    click.echo(f"certificate  {directory / name}.crt   fingerprint {fingerprint(identity.certificate)}")
    click.echo(f"federation   {federation_path}   now lists {name} at {address}")
    click.echo(
        f"Send the stanza [party.{name}] of {federation_path} to every other party and add theirs: in the end all"
    )
    click.echo("files are equal. Compare the fingerprints over another channel, then run `spark-mpc check` everywhere.")


@main.command()
@click.option("--me", required=True, help="This party's name.")
@_FEDERATION
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="This party's key, with its certificate beside it.  [default: NAME.key beside the federation file]",
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen, if that is not the address in the file.")
@click.option("--wait", "wait_seconds", type=float, default=60.0, show_default=True, help="Seconds to wait for a peer.")
def check(me: str, federation_path: Path, key: Path | None, listen: str | None, wait_seconds: float) -> None:
    """Dial the peers, each of which runs this command too, and compare versions and federation files."""
    try:
        federation = FederationFile.load(federation_path)
        identity = Identity.load_key(key or federation_path.with_name(f"{party_name(me, 'me')}.key"), me)
        patient = federation.waiting(wait_seconds)
        with tls_transport(identity, patient, listen=listen) as transport:
            reports = check_federation(transport, federation)
    except (SparkMpcError, InvalidArgument) as error:
        raise click.ClickException(str(error)) from None
    click.echo(_table(reports))
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise SystemExit(1)
    click.echo("All parties are reachable and agree.")


main.add_command(ledger)
main.add_command(demo)


def _table(reports: list[PeerReport]) -> str:
    rows = [("peer", "reachable", "certificate until", "version", "file equal")]
    rows += [
        (report.peer, _yes(report.reachable), f"{report.expires:%Y-%m-%d}", report.version, _yes(report.file_equal))
        for report in reports
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


if __name__ == "__main__":
    main()
