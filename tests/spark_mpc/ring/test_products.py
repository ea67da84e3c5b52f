"""Products modulo 2^64, and of vectors modulo 2^32, too: exact by every way, at the extremes of what float64 holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spark_mpc.ring import products
from spark_mpc.ring.products import (
    add_matrix_product,
    add_matrix_product_by_digits,
    cross_products,
    put_cross_products,
)

WORDS = st.integers(0, 2**64 - 1)
EXTREMES = (0, 1, 2**21 - 1, 2**21, 2**22 - 1, 2**43, 2**44 - 1, 2**63 - 1, 2**63, 2**63 + 2**21, 2**64 - 1)
ADDED = np.uint64(2**63 + 7)


def by(add):
    """The product that is added to what was there."""

    def product(x, y):
        out = np.full((x.shape[0], y.shape[1]), ADDED)
        add(out, x, y)
        return out - ADDED

    return product


WAYS = pytest.mark.parametrize(
    "product", [by(add_matrix_product), by(add_matrix_product_by_digits)], ids=["default", "digits"]
)


def exactly(x, y):
    """By Python's own integers."""
    return (x.astype(object) @ y.astype(object) % 2**64).astype(np.uint64)


@WAYS
@given(st.data())
def test_products_are_those_of_integers(product, data):
    rows, inner, columns = (data.draw(st.integers(1, 12)) for _ in range(3))
    x = data.draw(arrays(np.uint64, (rows, inner), elements=WORDS | st.sampled_from(EXTREMES)))
    y = data.draw(arrays(np.uint64, (inner, columns), elements=WORDS | st.sampled_from(EXTREMES)))
    assert np.array_equal(product(x, y), exactly(x, y))


@WAYS
@pytest.mark.parametrize("inner", [1023, 1024, 1025, 2049])
def test_sums_of_the_greatest_digits_are_not_rounded(product, inner):
    # all digits at their extremes, of one sign: sums come as near to 2^53 as they ever do; one odd term would be lost
    greatest = np.uint64((2**21) * (2**22 + 1) + 2**19 * 2**44)
    x, y = np.full((2, inner), greatest), np.full((inner, 3), greatest)
    x[0, -1], y[-1, 0] = np.uint64(1), np.uint64(1)
    assert np.array_equal(product(x, y), exactly(x, y))


@WAYS
def test_rows_beyond_a_block_and_views_are_taken_as_they_are(product):
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2**64, (300, 2 * 17), dtype=np.uint64)
    x, y = words[:, ::2], words[:17, 1::2].T[:, ::-1]
    assert np.array_equal(product(x, y), x @ y)
    assert product(x, y).shape == (300, 17)


@WAYS
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_empty_matrices(product, shape):
    rows, inner, columns = shape
    assert np.array_equal(
        product(np.ones((rows, inner), np.uint64), np.ones((inner, columns), np.uint64)),
        np.zeros((rows, columns), np.uint64),
    )


@given(arrays(np.uint64, (3, 11), elements=WORDS), arrays(np.uint64, (11, 2), elements=WORDS))
def test_what_numba_compiles_is_right_without_it(x, y):
    out = np.full((3, 2), np.uint64(7))
    with np.errstate(over="ignore"):
        products._subtract_pairs(x, y, out)
        products._add_pairwise(x, y, out)
    assert np.array_equal(out, exactly(x, y) + np.uint64(7))


def test_one_product_too_many_would_be_rounded(monkeypatch):
    monkeypatch.setattr(products, "_EXACT_COLUMNS", 1 << 13)
    greatest = np.uint64((2**21) * (2**22 + 1))
    x, y = np.full((1, 8191), greatest), np.full((8191, 1), greatest)
    x[0, 0] = y[0, 0] = np.uint64(2**22 + 1)
    assert not np.array_equal(by(add_matrix_product_by_digits)(x, y), exactly(x, y))


def test_without_numba_blas_does_it(monkeypatch):
    monkeypatch.setattr(products, "_compiled", lambda kernel: None)
    words = np.random.default_rng(4).integers(0, 2**64, 20, dtype=np.uint64)
    x, y = words[:12].reshape(3, 4), words[12:].reshape(4, 2)
    assert np.array_equal(by(add_matrix_product)(x, y), exactly(x, y))


LONG = 1 << 17


@pytest.mark.parametrize("dtype", [np.uint64, np.uint32])
@pytest.mark.parametrize(
    "put",
    [cross_products(LONG), put_cross_products, products._put_cross_products],
    ids=["long", "short", "what numba compiles"],
)
@given(st.data())
def test_cross_products_are_those_of_integers_and_are_masked(put, dtype, data):
    modulus = 2 ** (8 * np.dtype(dtype).itemsize)
    words = data.draw(arrays(dtype, (6, data.draw(st.integers(0, 9))), elements=st.integers(0, modulus - 1)))
    f, g, x0, x1, y0, y1 = (row.astype(object) for row in words)
    out = np.full_like(words[0], 7)
    with np.errstate(over="ignore"):
        put(out, tuple(words[:2].copy()), tuple(words[2:4]), tuple(words[4:]))
    assert np.array_equal(out, ((f - g + x0 * (y0 + y1) + x1 * y0) % modulus).astype(dtype))


def test_only_long_vectors_wait_for_the_compiler(monkeypatch):
    asked = []
    monkeypatch.setattr(products, "_compiled", asked.append)
    assert cross_products(LONG - 1) is put_cross_products
    assert not asked
    assert cross_products(LONG) is put_cross_products  # without numba
    assert asked
