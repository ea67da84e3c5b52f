"""One party of a federation as a process: it meets its peer, works until something goes wrong, and says what it was.

    python -m tests.spark_mpc.transport_worker DIRECTORY NAME wait|flood

Prints "running" in the run, then the error's class and text; an error of its own aborts the run. Ends with its input.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spark_mpc.errors import FederationError
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.transport import RENDEZVOUS, Transport, tls_transport

RUN = b"r" * 32
_BULK = bytes(8 << 20)


def wait(transport: Transport, peer: str) -> None:
    """Wait for what never comes."""
    print("running", flush=True)
    transport.receive(peer, RUN, "upload/0", 10)


def flood(transport: Transport, peer: str) -> None:
    """Exchange bulk for ever."""
    room = memoryview(bytearray(len(_BULK)))
    with ThreadPoolExecutor(1) as sender:
        for index in itertools.count():
            sent = sender.submit(transport.send, peer, RUN, f"upload/{index}", _BULK)
            transport.receive_into(peer, RUN, f"upload/{index}", room)
            sent.result()
            if index == 3:
                print("running", flush=True)


def main(directory: str, name: str, work: str) -> None:
    """Meet, work, report."""
    federation = FederationFile.load(Path(directory) / "federation.toml")
    with tls_transport(Identity.load(directory, name), federation) as transport:
        (peer,) = transport.peers
        transport.send(peer, RENDEZVOUS, "hello", b"")
        transport.receive(peer, RENDEZVOUS, "hello", 0)
        transport.step("local")
        transport.begin(RUN)
        try:
            {"wait": wait, "flood": flood}[work](transport, peer)
        except FederationError as error:
            transport.abort(RUN, str(error))
            print(type(error).__name__, error, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
