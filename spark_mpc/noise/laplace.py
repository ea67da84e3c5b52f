"""Discrete Laplace noise that nobody knows, one draw a cell, as shares of words that can be added to shares of cells.

With coins z and g_j as in `dp.noise.coins` and a fair sign s, all of them secret,

    draw = z (s ? -1 - g : 1 + g) = z - (2^k + 1) (z s) + sum over j < k of 2^j z (g_j ^ s),

since -1 - g is the complement of g: its digits are flipped, and 2^k is taken off. So one product for each coin is
enough, and one conversion of a sum of bits for each draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.noise.coins import LaplaceCoins
from spark_mpc.noise.coins import toss_cost, tossed
from spark_mpc.protocols.cost import FREE, Cost
from spark_mpc.protocols.engine import Costs, Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, concatenated
from spark_mpc.ring.planes import WORD_BITS, plane_words

__all__ = ["laplace_cost", "laplace_noise"]


@dataclass(frozen=True)
class _Block:
    """Draws of one scale, worked on together.

    Attributes:
        coins: of each draw.
        cells: draws.
    """

    coins: LaplaceCoins
    cells: int

    @property
    def words(self) -> int:
        """Of one coin of all draws."""
        return plane_words(self.cells)

    @property
    def coin_words(self) -> int:
        """Of all coins."""
        return self.coins.coins * self.words

    @property
    def weights(self) -> NDArray[np.uint64]:
        """Of z, z s and the flipped digits, in the draw."""
        digits = self.coins.digits
        weights = [1, -(2**digits) - 1, *(2**j for j in range(digits))]
        return np.array([weight % 2**64 for weight in weights], np.uint64)


def laplace_noise(engine: Engine, coins: Sequence[LaplaceCoins], cells: Sequence[int]) -> Arithmetic:
    """Noise for blocks of cells, each with its scale.

    Args:
        engine: of this party.
        coins: of the draws of each block, as `dp.noise.coins.laplace_coins` plans them; of one precision.
        cells: draws in each block.

    Returns:
        uint64 words in two's complement, shape (sum of cells,), fresh for every call; add them to the cells.

    Guarantees:
        Independent draws from exactly these coins, given uniform key streams; the distance from discrete Laplace noise
        is `dp.noise.coins.distance_of_draws(coins, cells)`. One party alone learns nothing about a draw.
    Leaks:
        Nothing; scales and lengths are public.
    Cost:
        `laplace_cost`. 10 rounds for each `engine.chunk` coins at a precision of 36 to 64. A draw of k digits, in
        blocks of 64: 9.4 (k + 1) bytes a party at a precision of 64, and 8 (k + 2) / 3 + 8 for the conversion, where
        party 0 sends 8 (k + 3) and the others 8. At a scale of a million: 337 bytes, of which party 0 sends half.
    Source:
        Dwork, Kenthapadi, McSherry, Mironov and Naor 2006 (coins for the digits); sign and zero are our own.
    """
    assert len({each.precision for each in coins}) <= 1
    if not any(cells):
        return engine.constant(np.zeros(0, np.uint64))
    with engine.step("noise"):
        return concatenated([_drawn(engine, blocks) for blocks in _pieces(coins, cells, engine.chunk)])


def laplace_cost(costs: Costs, chunk: int, coins: Sequence[LaplaceCoins], cells: Sequence[int]) -> Cost:
    """What `laplace_noise` sends on an engine of these costs and this chunk."""
    total = FREE
    for blocks in _pieces(coins, cells, chunk):
        tosses, planes = sum(block.coin_words for block in blocks), sum(block.words for block in blocks)
        total += toss_cost(costs, tosses, blocks[0].coins.precision) + costs.conjunction(tosses)
        draws = sum(block.cells for block in blocks)
        total += costs.combined_bits(WORD_BITS * (tosses + planes), draws, np.uint64)
    return total


def _pieces(coins: Sequence[LaplaceCoins], cells: Sequence[int], chunk: int) -> Iterator[tuple[_Block, ...]]:
    """Blocks, cut and joined so that about `chunk` coins are tossed at a time."""
    blocks: list[_Block] = []
    room = chunk // WORD_BITS
    for each, count in zip(coins, cells, strict=True):
        start = 0
        while start < count:
            planes = max(room // each.coins, 0 if blocks else 1)
            if not planes:
                yield tuple(blocks)
                blocks, room = [], chunk // WORD_BITS
                continue
            blocks.append(_Block(each, min(count - start, WORD_BITS * planes)))
            start += blocks[-1].cells
            room -= blocks[-1].coin_words
    if blocks:
        yield tuple(blocks)


def _drawn(engine: Engine, blocks: tuple[_Block, ...]) -> Arithmetic:
    rows = [(p, block.words) for block in blocks for p in block.coins.probabilities]
    probabilities, words = zip(*rows, strict=True)
    coins = _split(tossed(engine, probabilities, words, blocks[0].coins.precision), [b.coin_words for b in blocks])
    signs = _split(engine.random_binary(sum(b.words for b in blocks)), [b.words for b in blocks])
    nonzero = [coin.piece(slice(block.words)) for coin, block in zip(coins, blocks, strict=True)]
    repeated = [_repeated(z, block.coins.coins) for z, block in zip(nonzero, blocks, strict=True)]
    flipped = [_flipped(*each) for each in zip(coins, signs, blocks, strict=True)]
    with engine.step("sign"):
        shown = _split(engine.and_words(concatenated(repeated), concatenated(flipped)), [b.coin_words for b in blocks])
    ordered = concatenated([share for pair in zip(nonzero, shown, strict=True) for share in pair])
    bits = Bits(ordered.parts, WORD_BITS * len(ordered))
    return engine.combined_bits(bits, partial(_draws, blocks))


def _flipped(coins: Binary, signs: Binary, block: _Block) -> Binary:
    """s, g_0 ^ s, g_1 ^ s, ...: what z is to multiply."""

    def without_first(part: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return np.concatenate([np.zeros(block.words, np.uint64), part[block.words :]])

    return coins.map(without_first) ^ _repeated(signs, block.coins.coins)


def _draws(blocks: tuple[_Block, ...], bits: NDArray[Any]) -> NDArray[Any]:
    """The draws from their bits as ring elements, block after block: rows z, z s, and z times flipped digits."""
    ends = np.cumsum([WORD_BITS * (block.coin_words + block.words) for block in blocks])
    parts = zip(np.split(bits, ends[:-1]), blocks, strict=True)
    return np.concatenate([_weighted(part.reshape(len(block.weights), -1), block) for part, block in parts])


def _weighted(rows: NDArray[Any], block: _Block) -> NDArray[Any]:
    """Sums of rows times weights, modulo the ring; what fills the last words up is left out."""
    return np.asarray((block.weights[:, None] * rows[:, : block.cells]).sum(axis=0, dtype=rows.dtype))


def _repeated(shared: Binary, times: int) -> Binary:
    return shared.map(lambda part: np.tile(part, times))


def _split(shared: Binary, lengths: Sequence[int]) -> list[Binary]:
    ends = np.cumsum(lengths)
    return [shared.piece(slice(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
