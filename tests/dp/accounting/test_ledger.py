"""Names of requests."""

from __future__ import annotations

import time

from dp.accounting.ledger import new_request_id


def test_names_of_requests_begin_with_their_time_and_none_is_given_twice() -> None:
    before = time.time_ns() // 10**6
    names = [new_request_id() for _ in range(1000)]
    after = time.time_ns() // 10**6
    moments = [int(name[:12], 16) for name in names]
    assert moments == sorted(moments)
    assert before <= moments[0]
    assert moments[-1] <= after
    assert len(set(names)) == len({name[12:] for name in names}) == 1000
    assert {len(bytes.fromhex(name)) for name in names} == {22}


def test_a_later_name_stands_behind_earlier_ones() -> None:
    earlier = [new_request_id() for _ in range(100)]
    time.sleep(0.002)
    assert max(earlier) < new_request_id()
