"""What our transport is compared with: one long-lived gRPC stream per pair of parties, both ways, mutual TLS.

Generic handlers move raw bytes, without protobuf. Whoever sorts first dials. Both ends are alike after that: what is
put into a queue is sent by a thread of gRPC, and whoever needs a message takes it from gRPC itself, without a thread
in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue

import grpc
from cryptography.hazmat.primitives.serialization import NoEncryption

from benchmarks._parties import Party
from spark_mpc.talk import exchange

__all__ = ["Stream", "streams"]

_MESSAGE_BYTES = 1 << 20  # a quarter of it is slower, four times as much is not faster
_FAREWELL_SECONDS = 5.0
_SERVICE, _METHOD = "benchmark.Transport", "Stream"
_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.optimization_target", "throughput"),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 << 20),
    ("grpc.http2.max_frame_size", (1 << 24) - 1),
    ("grpc.http2.write_buffer_size", 8 << 20),
]


@dataclass(frozen=True)
class Stream:
    """One end of a stream: messages of at most 1 MiB, in order."""

    incoming: Iterator[bytes]
    outgoing: SimpleQueue[memoryview | None] = field(default_factory=SimpleQueue)

    def send(self, payload: memoryview) -> None:
        """Send a payload; returns at once."""
        for start in range(0, len(payload), _MESSAGE_BYTES):
            self.outgoing.put(payload[start : start + _MESSAGE_BYTES])

    def receive_into(self, buffer: memoryview) -> None:
        """Fill a buffer with the messages that make up one payload."""
        while buffer:
            message = next(self.incoming)
            buffer[: len(message)] = message
            buffer = buffer[len(message) :]


@contextmanager
def streams(party: Party) -> Iterator[Mapping[str, Stream]]:
    """A stream to each peer, once all of them stand."""
    found: SimpleQueue[tuple[str, Stream]] = SimpleQueue()
    key = party.identity.key_pem(NoEncryption())
    certificate = party.identity.certificate.encode("ascii")
    pinned = {peer.name: peer.certificates[0].encode("ascii") for peer in party.file.parties}
    with ExitStack() as stack:
        server = grpc.server(ThreadPoolExecutor(len(pinned)), options=_OPTIONS)
        server.add_generic_rpc_handlers((_handlers(found),))
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=b"".join(pinned.values()), require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        stack.callback(lambda: server.stop(_FAREWELL_SECONDS).wait())
        with party.run() as run:
            ports = exchange(party.transport, run, "port", port.to_bytes(2, "big"), 2)
        for peer in party.transport.peers:
            if party.identity.name < peer:
                address = f"127.0.0.1:{int.from_bytes(ports[peer], 'big')}"
                trusted = grpc.ssl_channel_credentials(pinned[peer], key, certificate)
                options = [*_OPTIONS, ("grpc.ssl_target_name_override", peer)]
                channel = stack.enter_context(grpc.secure_channel(address, trusted, options=options))
                found.put((peer, _dial(channel)))
        standing = dict(found.get() for _ in party.transport.peers)
        for stream in standing.values():
            stack.callback(stream.outgoing.put, None)
        yield standing


def _handlers(found: SimpleQueue[tuple[str, Stream]]) -> grpc.GenericRpcHandler:
    def serve(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[memoryview]:
        (name,) = context.peer_identities() or ()  # as its certificate says
        stream = Stream(requests)
        found.put((name.decode("ascii"), stream))
        return iter(stream.outgoing.get, None)

    handler: grpc.RpcMethodHandler[bytes, memoryview] = grpc.stream_stream_rpc_method_handler(
        serve, response_serializer=bytes
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler})


def _dial(channel: grpc.Channel) -> Stream:
    outgoing: SimpleQueue[memoryview | None] = SimpleQueue()
    method = f"/{_SERVICE}/{_METHOD}"
    open_stream: grpc.StreamStreamMultiCallable[memoryview, bytes]
    open_stream = channel.stream_stream(method, request_serializer=bytes)
    return Stream(open_stream(iter(outgoing.get, None), wait_for_ready=True), outgoing)
