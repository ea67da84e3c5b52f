"""What every operation of one party stands on: who it is, its channel, its keys, and the label of the step it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.channel import Channel
from spark_mpc.ring.streams import KeyStream, Unsigned

__all__ = ["CACHED", "CHUNK", "PARTIES", "WINDOW", "Context", "cut"]

PARTIES = 3

CHUNK = 1 << 17
"""Elements that go through all rounds of an operation together: 1 MiB a message, which stays in cache."""

CACHED = 1 << 15
"""Elements of a chunk that are computed together: what one pass leaves is in the cache when the next begins."""

MESSAGE = 4
"""Chunks in a message of a long column: each message costs its two ends about 0.3 ms, whatever its length."""

WINDOW = 16
"""Chunks, in whole messages, that a party sends ahead of those that it has received. Three parties that are all this
far ahead of each other have 16 MiB on the way: less than a channel takes before a send waits, so that they never wait
for one another."""

_LONGEST_CHUNK = 1 << 19

Write = Callable[[slice, NDArray[Any]], None]
"""Called with a slice of the elements, and the memory that their part is written to."""

Make = Callable[[slice], NDArray[Any]]
"""Gives what is sent for a slice of the elements: contiguous, and never written to from then on."""

Take = Callable[[slice], None]
"""Receives what comes for a slice of the elements."""


@dataclass
class Context:
    """One party of a run.

    Attributes:
        channel: to the other two.
        own: the stream of key k_i, which the previous party holds, too.
        following: the stream of key k_i+1, which the next party holds, too.
        chunk: elements that go through all rounds of an operation together; a multiple of 64, and at most 2^19, so that
            a window of words is no more than a channel takes before a send waits.
    """

    channel: Channel
    own: KeyStream = field(repr=False)
    following: KeyStream = field(repr=False)
    chunk: int = CHUNK
    _path: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        assert self.chunk % 64 == 0, f"chunk {self.chunk} is no multiple of 64"
        assert 0 < self.chunk <= _LONGEST_CHUNK, f"chunk {self.chunk} is above {_LONGEST_CHUNK}"

    @property
    def me(self) -> int:
        """This party's number i."""
        return self.channel.me

    @property
    def next(self) -> int:
        """The party that holds k_i+1 and x_i+1, too."""
        return (self.me + 1) % PARTIES

    @property
    def previous(self) -> int:
        """The party that holds k_i and x_i, too."""
        return (self.me + 2) % PARTIES

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Label the messages of what is done inside."""
        outer = self._path
        self._path = f"{outer}/{name}" if outer else name
        try:
            yield
        finally:
            self._path = outer

    def label(self, name: str) -> str:
        """A message's label, within the steps that are open."""
        return f"{self._path}/{name}" if self._path else name

    def zero_terms(
        self, shape: int | tuple[int, ...], dtype: type[Unsigned]
    ) -> tuple[NDArray[Unsigned], NDArray[Unsigned]]:
        """F(k_i) and F(k_i+1): their difference is this party's part of a fresh sharing of zeros; the three cancel."""
        return self.own.words(shape, dtype), self.following.words(shape, dtype)

    def zero_sum(self, shape: int | tuple[int, ...], dtype: type[Unsigned]) -> NDArray[Unsigned]:
        """This party's part of a fresh sharing of zeros."""
        part, taken = self.zero_terms(shape, dtype)
        part -= taken
        return part

    def mask(self, part: NDArray[Unsigned], spare: NDArray[Unsigned], out: NDArray[Unsigned]) -> None:
        """Write `part`, masked by this party's part of a fresh sharing of zeros by exclusive or, to `out`.

        Args:
            part: contiguous.
            spare: like `part`; is overwritten.
            out: like `part`.
        """
        self.own.mask(part, spare)
        self.following.mask(spare, out)

    def reshared(self, name: str, part: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """From one part each to two each: send mine to the previous party, receive the next one's."""
        label, received = self.label(name), np.empty_like(part)
        self.channel.send(self.previous, label, part)
        self.channel.receive(self.next, label, received)
        return part, received

    def reshared_in_chunks(
        self, name: str, length: int, dtype: np.dtype[Any], write: Write
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """`reshared`, while further parts are still computed; one round for every `WINDOW` chunks.

        Args:
            name: of the messages.
            length: elements.
            dtype: of an element.
            write: writes this party's part of a slice of at most `CACHED` elements, with its share of zeros inside.
        """

        def write_message(piece: slice, out: NDArray[Any]) -> None:
            for cached in cut(piece, CACHED):
                write(cached, out[cached.start - piece.start : cached.stop - piece.start])

        return self.reshared_in_messages(name, length, dtype, write_message)

    def reshared_in_messages(
        self, name: str, length: int, dtype: np.dtype[Any], write: Write
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """`reshared_in_chunks`, with a `write` for the slice of a whole message; it may exchange others before."""
        label = self.label(name)
        mine, received = np.empty((2, length), dtype)  # as one block, below 32 MiB: glibc then keeps it when it is free

        def part(piece: slice) -> NDArray[Any]:
            out: NDArray[Any] = mine[piece]
            write(piece, out)
            return out

        def take(piece: slice) -> None:
            self.channel.receive(self.next, label, received[piece])

        self.stream(label, length, sends=(self.previous, part), take=take)
        return mine, received

    def stream(
        self, label: str, length: int, *, sends: tuple[int, Make] | None = None, take: Take | None = None
    ) -> None:
        """Send and receive a long column in messages of `MESSAGE` chunks, while further ones are still computed.

        Args:
            label: of the messages that are sent.
            length: elements.
            sends: to whom, and what makes every message; None where nothing is sent.
            take: receives every message that comes; None where none does.

        Cost: one round for every `WINDOW` chunks. Nobody is further ahead of what it has received, so that parties that
            all send and receive never wait for one another.
        """
        slices, ahead = list(cut(slice(0, length), MESSAGE * self.chunk)), WINDOW // MESSAGE
        for number, piece in enumerate(slices):
            if take is not None and number >= ahead:
                take(slices[number - ahead])
            if sends is not None:
                to, make = sends
                self.channel.send(to, label, make(piece))
        if take is not None:
            for piece in slices[-ahead:]:
                take(piece)


def cut(whole: slice, length: int) -> Iterator[slice]:
    """A slice in pieces of at most `length` elements."""
    return (slice(start, min(start + length, whole.stop)) for start in range(whole.start, whole.stop, length))
