"""Data parties outside of the three: what they share, and what is opened to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from spark_mpc.errors import WireError
from spark_mpc.protocols.rep3.outside import most_bytes, opened_bytes, opened_outside, shared_inside, taken_inside
from spark_mpc.protocols.shares import Arithmetic
from tests.tools.three import three_parties

WORDS = st.lists(st.integers(0, 2**64 - 1), max_size=40).map(lambda values: np.array(values, np.uint64))


@given(WORDS)
def test_what_is_shared_inside_is_held_by_two_and_opens_to_the_value(words: NDArray[np.uint64]) -> None:
    payloads = shared_inside(words)
    assert [len(payload) for payload in payloads] == [most_bytes(me, len(words)) for me in range(3)]
    shares = [taken_inside(me, payload, len(words)) for me, payload in enumerate(payloads)]
    for me in range(3):
        np.testing.assert_array_equal(shares[me].parts[1], shares[(me + 1) % 3].parts[0])
    np.testing.assert_array_equal(sum((share.parts[0] for share in shares), np.zeros(len(words), np.uint64)), words)
    sent = [opened_outside(me, share) for me, share in enumerate(shares)]
    assert sent[2] is None
    assert [len(part or b"") for part in sent] == [opened_bytes(me, len(words)) for me in range(3)]
    opened = [np.frombuffer(part, "<u8") for part in sent if part is not None]
    np.testing.assert_array_equal(opened[0] + opened[1], words)


def test_shares_from_outside_work_inside() -> None:
    words = np.array([5, 2**63, 7], np.uint64)
    payloads = shared_inside(words)
    results, _ = three_parties(lambda e: e.open_words(e.multiply(*(taken_inside(e.me, payloads[e.me], 3),) * 2)))
    np.testing.assert_array_equal(results[0], words * words)


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: p + b"\0", lambda p: b""])
@pytest.mark.parametrize("me", range(3))
def test_a_message_of_another_length_is_refused(me: int, change: object) -> None:
    payload = shared_inside(np.arange(3, dtype=np.uint64))[me]
    with pytest.raises(WireError, match="shares of 3 words"):
        taken_inside(me, change(payload), 3)  # type: ignore[operator]


def test_both_parts_of_a_party_are_uniform_whatever_the_words() -> None:
    """Chi-square of the upper nibbles, 4,000 words of zeros; a clear part fails. False alarm 1e-6 each."""
    for me, payload in enumerate(shared_inside(np.zeros(4000, np.uint64))):
        for part in taken_inside(me, payload, 4000).parts:
            counts = np.bincount((part >> np.uint64(60)).astype(np.int64), minlength=16)
            assert stats.chisquare(counts).pvalue > 1e-6
    clear = Arithmetic((np.zeros(4000, np.uint64),) * 2)
    assert stats.chisquare(np.bincount((clear.parts[0] >> np.uint64(60)).astype(np.int64), minlength=16)).pvalue < 1e-6
