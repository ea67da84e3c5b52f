"""What parties say before a run: read strictly, signed over this run alone, and the keys that follow from it."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.ledger.store import GENESIS, Head
from spark_mpc.agreement import agree, greet
from spark_mpc.errors import Disagreement, SignatureRefused, WireError
from spark_mpc.federation_file import FederationFile, Peer
from spark_mpc.handshake import (
    HEAD_BYTES,
    Agreed,
    Hello,
    Standing,
    compare,
    head_from_bytes,
    head_to_bytes,
    pair_secrets,
    shortened,
    transcript,
)
from spark_mpc.identity import AttemptKey, Identity, verify
from spark_mpc.sums.additive import mask_keys
from spark_mpc.transport import RENDEZVOUS, MemoryHub
from tests.tools.sparkless import UnseenLedger
from tests.tools.studies import all_at_once

NAMES = ("a", "b", "c")
RUN = bytes(range(32))
UNSEEN = "00" * HEAD_BYTES


def hello(party: str = "a", attempt_key: AttemptKey | None = None, **changes: Any) -> Hello:
    key = attempt_key or AttemptKey()
    plain = Hello(
        party=party,
        version="1",
        protocol="additive",
        federation={"name": "f"},
        task={"contribution": "claims"},
        data_version="t@0",
        ledger=secrets.token_hex(16),
        nonce=Hello.fresh_nonce(),
        attempt_key=key.public.hex(),
    )
    return replace(plain, **changes)


def edited(**changes: object) -> bytes:
    """A hello of `a` with some fields changed; None removes one."""
    fields = {**json.loads(hello().to_bytes()), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_hello_is_read_as_it_was_written() -> None:
    mine = hello()
    assert Hello.from_bytes(mine.to_bytes(), "a") == mine


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"[]",
        b"1",
        b"null",
        b"[" * 100_000,  # deeper than the parser goes
        edited(extra="field"),
        edited(nonce=None),
        edited(party="b"),
        edited(party=["a"]),
        edited(version=1),
        edited(federation="f"),
        edited(task=[]),
        edited(nonce="00"),
        edited(nonce="0" * 65),
        edited(ledger="0" * 31),
        edited(ledger="/srv/privacy/claims.ledger"),
        edited(ledger=None),
        hello().to_bytes() + b"{}",
    ],
    ids=range(20),
)
def test_what_is_no_hello_of_the_party_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="of a"):
        Hello.from_bytes(data, "a")


@pytest.mark.parametrize("key", ["", "zz", "00" * 31, "00" * 33, "00" * 32])
def test_an_attempt_key_that_is_none_is_refused(key: str) -> None:
    """The last one is a point of small order, whose secret everybody knows."""
    hellos = {"a": hello("a"), "b": replace(hello("b"), attempt_key=key), "c": hello("c")}
    with pytest.raises(WireError):
        pair_secrets("a", AttemptKey(), hellos)


def agreement(**changes: object) -> bytes:
    return json.dumps({"signature": "00", "standing": "new", "seen": UNSEEN, **changes}).encode()


SEEN = st.builds(Head, st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32).map(bytes.hex)) | st.just(GENESIS)


@given(st.sampled_from(["new", "noised", "release"]), st.binary(max_size=80), SEEN)
def test_an_agreement_is_read_as_it_was_written(standing: Standing, signature: bytes, seen: Head) -> None:
    written = Agreed(signature.hex(), standing, head_to_bytes(seen).hex())
    theirs = Agreed.from_bytes(written.to_bytes(), "b")
    assert (theirs.standing, theirs.signature_bytes) == (standing, signature)
    assert head_from_bytes(bytes.fromhex(theirs.seen), "b") == seen


@pytest.mark.parametrize("data", [b"", bytes(39), bytes(41), b"\xff" * 40], ids=["none", "short", "long", "too far"])
def test_what_is_no_head_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="ledger of b"):
        head_from_bytes(data, "b")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        agreement(more=1),
        agreement(standing="paid"),
        agreement(standing=["new"]),
        agreement(signature=0),
        agreement(seen=UNSEEN[:-1]),
        agreement(seen=UNSEEN[:-1] + "g"),
        agreement(seen=None),
    ],
)
def test_what_is_no_agreement_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="of b"):
        Agreed.from_bytes(data, "b")


def test_a_signature_that_is_not_hexadecimal_is_refused() -> None:
    identity = Identity.create("a")
    assert Agreed("no", "new", UNSEEN).signature_bytes == b""
    with pytest.raises(SignatureRefused):
        verify(identity.certificate, Agreed("no", "new", UNSEEN).signature_bytes, b"")


# -- comparing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": "2"}, "version"),
        ({"protocol": "rep3"}, "protocol"),
        ({"federation": {"name": "g"}}, "federation.name"),
        ({"task": {"contribution": "visits"}}, "task.contribution"),
        ({"task": {"contribution": "claims", "more": {}}}, "differ in form"),
    ],
)
def test_every_difference_is_named(changes: dict[str, Any], named: str) -> None:
    compare(hello(), hello("b"))  # nonces, keys and data versions differ, as they should
    with pytest.raises(Disagreement, match=named):
        compare(hello(), hello("b", **changes))


@given(st.lists(st.integers(), max_size=30), st.lists(st.integers(), max_size=30))
def test_long_lists_are_shortened_and_still_compared(one: list[int], other: list[int]) -> None:
    long = list(range(2000))
    short = shortened({"keys": long + one, "nested": {"few": one}})
    assert len(json.dumps(short)) < 1500
    assert short["nested"] == {"few": one}
    assert (short["keys"] == shortened({"keys": long + other})["keys"]) == (one == other)


# -- the run, its signatures and its keys ------------------------------------------------------------------------------


@given(st.permutations(NAMES))
def test_the_order_in_which_hellos_came_is_irrelevant(order: list[str]) -> None:
    hellos = {name: hello(name) for name in NAMES}
    assert transcript({name: hellos[name] for name in order}) == transcript(hellos)


@pytest.mark.parametrize("field", ["nonce", "attempt_key", "data_version", "version", "party"])
def test_every_field_of_every_hello_is_in_the_run(field: str) -> None:
    hellos = {name: hello(name) for name in NAMES}
    for name in NAMES:
        other: dict[str, Any] = {field: "0" * 64}
        changed = {**hellos, name: replace(hellos[name], **other)}
        assert transcript(changed) != transcript(hellos)


def test_a_field_cannot_move_from_one_hello_into_the_next() -> None:
    one = {"a": hello("a", data_version="x", nonce="0" * 64), "b": hello("b", data_version="y", nonce="1" * 64)}
    other = {"a": replace(one["a"], data_version="y"), "b": replace(one["b"], data_version="x")}
    assert transcript(one) != transcript(other)


def test_a_pair_has_one_key_and_stands_on_both_sides_of_it() -> None:
    attempts = {name: AttemptKey() for name in NAMES}
    hellos = {name: hello(name, attempts[name]) for name in NAMES}
    run = transcript(hellos)
    secrets = {name: pair_secrets(name, attempts[name], hellos) for name in NAMES}
    held = {name: mask_keys(name, secrets[name], run) for name in NAMES}
    by_pair = {}
    for one, other in combinations(NAMES, 2):
        mine = held[one][[name for name in NAMES if name != one].index(other)]
        theirs = held[other][[name for name in NAMES if name != other].index(one)]
        assert mine.key == theirs.key
        assert (mine.adds, theirs.adds) == (True, False)
        by_pair[one, other] = mine.key
    assert len(set(by_pair.values())) == 3
    next_run = mask_keys("a", secrets["a"], bytes(32))  # the same secrets in another run
    assert not {pair.key for pair in next_run} & set(by_pair.values())
    fresh = {**attempts, "a": AttemptKey()}
    again = {**hellos, "a": hello("a", fresh["a"])}
    assert not {pair.key for pair in mask_keys("a", pair_secrets("a", fresh["a"], again), run)} & set(by_pair.values())


def test_nonces_and_attempt_keys_are_fresh() -> None:
    assert len({Hello.fresh_nonce() for _ in range(1000)}) == 1000
    assert len({AttemptKey().public for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "other",
    [
        (bytes(32), "a", "new", UNSEEN),
        (RUN, "b", "new", UNSEEN),
        (RUN, "a", "release", UNSEEN),
        (RUN, "a", "new", "1" + UNSEEN[1:]),
    ],
)
def test_a_signature_holds_for_one_run_party_standing_and_head(other: tuple[bytes, str, Standing, str]) -> None:
    identity = Identity.create("a")
    signature = identity.sign(Agreed.signed_content(RUN, "a", "new", UNSEEN))
    verify(identity.certificate, signature, Agreed.signed_content(RUN, "a", "new", UNSEEN))
    with pytest.raises(SignatureRefused):
        verify(identity.certificate, signature, Agreed.signed_content(*other))


# -- the whole agreement, between parties of which one cheats ----------------------------------------------------------


@dataclass
class Means:
    """What greet and agree use of a party."""

    identity: Identity
    federation: FederationFile
    transport: Any
    ledger: Any = None

    @property
    def name(self) -> str:
        return self.identity.name


class NewLedger(UnseenLedger):
    """Knows of no release."""

    def stored_release(self, key: str) -> None:
        return None

    def resumable(self, key: str) -> None:
        return None


class Told:
    """A task and a source, as far as agreement asks for them."""

    data_version = "t@0"

    protocol = "additive"

    def to_json(self) -> dict[str, object]:
        return {"contribution": "claims"}


def federation(identities: dict[str, list[Identity]]) -> FederationFile:
    peers = [
        Peer(name, f"127.0.0.1:{port}", tuple(identity.certificate for identity in known))
        for port, (name, known) in enumerate(identities.items(), start=1)
    ]
    return FederationFile("f", tuple(peers), timeout_seconds=5, rendezvous_seconds=5)


def agreements(
    identities: dict[str, Identity],
    file: FederationFile,
    tamper: Callable[[str, Any], Any] = lambda _, transport: transport,
    ledger: Callable[[str], NewLedger] = lambda _: NewLedger(),
) -> dict[str, Any]:
    """What every party's agreement came to; `tamper` puts something around a party's transport."""
    hub = MemoryHub(NAMES, timeout_seconds=5, rendezvous_seconds=5)
    transports = {name: hub.transport(name) for name in NAMES}

    def run(name: str) -> Any:
        party: Any = Means(identities[name], file, tamper(name, transports[name]), ledger(name))
        greeting = greet(party, Told(), Told())  # type: ignore[arg-type]
        transports[name].begin(greeting.run)
        try:
            return agree(party, Told(), greeting)  # type: ignore[arg-type]
        except BaseException:
            transports[name].abort(greeting.run, "refused")
            raise

    for transport in transports.values():
        transport.start()
    try:
        return all_at_once({name: partial(run, name) for name in NAMES})
    finally:
        for transport in transports.values():
            transport.close()


def test_both_certificates_of_a_party_that_rotates_its_key_are_accepted() -> None:
    old, new = Identity.create("b"), Identity.create("b")
    a, c = Identity.create("a"), Identity.create("c")
    file = federation({"a": [a], "b": [old, new], "c": [c]})
    for b in (old, new):
        found = agreements({"a": a, "b": b, "c": c}, file)
        assert len({agreement.run for agreement in found.values()}) == 1
        assert len({agreement.release_key for agreement in found.values()}) == 1


def test_a_signature_by_another_certificate_is_refused() -> None:
    own = {name: Identity.create(name) for name in NAMES}
    file = federation({name: [identity] for name, identity in own.items()})
    found = agreements({**own, "b": Identity.create("b")}, file)
    assert {type(found[name]) for name in ("a", "c")} >= {SignatureRefused}
    assert "agreement of b" in " ".join(map(str, found.values()))
    assert all(isinstance(outcome, Exception) for name, outcome in found.items() if name != "b")


class Replaying:
    """A transport that sends what an earlier run agreed to."""

    def __init__(self, transport: Any, earlier: bytes) -> None:
        self._transport, self._earlier = transport, earlier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, peer: str, run: bytes, step: str, payload: bytes) -> None:
        self._transport.send(peer, run, step, self._earlier if step == "agree" else payload)


def test_an_agreement_of_another_run_is_refused() -> None:
    own = {name: Identity.create(name) for name in NAMES}
    file = federation({name: [identity] for name, identity in own.items()})
    earlier = Agreed(own["b"].sign(Agreed.signed_content(RUN, "b", "new", UNSEEN)).hex(), "new", UNSEEN).to_bytes()
    found = agreements(own, file, lambda name, transport: Replaying(transport, earlier) if name == "b" else transport)
    assert any(isinstance(found[name], SignatureRefused) for name in ("a", "c"))
    assert all(isinstance(found[name], Exception) for name in ("a", "c"))


class OneLedger(NewLedger):
    """Every party opens the same one, or a copy of it."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger_id = "ab" * 16


def test_two_parties_with_one_ledger_are_refused_by_all() -> None:
    own = {name: Identity.create(name) for name in NAMES}
    file = federation({name: [identity] for name, identity in own.items()})
    found = agreements(own, file, ledger=lambda name: OneLedger() if name != "a" else NewLedger())
    assert all(isinstance(outcome, Disagreement) for outcome in found.values())
    assert all("b and c pay from the same one" in str(outcome) for outcome in found.values())


def test_a_hello_that_is_too_long_is_refused() -> None:
    hub = MemoryHub(("a", "b"), timeout_seconds=2, rendezvous_seconds=2)
    with hub.transport("a") as a, hub.transport("b"), pytest.raises(WireError, match="at most 65536 bytes"):
        a.send("b", RENDEZVOUS, "hello", bytes(64 * 1024 + 1))


def test_what_is_agreed_shows_no_key() -> None:
    own = {name: Identity.create(name) for name in NAMES}
    found = agreements(own, federation({name: [identity] for name, identity in own.items()}))
    for agreement in found.values():
        shown = repr(agreement)
        assert "secrets" not in shown
        for secret in agreement.secrets.values():
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown


def test_random_bytes_are_never_a_hello() -> None:
    """10,000 of them, and as many cut or altered hellos: each is refused in order, or differs in what it says."""
    draw, good = random.Random(3), hello().to_bytes()
    for _ in range(10_000):
        noise = draw.randbytes(draw.randrange(200))
        with pytest.raises(WireError):
            Hello.from_bytes(noise, "a")
        with pytest.raises(WireError):
            Hello.from_bytes(good[: draw.randrange(len(good))], "a")
