"""The two ends of a stream: frames go out through a queue that never blocks a party in lockstep, and come in exactly.

A pipe is used one way only. So each of its ends has one user at a time: the thread that receives; or the thread that
sends, while nothing is queued, and else the writer thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from spark_mpc.transport.base import Pipe, Watch
from spark_mpc.transport.mailbox import POLL_SECONDS
from spark_mpc.transport.stream_frames import FRAME_PREFIX_BYTES, Expected, Transcript, encode_frame, label_bytes
from spark_mpc.wire import INLINE_BYTES

__all__ = ["Incoming", "Outgoing"]

_CHUNK_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 14  # a TLS record: a short message comes whole with its header, a long one begins with it
_QUEUE_BYTES = 1 << 26
_FREE_MESSAGES = 2  # so many may be queued whatever their size


class Outgoing:
    """The sending end.

    Guarantees: `send` waits only while more than two messages are queued and they exceed 64 MiB together with the new
        one. Parties in lockstep therefore never wait for each other in a circle, if what a party sends to a peer in one
        step before it receives what that step sends it are at most two messages, whatever their size, or 64 MiB. For
        let P be the party that has completed the fewest steps, t. Every peer has completed at least t, so it has
        received all that P sent in its first t steps: of P's messages, only those of the present step are queued, and
        P's sends do not wait. What P receives in this step was queued by peers before they went on, or is being sent by
        one that has completed as few as P; and P reads, so their writers make progress. So P completes its step. A step
        in which P only sends may send any amount: its receiver has completed the step, or is in it and reads.
    Cost: no copy of a payload above 64 KiB but of its first record; a thread, which runs only while something is
        queued.

    Args:
        pipe: to the peer; owned from now on.
        watch: is asked while a send waits, and when the pipe breaks.
    """

    def __init__(self, pipe: Pipe, watch: Watch) -> None:
        self.transcript = Transcript()
        self._pipe = pipe
        self._watch = watch
        self._sequence = 0
        self._step = "start"
        self._queue: deque[tuple[memoryview, ...]] = deque()  # the first is being written
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._error: BaseException | None = None
        self._writer = threading.Thread(target=self._write_queue, name="transport: stream", daemon=True)
        self._writer.start()

    def send(self, step: str, rounds: int, payload: memoryview) -> None:
        """Send one message, which nobody may write to from now on; see the class for when it waits.

        Raises:
            PeerLost, RunAborted, AbortedByPeer: the run is over; perhaps for an earlier message.
        """
        self.raise_error()
        header = encode_frame(step, rounds, self._sequence, len(payload))
        self.transcript.add(header, payload)
        self._sequence += 1
        self._step = step
        if len(payload) > INLINE_BYTES:
            first = _BUFFER_BYTES - len(header)
            self._enqueue(memoryview(header + payload[:first]), payload[first:])
            return
        frame = memoryview(header + payload)
        if not self._queue:  # only this thread fills it: the pipe is ours
            frame = frame[self._try(frame) :]
        if frame:
            self._enqueue(frame)

    def raise_error(self) -> None:
        """Raise what went wrong in the writer."""
        if isinstance(self._error, ConnectionError):
            self._watch.broke(self._step)
        if self._error is not None:
            raise self._error

    def drain(self) -> None:
        """Wait until nothing is queued: the system has it all, and sends it even after `close`.

        Raises:
            PeerLost, RunAborted, AbortedByPeer: the run is over.
        """
        with self._changed:
            self._wait_until(lambda: not self._queue)

    def close(self) -> None:
        """End the writer and close the pipe; what is queued is not sent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._pipe.interrupt()
        self._writer.join()
        self._pipe.close()

    def _try(self, frame: memoryview) -> int:
        try:
            return self._pipe.write_some(frame)
        except ConnectionError:
            self._watch.broke(self._step)

    def _enqueue(self, *parts: memoryview) -> None:
        length = sum(len(part) for part in parts)
        with self._changed:
            self._wait_until(lambda: self._has_room(length))
            self._queue.append(parts)
            self._queued_bytes += length
            self._changed.notify_all()

    def _has_room(self, length: int) -> bool:
        return len(self._queue) <= _FREE_MESSAGES or self._queued_bytes + length <= _QUEUE_BYTES

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        if holds():
            return
        check = self._watch.patience()
        while not holds():
            self._changed.wait(POLL_SECONDS)
            self.raise_error()
            check()

    def _write_queue(self) -> None:
        try:
            while (parts := self._first()) is not None:
                for part in parts:
                    self._pipe.write_all(part)
                with self._changed:
                    self._queue.popleft()
                    self._queued_bytes -= sum(len(part) for part in parts)
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error  # for the party's own thread, which also watches the peer while the writer waits

    def _first(self) -> tuple[memoryview, ...] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return None if self._closing else self._queue[0]


class Incoming:
    """The receiving end: a frame is judged before any of its payload is read into the receiver's memory.

    Args:
        pipe: from the peer; owned from now on.
        watch: is asked while nothing comes.
    """

    def __init__(self, pipe: Pipe, watch: Watch) -> None:
        self.transcript = Transcript()
        self._pipe = pipe
        self._watch = watch
        self._sequence = 0
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0  # of what the buffer holds

    def receive(self, step: str, out: memoryview) -> int:
        """Fill `out` with the next message; returns its sender's rounds.

        Raises:
            WireError: another label, number or length.
            PeerLost, RunAborted, AbortedByPeer: the run is over.
        """
        try:
            prefix = self._take(FRAME_PREFIX_BYTES)
            label = self._take(label_bytes(prefix))
            rounds = Expected(step, self._sequence, len(out)).judge(prefix, label)
            self._fill(out)
        except ConnectionError:
            self._watch.broke(step)
        self.transcript.add(prefix + label, out)
        self._sequence += 1
        return rounds

    def close(self) -> None:
        """Close the pipe; only for the thread that receives."""
        self._pipe.close()

    def _take(self, length: int) -> bytes:
        """The next bytes, fewer than the buffer holds."""
        if self._end - self._start < length:
            held = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(held)] = held
            self._start, self._end = 0, len(held)
            while self._end < length:
                self._end += self._read(self._buffer[self._end :])
        taken = bytes(self._buffer[self._start : self._start + length])
        self._start += length
        return taken

    def _fill(self, out: memoryview) -> None:
        held = min(len(out), self._end - self._start)
        out[:held] = self._buffer[self._start : self._start + held]
        self._start += held
        out = out[held:]
        while out:
            out = out[self._read(out[:_CHUNK_BYTES]) :]

    def _read(self, room: memoryview) -> int:
        try:
            return self._pipe.read_some(room)
        except TimeoutError:
            return self._read_patiently(room)

    def _read_patiently(self, room: memoryview) -> int:
        check = self._watch.patience()
        while True:
            check()
            try:
                return self._pipe.read_some(room)
            except TimeoutError:
                continue
