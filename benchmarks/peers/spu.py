"""SPU with its three-party protocol ABY3 over Z_2^64, as it ships: three nodes over plain brpc links.

A case is compiled and its inputs are shared before the clock starts; a node then interprets the program on its shares.
SPU counts its own bytes and sends, in a profile that it writes to its log.
"""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import spu  # type: ignore[import-not-found]
from numpy.typing import NDArray
from spu import libspu
from spu.utils import frontend  # type: ignore[import-not-found]

from benchmarks.peers.three_cases import Case, Inputs
from benchmarks.peers.three_parties import Party, Spent, Unsupported, serve

__all__ = ["open_spu"]

_NODES = 3
_SECRET = libspu.Visibility.VIS_SECRET
_SECONDS = 900
_TOTALS = re.compile(r"total send bytes (\d+), recv bytes \d+, send actions (\d+)")

_PROGRAMS: Mapping[str, Callable[..., Any]] = {
    "multiply": jnp.multiply,
    "compare": jnp.less,
    "equality": jnp.equal,
    "select": jnp.where,
    "sort": jnp.sort,
    "matmul": jnp.matmul,
    "fixed-point multiply": jnp.multiply,
    "sigmoid": jax.nn.sigmoid,
}
_LACKING = {
    "sum of three": "its inputs are shared, and its results opened, outside of what it computes",
    "radix sort": "no sort by some bits of a number; it sorts whole ones",
    "shuffle": "no such operation; its own programs sort by secret random numbers instead",
    "bits to numbers": "no such operation; bits are converted where they are used",
}


@contextmanager
def open_spu(setup: Mapping[str, Any]) -> Iterator[Party]:
    """A node, connected to the others."""
    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "spu.log"
        options = libspu.logging.LogOptions()
        options.enable_console_logger, options.system_log_path = False, str(log)
        libspu.logging.setup_logging(options)
        description = libspu.link.Desc()
        description.recv_timeout_ms = description.http_timeout_ms = _SECONDS * 1000
        for number, port in enumerate(setup["ports"]):
            description.add_party(str(number), f"127.0.0.1:{port}")
        link = libspu.link.create_brpc(description, setup["me"])
        yield _Node(link, log)
        link.stop_link()


class _Node:
    """One node; variables in its runtime have the names of a program's parameters."""

    def __init__(self, link: Any, log: Path) -> None:
        self._link, self._log = link, log
        config = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64)
        config.enable_pphlo_profile = True
        self._io = spu.Io(_NODES, config)
        self._runtime = spu.Runtime(link, config)

    def share(self, case: Case, rows: int, inputs: Inputs) -> None:
        """See `Party`."""
        if case.name in _LACKING:
            raise Unsupported(_LACKING[case.name])
        names = [f"in{number}" for number in range(len(inputs))]
        for name, values in zip(names, inputs, strict=True):
            self._share_one(name, values)
        self._program = _compiled(_PROGRAMS[case.name], inputs, names, "out")

    def _share_one(self, name: str, values: NDArray[Any]) -> None:
        if values.dtype != bool:
            self._runtime.set_var(name, self._dealt(values))
            return
        # as a comparison leaves it: shared by exclusive or
        self._runtime.set_var("number", self._dealt(-values.astype(int)))
        self._runtime.run(_compiled(lambda number: number < 0, (values.astype(int),), ["number"], name))
        self._runtime.del_var("number")

    def _dealt(self, values: NDArray[Any]) -> Any:
        """The share that party 0 made for this one."""
        if self._link.rank == 0:
            shares = self._io.make_shares(values, _SECRET)
            for to in range(1, _NODES):
                self._link.send(to, _packed(shares[to]))
            return shares[0]
        return _unpacked(self._link.recv(0))

    def barrier(self) -> None:
        """See `Party`."""
        self._link.barrier()

    def run(self) -> None:
        """See `Party`."""
        self._runtime.run(self._program)

    def spent(self) -> Spent:
        """See `Party`."""
        *_, last = _TOTALS.finditer(self._log.read_text())
        return Spent(int(last.group(1)), int(last.group(2)))

    def opened(self) -> NDArray[Any] | None:
        """See `Party`."""
        share = self._runtime.get_var("out")
        if self._link.rank != 0:
            self._link.send(0, _packed(share))
            return None
        shares = [share, *(_unpacked(self._link.recv(sender)) for sender in range(1, _NODES))]
        result: NDArray[Any] = self._io.reconstruct(shares)
        return result


def _compiled(function: Callable[..., Any], inputs: Inputs, names: list[str], out: str) -> Any:
    def named(*arguments: Any) -> Any:  # ufuncs of jax have no code to look at
        return function(*arguments)

    executable, _ = frontend.compile(
        frontend.Kind.JAX, named, inputs, {}, names, [_SECRET] * len(inputs), lambda _: [out]
    )
    return executable


def _packed(share: Any) -> bytes:
    return pickle.dumps((share.meta, list(share.share_chunks)))  # between our own processes


def _unpacked(data: bytes) -> Any:
    share = libspu.Share()
    share.meta, share.share_chunks = pickle.loads(data)
    return share


if __name__ == "__main__":
    serve(open_spu)
