"""One compute party as a process: it opens its streams, works on them until something goes wrong, and says what it was.

    python -m tests.spark_mpc.streams_worker DIRECTORY NAME wait|flood

Prints "running" in the run, then the error's class and text; an error of its own aborts the run. Ends with its input.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

from spark_mpc.errors import FederationError
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.transport import RENDEZVOUS, tls_transport
from spark_mpc.transport.streams import StreamChannel, open_channel

RUN = b"r" * 32
PARTIES = ("a", "b", "c")
_BULK_BYTES = 8 << 20


def wait(channel: StreamChannel) -> None:
    """Wait for what never comes."""
    print("running", flush=True)
    channel.receive((channel.me + 1) % 3, "sort/0", np.zeros(1, np.uint64))


def flood(channel: StreamChannel) -> None:
    """Exchange bulk for ever."""
    bulk = np.zeros(_BULK_BYTES, np.uint8)
    for index in itertools.count():
        channel.send((channel.me + 1) % 3, f"bulk/{index}", bulk)
        channel.receive((channel.me - 1) % 3, f"bulk/{index}", np.empty_like(bulk))
        if index == 3:
            print("running", flush=True)


def main(directory: str, name: str, work: str) -> None:
    """Meet, work, report."""
    federation = FederationFile.load(Path(directory) / "federation.toml")
    with tls_transport(Identity.load(directory, name), federation) as transport:
        for peer in transport.peers:
            transport.send(peer, RENDEZVOUS, "hello", b"")
        for peer in transport.peers:
            transport.receive(peer, RENDEZVOUS, "hello", 0)
        transport.step("compute")
        transport.begin(RUN)
        try:
            with open_channel(transport, RUN, PARTIES) as channel:
                {"wait": wait, "flood": flood}[work](channel)
        except FederationError as error:
            transport.abort(RUN, str(error))
            print(type(error).__name__, error, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
