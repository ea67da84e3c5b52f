"""Mask keys for executors: to the holder of the ticket, from the driver alone, and only while the job runs."""

from __future__ import annotations

import pickle
import secrets
import socket
import ssl
from dataclasses import replace

import numpy as np
import pytest

from spark_mpc.errors import FederationError
from spark_mpc.identity import Identity
from spark_mpc.key_service import KeyTicket, serve_keys
from spark_mpc.ring.masks import KEY_BYTES, PairKey
from spark_mpc.sums.additive import MaskBlock, MaskBlockOnExecutor
from tests.tools.federations import at_once

KEYS = tuple(PairKey(secrets.token_bytes(KEY_BYTES), adds=number % 2 == 0) for number in range(3))
HOST = "127.0.0.1"


def test_the_ticket_fetches_the_keys_as_often_as_tasks_need_them() -> None:
    with serve_keys(KEYS, HOST) as ticket:
        assert ticket.fetch() == KEYS
        assert at_once(*[ticket.fetch] * 8) == [KEYS] * 8


@pytest.mark.parametrize("token", [bytes(32), bytes(100)], ids=len)
def test_another_token_is_refused(token: bytes) -> None:
    with serve_keys(KEYS, HOST) as ticket:
        with pytest.raises(FederationError, match=r"(was refused|cannot fetch) its mask keys"):
            replace(ticket, token=token).fetch()
        assert ticket.fetch() == KEYS


def test_part_of_the_token_is_refused() -> None:
    """Whoever sends less and then nothing more gets nothing."""
    with serve_keys(KEYS, HOST) as ticket:
        context = ssl.create_default_context(cadata=ticket.certificate)
        with (
            socket.create_connection((ticket.host, ticket.port)) as plain,
            context.wrap_socket(plain, server_hostname="driver") as channel,
        ):
            channel.sendall(ticket.token[:31])
            with channel.unwrap() as rest:  # both sides have ended TLS; it raises if anything had come
                assert rest.recv(1) == b""


def test_no_ticket_is_like_another() -> None:
    with serve_keys(KEYS, HOST) as one, serve_keys(KEYS, HOST) as other:
        assert one.token != other.token
        assert one.certificate != other.certificate
        with pytest.raises(FederationError, match="refused its mask keys"):
            replace(one, token=other.token).fetch()


def test_a_ticket_is_worthless_when_the_job_is_over() -> None:
    with serve_keys(KEYS, HOST) as ticket:
        pass
    with pytest.raises(FederationError, match="cannot fetch its mask keys: ConnectionRefusedError"):
        ticket.fetch()


def test_a_job_that_fails_closes_the_service_too() -> None:
    tickets = []

    def job() -> None:
        with serve_keys(KEYS, HOST) as ticket:
            tickets.append(ticket)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()
    with pytest.raises(FederationError):
        tickets[0].fetch()


def test_a_service_with_another_certificate_is_refused() -> None:
    """Whoever took over the port has another certificate: no token is sent there."""
    with serve_keys(KEYS, HOST) as ticket:
        deceived = replace(ticket, certificate=Identity.create("driver").certificate)
        with pytest.raises(FederationError, match="SSLCertVerificationError"):
            deceived.fetch()


def test_an_executor_masks_as_the_driver_does() -> None:
    words = np.arange(1000, dtype=np.uint64)
    with serve_keys(KEYS, HOST) as ticket:
        shipped: MaskBlockOnExecutor = pickle.loads(pickle.dumps(MaskBlockOnExecutor(1000, ticket)))
        np.testing.assert_array_equal(shipped(0, words), MaskBlock(1000, KEYS)(0, words))


def test_no_key_travels_in_a_closure_or_shows_in_a_text() -> None:
    with serve_keys(KEYS, HOST) as ticket:
        function = MaskBlockOnExecutor(1000, ticket)
        closure = pickle.dumps(function)
        for pair in KEYS:
            assert pair.key not in closure
        for shown in (repr(ticket), str(ticket), repr(function), repr(MaskBlock(1000, KEYS))):
            for secret in (ticket.token, *(pair.key for pair in KEYS)):
                assert secret.hex() not in shown
                assert repr(secret)[2:-1] not in shown
        assert "PRIVATE" not in repr(ticket) + ticket.certificate


def test_a_ticket_for_nothing_reaches_nobody() -> None:
    with pytest.raises(FederationError, match="cannot fetch"):
        KeyTicket(HOST, 1, Identity.create("driver").certificate, bytes(32)).fetch()
