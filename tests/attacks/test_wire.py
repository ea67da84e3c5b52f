"""ATTACKS 26: whoever is not the pinned party is refused, and so is every message that is malformed or too long.

Replayed and reordered messages, which only a pinned party can send, are in `tests/spark_mpc/test_transport.py`, for
every transport.
"""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from spark_mpc.errors import CertificateRefused, FederationError, PeerLost, WireError
from spark_mpc.federation_file import FederationFile, Peer, split_address
from spark_mpc.identity import Identity
from spark_mpc.transport import RENDEZVOUS, tls_transport
from spark_mpc.transport.endpoint import Endpoint
from spark_mpc.transport.tls_connection import Connection, client_context, dial
from spark_mpc.wire import INLINE_BYTES, Header, Kind, decode_reason, encode_header
from tests.tools.federations import LoopbackFederation, loopback_federation
from tests.vectors.wire.generate import FRAMES

pytestmark = pytest.mark.slow  # waits out timeouts on real sockets

RUN = b"r" * 32
ME = b"i" * 16
MIB = 1 << 20


@pytest.fixture
def loopback() -> LoopbackFederation:
    return loopback_federation(["a", "b"], timeout_seconds=2, rendezvous_seconds=2)


@pytest.fixture
def victim(loopback: LoopbackFederation) -> Iterator[Endpoint]:
    with tls_transport(loopback.identities["a"], loopback.file) as transport:
        yield transport


def dated(name: str, start_days: int, end_days: int, issuer: Identity | None = None) -> Identity:
    """An identity whose certificate is valid between two days, counted from today; signed by itself or an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=start_days))
        .not_valid_after(now + datetime.timedelta(days=end_days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Identity(name, certificate.public_bytes(serialization.Encoding.PEM).decode(), key)


def with_certificate(file: FederationFile, name: str, *certificates: str) -> FederationFile:
    """The file as somebody has it who pins other certificates for a party."""
    parties = tuple(replace(peer, certificates=certificates) if peer.name == name else peer for peer in file.parties)
    return replace(file, parties=parties)


@contextmanager
def impostor(loopback: LoopbackFederation, name: str, identity: Identity) -> Iterator[Endpoint]:
    """A transport that runs as `name` under another identity, and believes that this is right."""
    file = with_certificate(loopback.file, name, identity.certificate)
    with tls_transport(identity, file) as transport:
        yield transport


@contextmanager
def connected(loopback: LoopbackFederation) -> Iterator[Connection]:
    """A connection of the real `b` to `a`, for frames that the library would not send."""
    peer = loopback.file.peer("a")
    context = client_context(loopback.identities["b"], peer.certificates)
    owners = {ssl.PEM_cert_to_DER_cert(pem): "a" for pem in peer.certificates}
    connection = dial(split_address(peer.address), "a", context, owners, 5)
    try:
        assert connection.read_header(no_check).kind is Kind.WELCOME
        yield connection
    finally:
        connection.close()


def no_check() -> None:
    """Nothing ends the wait but the socket."""


# -- who may speak -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [Identity.create("b"), dated("b", -10, -1), dated("b", 1, 10), dated("b", -1, 10)],
    ids=["unknown", "unknown and expired", "unknown and early", "unknown, like the pinned one"],
)
def test_an_unknown_certificate_is_refused_both_ways(
    loopback: LoopbackFederation, victim: Endpoint, identity: Identity
) -> None:
    with impostor(loopback, "b", identity) as stranger:
        with pytest.raises(CertificateRefused, match="certificate of a: it does not accept ours"):
            stranger.send("a", RENDEZVOUS, "hello", b"let me in")
        with pytest.raises(CertificateRefused, match="certificate of b"):
            victim.send("b", RENDEZVOUS, "hello", b"who are you")
        with pytest.raises(PeerLost, match="no greeting"):
            victim.receive("b", RENDEZVOUS, "hello", 100)


@pytest.mark.parametrize(("start_days", "end_days"), [(-10, -1), (1, 10)], ids=["expired", "not yet valid"])
def test_a_pinned_certificate_out_of_its_dates_is_refused_both_ways(
    loopback: LoopbackFederation, start_days: int, end_days: int
) -> None:
    late = dated("b", start_days, end_days)
    file = with_certificate(loopback.file, "b", late.certificate)
    with tls_transport(loopback.identities["a"], file) as a, tls_transport(late, file) as b:
        with pytest.raises(CertificateRefused):
            a.send("b", RENDEZVOUS, "hello", b"")
        with pytest.raises(CertificateRefused):
            b.send("a", RENDEZVOUS, "hello", b"")


@pytest.mark.parametrize("issuer", ["a", "b"])
def test_a_certificate_that_a_pinned_party_issued_is_refused(
    loopback: LoopbackFederation, victim: Endpoint, issuer: str
) -> None:
    issued = dated("b", -1, 10, loopback.identities[issuer])
    assert not got_in(loopback, bare_client(ssl.TLSVersion.TLSv1_3, issued))


def test_the_right_certificate_under_another_name_is_refused() -> None:
    loopback = loopback_federation(["a", "b", "c"], timeout_seconds=2, rendezvous_seconds=2)
    a, b, c = (loopback.file.peer(name) for name in "abc")
    # At b's address answers c, which is pinned too, but as c.
    swapped = replace(loopback.file, parties=(a, replace(b, address=c.address), replace(c, address=b.address)))
    with (
        tls_transport(loopback.identities["a"], swapped) as victim,
        tls_transport(loopback.identities["c"], loopback.file),
        pytest.raises(CertificateRefused, match="certificate of b"),
    ):
        victim.send("b", RENDEZVOUS, "hello", b"for b only")


def test_a_certificate_cannot_be_listed_for_another_name(loopback: LoopbackFederation) -> None:
    with pytest.raises(ValueError, match="a certificate of b names b"):
        with_certificate(loopback.file, "b", loopback.identities["a"].certificate)


def test_a_party_whose_key_the_file_does_not_list_does_not_start(loopback: LoopbackFederation) -> None:
    with pytest.raises(CertificateRefused, match="not in the federation file"):
        tls_transport(Identity.create("a"), loopback.file)


def test_a_rotated_key_is_accepted_as_soon_as_it_is_listed(loopback: LoopbackFederation) -> None:
    new = Identity.create("b")
    both = with_certificate(loopback.file, "b", loopback.identities["b"].certificate, new.certificate)
    with tls_transport(loopback.identities["a"], both) as a:
        for identity in (loopback.identities["b"], new):
            with tls_transport(identity, both) as b:
                b.send("a", RENDEZVOUS, "hello", b"it is me")
                a.send("b", RENDEZVOUS, "hello", b"welcome")
                assert a.receive("b", RENDEZVOUS, "hello", 10) == b"it is me"
                assert b.receive("a", RENDEZVOUS, "hello", 10) == b"welcome"


def bare_client(versions: ssl.TLSVersion, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = versions
    if identity is not None:
        with tempfile.TemporaryDirectory() as folder:
            identity.save(folder)
            context.load_cert_chain(Path(folder) / f"{identity.name}.crt", Path(folder) / f"{identity.name}.key")
    return context


def got_in(loopback: LoopbackFederation, context: ssl.SSLContext | None) -> bool:
    """Whether the victim says a word to a client that speaks TLS as `context` says, or plain text."""
    with socket.create_connection(split_address(loopback.file.peer("a").address), 5) as raw:
        channel = raw
        try:
            if context is not None:
                channel = context.wrap_socket(raw, server_hostname="a")
            else:
                channel.sendall(encode_header(Header(Kind.PING, RUN, "ping", ME)) + bytes(1000))
            heard = channel.recv(4)
        except OSError:
            return False
        finally:
            channel.close()
    return heard == b"SMPC"


def test_plain_text_old_tls_and_no_certificate_are_refused(loopback: LoopbackFederation, victim: Endpoint) -> None:
    b = loopback.identities["b"]
    assert not got_in(loopback, None)
    assert not got_in(loopback, bare_client(ssl.TLSVersion.TLSv1_3, None))
    assert not got_in(loopback, bare_client(ssl.TLSVersion.TLSv1_2, b))
    assert got_in(loopback, bare_client(ssl.TLSVersion.TLSv1_3, b))  # what is refused above is not the probe itself
    with tls_transport(b, loopback.file) as peer:
        peer.send("a", RENDEZVOUS, "hello", b"still open")
    assert victim.receive("b", RENDEZVOUS, "hello", 10) == b"still open"


def test_a_server_without_tls_is_refused(loopback: LoopbackFederation, victim: Endpoint) -> None:
    def answer_in_plain_text(listening: socket.socket) -> None:
        with listening.accept()[0] as plain:
            plain.recv(100)
            plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        socket.create_server(split_address(loopback.file.peer("b").address)) as listening,
        ThreadPoolExecutor(1) as aside,
    ):
        answered = aside.submit(answer_in_plain_text, listening)
        with pytest.raises(CertificateRefused, match="no mutual TLS"):
            victim.send("b", RENDEZVOUS, "hello", b"secret")
        answered.result(timeout=10)


def test_strangers_who_say_nothing_do_not_keep_peers_out(loopback: LoopbackFederation, victim: Endpoint) -> None:
    address = split_address(loopback.file.peer("a").address)
    with ExitStack() as silent, tls_transport(loopback.identities["b"], loopback.file) as peer:
        for _ in range(20):
            silent.enter_context(socket.create_connection(address, 5))
        peer.send("a", RENDEZVOUS, "hello", b"me too")
    assert victim.receive("b", RENDEZVOUS, "hello", 10) == b"me too"


# -- what may be said --------------------------------------------------------------------------------------------------


def refusal(connection: Connection) -> str:
    reply = connection.read_header(no_check)
    assert reply.kind is Kind.REFUSED
    return decode_reason(connection.read_short(reply, 2048, no_check))


@pytest.mark.parametrize("name", ["other magic", "another version", "unknown kind", "no step", "step in capitals"])
def test_a_malformed_frame_is_refused_and_ends_the_connection(
    loopback: LoopbackFederation, victim: Endpoint, name: str
) -> None:
    vectors = json.loads(FRAMES.read_text(encoding="utf-8"))["corrupt"]
    (vector,) = (vector for vector in vectors if vector["name"] == name)
    with connected(loopback) as connection:
        connection.write(bytes.fromhex(vector["frame"]), no_check)
        assert vector["reason"] in refusal(connection)
        with pytest.raises(ConnectionError):
            connection.read(1, no_check)


@pytest.mark.parametrize("kind", [Kind.PING, Kind.ABORT, Kind.STREAM])
def test_a_control_frame_with_a_long_payload_is_refused(
    loopback: LoopbackFederation, victim: Endpoint, kind: Kind
) -> None:
    with connected(loopback) as connection:
        connection.write(encode_header(Header(kind, RUN, "ping", ME, length=2**40)), no_check)
        assert f"declares {2**40} bytes" in refusal(connection)


def test_a_reply_where_a_request_is_due_is_refused(loopback: LoopbackFederation, victim: Endpoint) -> None:
    with connected(loopback) as connection:
        connection.write(encode_header(Header(Kind.TAKEN, RUN, "agree", ME)), no_check)
        assert "no request" in refusal(connection)


def test_an_oversized_message_is_refused_without_allocating(loopback: LoopbackFederation, victim: Endpoint) -> None:
    victim.begin(RUN)
    with connected(loopback) as connection, ThreadPoolExecutor(1) as aside:
        tracemalloc.start()
        try:
            waiting = aside.submit(victim.receive, "b", RUN, "upload/0", 10 * INLINE_BYTES)
            connection.write(encode_header(Header(Kind.MESSAGE, RUN, "upload/0", ME, 0, 2**62)), no_check)
            assert f"has {2**62} bytes, at most" in refusal(connection)
            assert isinstance(waiting.exception(timeout=10), WireError)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MIB


def test_messages_that_nobody_waits_for_take_no_memory(loopback: LoopbackFederation, victim: Endpoint) -> None:
    payload = bytes(64 * MIB)
    victim.begin(RUN)
    with tls_transport(loopback.identities["b"], loopback.file) as peer, ThreadPoolExecutor(1) as aside:
        peer.begin(RUN)
        tracemalloc.start()
        try:
            sent = aside.submit(peer.send, "a", RUN, "upload/0", payload)
            peer.send("a", RENDEZVOUS, "hello", b"by the way")
            assert victim.receive("b", RENDEZVOUS, "hello", 10) == b"by the way"
            victim.abort(RUN, "nobody waits")
            assert isinstance(sent.exception(timeout=10), FederationError)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * MIB


@pytest.mark.parametrize("length", [100, 10 * INLINE_BYTES], ids=["short", "bulk"])
def test_a_truncated_message_is_never_delivered(loopback: LoopbackFederation, victim: Endpoint, length: int) -> None:
    victim.begin(RUN)
    room = memoryview(bytearray(length))
    with ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(victim.receive_into, "b", RUN, "upload/0", room)
        with connected(loopback) as connection:
            connection.write(encode_header(Header(Kind.MESSAGE, RUN, "upload/0", ME, 0, length)), no_check)
            if length > INLINE_BYTES:
                assert connection.read_header(no_check).kind is Kind.READY
            connection.write(bytes(length - 1), no_check)
        assert isinstance(waiting.exception(timeout=20), PeerLost)
    assert victim.traffic(RUN).received_messages == 0


def test_a_length_that_does_not_match_shifts_nothing_into_the_next_message(
    loopback: LoopbackFederation, victim: Endpoint
) -> None:
    victim.begin(RUN)
    with connected(loopback) as connection:
        frame = encode_header(Header(Kind.MESSAGE, RUN, "agree", ME, 0, 10))
        connection.write(frame + bytes(12), no_check)  # two bytes too many: the next frame starts with them
        assert connection.read_header(no_check).kind is Kind.TAKEN
        connection.write(struct.pack(">QQQQQQQQQ", *range(9)), no_check)
        assert "not a frame" in refusal(connection)
    assert victim.receive("b", RUN, "agree", 10) == bytes(10)


def test_a_lying_peer_answer_is_refused(loopback: LoopbackFederation) -> None:
    """A pinned peer that answers a message with a frame that is no answer does not pass for one that took it."""
    listener = tls_transport(loopback.identities["b"], loopback.file)
    with tls_transport(loopback.identities["a"], loopback.file) as victim, listener as peer:
        peer.begin(RUN)
        header = Header(Kind.PING, RUN, "agree", victim.incarnation)
        with pytest.raises(WireError, match="refuses 'agree'"):
            victim.link.deliver("b", header, memoryview(b""), no_check)


def test_peers_stay_apart(loopback: LoopbackFederation) -> None:
    """What b sends can only be received as b's: the name comes from the certificate, not from the message."""
    three = loopback_federation(["a", "b", "c"], timeout_seconds=1, rendezvous_seconds=1)
    with (
        tls_transport(three.identities["a"], three.file) as a,
        tls_transport(three.identities["b"], three.file) as b,
    ):
        b.send("a", RENDEZVOUS, "hello", b"I am c")
        with pytest.raises(PeerLost):
            a.receive("c", RENDEZVOUS, "hello", 10)
        assert a.receive("b", RENDEZVOUS, "hello", 10) == b"I am c"


def test_peer_addresses_are_kept_apart_in_the_file(loopback: LoopbackFederation) -> None:
    a = loopback.file.peer("a")
    stranger = Identity.create("c")
    with pytest.raises(ValueError, match="no two parties share one"):
        replace(loopback.file, parties=(*loopback.file.parties, Peer("c", a.address, (stranger.certificate,))))
