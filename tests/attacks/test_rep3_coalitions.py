"""ATTACKS 29 under replicated sharing: one compute party with any parties outside, and what an opening adds.

Every test names the claim of docs/privacy.md, section 16, "What one compute party sees", that it checks, on the
messages of whole attempts of five parties, of which a, b and c compute.

In statistical tests the corrupt parties' keys, words and shares stay the same in all runs, as for observers who know
what they know; so do the honest parties' words. Every p-value is compared with FALSE_ALARM, the chance that an honest
program fails on it, five in a test. Keys come from fixed seeds, what honest parties outside draw from the operating
system.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spark_mpc.protocols.rep3 import arithmetic
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.outside import opened_outside, shared_inside, taken_inside
from spark_mpc.protocols.rep3.replication import missing_part
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import KEY_BYTES, Words
from spark_mpc.ring.streams import KeyStream
from spark_mpc.sums import sharing
from tests.attacks.test_rep3_views import (
    FALSE_ALARM,
    FEW_RUNS,
    RUNS,
    NoZeroShares,
    SameMasks,
    keys_for,
    two_sample_p_value,
    uniform_p_value,
)
from tests.tools.attempts import (
    CELLS,
    COMPUTE,
    NAMES,
    OUTSIDE,
    Cubes,
    Inputs,
    Noised,
    Stage,
    parts_of,
    stage_of,
)
from tests.tools.studies import Sent
from tests.tools.three import three_keys

pytestmark = pytest.mark.slow

COALITIONS = [
    (*inside, *outside)
    for inside in [(), *((name,) for name in COMPUTE)]
    for size in range(len(OUTSIDE) + 1)
    for outside in combinations(OUTSIDE, size)
    if inside or outside
]
"""All that the model allows: one compute party or none, with any parties outside."""
WATCHED = [("a", "d"), ("b", "d"), ("c", "d"), ("d",)]
"""Where runs are counted. The party e is honest: there is something to protect outside, too."""
RECIPIENTS = ("a", "b", "c", "d")
AFTER_ARMING = {"open", "upload"}

Lane = tuple[str, str, str]
"""Sender, receiver, label."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with stage_of() as parties:
        yield parties


def received(messages: Sequence[Sent], coalition: tuple[str, ...]) -> list[Sent]:
    """What honest parties send to a coalition."""
    return [message for message in messages if message.peer in coalition and message.sender not in coalition]


def openings(
    coalition: tuple[str, ...], recipients: tuple[str, ...], opened: Words, parts: tuple[Words, ...], drawn: Words
) -> dict[Lane, bytes]:
    """The simulator's last step: what honest parties send once ledgers have armed, from y and what a coalition holds.

    Args:
        coalition: whose view it is.
        recipients: of the opening.
        opened: y.
        parts: y_i and y_i+1, with a compute party i in the coalition; else empty.
        drawn: in place of y_2, where the coalition holds no part.
    """
    found: dict[Lane, Words] = {}
    last = drawn
    for me in (COMPUTE.index(name) for name in coalition if name in COMPUTE):
        lacking = opened - parts[0] - parts[1]
        last = (lacking, parts[1], parts[0])[me]
        if COMPUTE[me] in recipients:
            found[COMPUTE[me - 1], COMPUTE[me], "open"] = lacking
    for name in coalition:
        if name in OUTSIDE and name in recipients:
            found["a", name, "upload"], found["b", name, "upload"] = opened - last, last
    return {lane: words.tobytes() for lane, words in found.items() if lane[0] not in coalition}


# -- the opening, bit for bit ------------------------------------------------------------------------------------------


class Replay:
    """The messages of an attempt to one party, each handed out once, in the order of its sender."""

    def __init__(self, messages: Sequence[Sent], to: str) -> None:
        self.left = [message for message in messages if message.peer == to]

    def __call__(self, sender: str, step: str, length: int) -> bytes:
        message = next(message for message in self.left if message.sender == sender)
        assert (message.step, len(message.payload)) == (step, length)
        self.left.remove(message)
        return message.payload


def transcripts(messages: Sequence[Sent], name: str) -> dict[Lane, bytes]:
    """What a party's peers must have sent to compare: its own two hashes, the other way round."""
    said = {
        message.peer: message.payload for message in messages if (message.sender, message.step) == (name, "transcript")
    }
    return {(peer, name, "transcript"): own[32:] + own[:32] for peer, own in said.items()}


def check_openings(stage: Stage, recipients: tuple[str, ...], program: type[Cubes] = Noised) -> None:
    """Every coalition: what it receives beyond what its parts are computed from is what `openings` says, no more."""
    rng = np.random.default_rng(1)
    inputs, keys = {name: rng.integers(0, 2**64, CELLS, np.uint64) for name in NAMES}, three_keys(rng)
    messages, opened = stage.attempt(program, inputs, keys, recipients)
    uploads = [message.payload for message in messages if (message.sender, message.step) == ("b", "upload")]
    drawn = np.frombuffer(uploads[0] if uploads else b"", np.uint64)
    for coalition in COALITIONS:
        parts: tuple[Words, ...] = ()
        expected: dict[Lane, bytes] = {}
        left = [message for message in received(messages, coalition) if message.peer in OUTSIDE]
        for name in set(coalition) & set(COMPUTE):
            replay = Replay(messages, name)
            parts = parts_of(name, program, inputs[name], keys, replay)
            left += replay.left
            expected = transcripts(messages, name)
        expected |= openings(coalition, recipients, opened, parts, drawn)
        found = sorted((message.sender, message.peer, message.step, message.payload) for message in left)
        assert found == sorted((*lane, payload) for lane, payload in expected.items()), f"view of {coalition}"


@pytest.mark.parametrize("recipients", [NAMES, ("d",), ("a", "e"), ("b",), ("c", "d", "e")])
def test_an_opening_follows_from_its_result_and_what_a_coalition_holds(
    stage: Stage, recipients: tuple[str, ...]
) -> None:
    """Claims "Opening" and "Recipients that do not compute": exactly, for every coalition, with noise under sharing.

    Who is no recipient receives nothing after arming; outside, nothing at all.
    """
    check_openings(stage, recipients)


class OneShareMore(Noised):
    """Planted: party 2 sends to recipients outside as well."""

    def _send_outside(self) -> None:
        super()._send_outside()
        if self._work.me == "c":
            assert self._result is not None
            for name in set(self._work.recipients) & set(OUTSIDE):
                self._work.transport.send(name, self._work.run, "upload", self._result.parts[1].tobytes())


class ForEverybodyOutside(Noised):
    """Planted: everybody outside gets what recipients get."""

    def _send_outside(self) -> None:
        assert self._result is not None
        payload = opened_outside(COMPUTE.index(self._work.me), self._result)
        for name in OUTSIDE:
            if payload is not None:
                self._work.transport.send(name, self._work.run, "upload", payload)


class BeforeNoise(Noised):
    """Planted: what goes outside is taken from shares that were not the opened ones."""

    def noised(self, engine: Any, cells: Arithmetic) -> Arithmetic:
        self._cells_shared = cells
        return super().noised(engine, cells)

    def _send_outside(self) -> None:
        opened, self._result = self._result, self._cells_shared
        super()._send_outside()
        self._result = opened


def to_everybody_inside(context: Context, parts: tuple[NDArray[Any], ...], to: tuple[int, ...]) -> NDArray[Any] | None:
    """Planted: the part that a party lacks is sent whether it is a recipient or not."""
    missing = missing_part(context, parts, (0, 1, 2))
    return missing if context.me in to else None


@pytest.mark.parametrize(
    ("program", "recipients"), [(OneShareMore, ("a", "e")), (ForEverybodyOutside, ("e",)), (BeforeNoise, ("d", "e"))]
)
def test_what_reaches_outside_beyond_that_is_caught(
    stage: Stage, program: type[Cubes], recipients: tuple[str, ...]
) -> None:
    with pytest.raises(AssertionError, match="view of"):
        check_openings(stage, recipients, program)


def test_an_opening_to_others_inside_is_caught(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "missing_part", to_everybody_inside)
    with pytest.raises(AssertionError, match="view of"):
        check_openings(stage, ("a", "e"))


# -- whole views, opening included -------------------------------------------------------------------------------------

Pattern = list[tuple[str, str, str, int]]
"""Sender, receiver, label, length."""
Share = Callable[[Words], tuple[bytes, bytes, bytes]]


@dataclass(frozen=True)
class Views:
    """What a coalition receives: messages in the order of senders, and all bytes, shape (runs, bytes)."""

    pattern: Pattern
    received: NDArray[np.uint8]

    @classmethod
    def of(cls, runs: Sequence[Sequence[Sent]]) -> Views:
        patterns = [[(m.sender, m.peer, m.step, len(m.payload)) for m in messages] for messages in runs]
        assert all(pattern == patterns[0] for pattern in patterns)
        payloads = [b"".join(message.payload for message in messages) for messages in runs]
        return cls(patterns[0], np.array([np.frombuffer(payload, np.uint8) for payload in payloads]))

    def messages(self) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
        """Sender, label, and bytes of every run."""
        columns = np.split(self.received, np.cumsum([length for *_, length in self.pattern])[:-1], axis=1)
        return ((sender, step, column) for (sender, _, step, _), column in zip(self.pattern, columns, strict=True))


def two_inputs(coalition: tuple[str, ...]) -> tuple[Inputs, Inputs]:
    """The same words of the coalition, the same sum, hence the same result; other words of two honest parties."""
    one = {name: np.array([number, 2**63, 0], np.uint64) for number, name in enumerate(NAMES)}
    inside = next(name for name in COMPUTE if name not in coalition)
    change = np.array([1, 2**40, 77], np.uint64)
    return one, {**one, inside: one[inside] + change, "e": one["e"] - change}


def kept_shares(coalition: tuple[str, ...], inputs: Inputs) -> dict[bytes, tuple[bytes, bytes, bytes]]:
    """By words, what corrupt parties outside share in every run."""
    return {inputs[name].tobytes(): shared_inside(inputs[name]) for name in coalition if name in OUTSIDE}


def all_keys(coalition: tuple[str, ...], runs: int) -> Iterator[list[bytes]]:
    inside = [COMPUTE.index(name) for name in coalition if name in COMPUTE]
    rng = np.random.default_rng(200)
    return keys_for(inside[0], runs) if inside else (three_keys(rng) for _ in range(runs))


def real(
    stage: Stage,
    coalition: tuple[str, ...],
    inputs: Inputs,
    *,
    share: Share = shared_inside,
    kind: type[Context] = Context,
    runs: int = RUNS,
) -> tuple[Views, Words]:
    """What a coalition receives in attempts on one input, but hashes of it, and what is opened."""
    kept, seen = kept_shares(coalition, inputs), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "shared_inside", lambda words: kept.get(words.tobytes()) or share(words))
        patch.setattr(sharing, "Context", kind)
        for keys in all_keys(coalition, runs):
            messages, opened = stage.attempt(Cubes, inputs, keys, RECIPIENTS)
            seen.append([message for message in received(messages, coalition) if message.step != "transcript"])
    return Views.of(seen), opened


def simulated(coalition: tuple[str, ...], inputs: Inputs, opened: Words) -> Views:
    """The simulator: of the inputs it uses the coalition's own, and of the others nothing but what is opened."""
    kept, rng, runs = kept_shares(coalition, inputs), np.random.default_rng(300), []
    own = {name: inputs[name] for name in coalition}
    for keys in all_keys(coalition, RUNS):
        seen: list[Sent] = []

        def draw(name: str, sender: str, step: str, length: int, seen: list[Sent] = seen) -> bytes:
            if sender in own:
                return kept[own[sender].tobytes()][COMPUTE.index(name)]
            seen.append(Sent(sender, name, b"", step, rng.bytes(length)))
            return seen[-1].payload

        parts: tuple[Words, ...] = ()
        for name in set(coalition) & set(COMPUTE):
            parts = parts_of(name, Cubes, own[name], keys, partial(draw, name))
        drawn = rng.integers(0, 2**64, CELLS, np.uint64)
        last = openings(coalition, RECIPIENTS, opened, parts, drawn)
        seen += [Sent(sender, peer, b"", step, payload) for (sender, peer, step), payload in last.items()]
        runs.append(sorted(seen, key=lambda message: message.sender))
    return Views.of(runs)


def masked(coalition: tuple[str, ...], views: Views) -> NDArray[np.uint8]:
    """What has to be uniform: messages before the opening, what is between two of them, and around honest shares.

    To recipients without a compute party: y_2, which is what they get beside the result.
    """
    if not set(coalition) & set(COMPUTE):
        return np.hstack([column for sender, _, column in views.messages() if sender == "b"])
    before = [(sender, column) for sender, step, column in views.messages() if step not in AFTER_ARMING]
    columns = [column for _, column in before]
    words = [column.view(np.uint64) for column in map(np.ascontiguousarray, columns)]
    alike = [(x, y) for x, y in combinations(words, 2) if x.shape == y.shape]
    me = COMPUTE.index(coalition[0])
    (shares,) = (
        [taken_inside(me, row.tobytes(), CELLS).parts for row in column] for sender, column in before if sender == "e"
    )
    first, second = (np.array(parts) for parts in zip(*shares, strict=True))
    around = [first - second, first + first + second, first + second + second]
    return np.hstack([*columns, *(found.view(np.uint8) for found in [x - y for x, y in alike] + around)])


@pytest.mark.parametrize("coalition", WATCHED)
def test_a_view_with_its_opening_is_the_simulators(stage: Stage, coalition: tuple[str, ...]) -> None:
    """The claim itself: own rows and y suffice to make the view up, and messages before the opening are uniform."""
    one, other = two_inputs(coalition)
    first, opened = real(stage, coalition, one)
    second, opened_again = real(stage, coalition, other)
    np.testing.assert_array_equal(opened, opened_again)
    made_up = simulated(coalition, one, opened)
    assert first.pattern == second.pattern == made_up.pattern
    for views in (first, second):
        assert uniform_p_value(masked(coalition, views)) > FALSE_ALARM
        assert two_sample_p_value(views.received, made_up.received) > FALSE_ALARM
    assert two_sample_p_value(first.received, second.received) > FALSE_ALARM


def one_seed(words: Words) -> tuple[bytes, bytes, bytes]:
    """Planted: both seeds of a party outside are the same."""
    seed = secrets.token_bytes(KEY_BYTES)
    stream = KeyStream(seed).words(len(words), np.uint64)
    rest = (words - stream - stream).tobytes()
    return seed + seed, seed + rest, seed + rest


def clear_rest(words: Words) -> tuple[bytes, bytes, bytes]:
    """Planted: what a party outside shares beside its seeds is not masked."""
    to_first, to_second, to_third = shared_inside(words)
    return to_first, to_second[:KEY_BYTES] + words.tobytes(), to_third[:KEY_BYTES] + words.tobytes()


@pytest.mark.parametrize(
    ("coalition", "fault"),
    [
        *((coalition, {"share": one_seed, "runs": FEW_RUNS}) for coalition in WATCHED[:3]),
        *((coalition, {"share": clear_rest, "runs": FEW_RUNS}) for coalition in WATCHED[1:3]),
        *((coalition, {"kind": NoZeroShares}) for coalition in WATCHED),
        *((coalition, {"kind": SameMasks}) for coalition in WATCHED[:3]),
    ],
)
def test_planted_faults_are_caught(stage: Stage, coalition: tuple[str, ...], fault: dict[str, Any]) -> None:
    """Each keeps the result right, but for `clear_rest`."""
    views, _ = real(stage, coalition, two_inputs(coalition)[0], **fault)
    assert uniform_p_value(masked(coalition, views)) < FALSE_ALARM


def test_a_clear_share_is_not_the_simulators(stage: Stage) -> None:
    """The comparison of views can fail."""
    coalition = ("b", "d")
    inputs, _ = two_inputs(coalition)
    views, opened = real(stage, coalition, inputs, share=clear_rest)
    assert two_sample_p_value(views.received, simulated(coalition, inputs, opened).received) < FALSE_ALARM
