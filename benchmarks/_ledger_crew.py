"""Processes that work on a ledger, die at any point, and repeat what was not acknowledged.

At a point a process may
 - be abandoned: its connection is closed in the middle, and another process opens the ledger. To the store it is the
   same as a kill: what was not committed is not there, and nobody tidies up (other connections stay open, so SQLite
   does not fold its log into the file, and the next process reads what the dead one left of it);
 - really be killed, with SIGKILL;
 - meet an exception, and go on.
Then the ledger is audited, compared with everything that was acknowledged, and the request is repeated under its id.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO, NoReturn

from sqlalchemy import select

from benchmarks._faults import Abandoned, Faulty, Fuse, Thrown, kill, store_of, throw
from benchmarks._ledger_audit import Auditor
from benchmarks._ledger_jobs import Clock, Job
from dp.accounting.budget import ApproxDP, Budget, PureDP, RenyiDP
from dp.errors import BudgetExceeded
from lake.blocks.rules import Blocks
from lake.errors import ClaimLost, LeaseExpired
from lake.ledger import Ledger, Steward
from lake.ledger.rows import Request
from lake.ledger.schema import claims, releases
from lake.ledger.selection import Named
from lake.scheduling import DPF, ByArrivals, ByTime, DPack, FirstComeFirstServed, RoundRobin

__all__ = ["Crew"]

_DAY = 86_400
_VISITS = Blocks.every("1 day", "admitted", since="1970-01-10", name="visits")
_PLACES = (("whole",), ("visits/1970-01-11",), ("visits/1970-01-11", "visits/1970-01-12"), ("visits/1970-01-10",))
_SCHEDULERS = (FirstComeFirstServed(), DPF(ByArrivals(20)), DPF(ByTime(60)), DPack(ByTime(30)), RoundRobin(ByTime(90)))
_ROWS = select(claims.c.number, claims.c.request_id, claims.c.noised)
_RELEASES = select(releases.c.release_key, releases.c.release)


class Crew:
    """Two processes that work on one ledger, die, and come again.

    Attributes:
        operations: steps that were acknowledged.
        crashes: how often a process was abandoned or killed.
        faults: how often an exception was thrown into a transaction.
        problems: what was found wrong, in words.
        jobs: every request, by its id.
        fuse: of both processes.
        priced: a price of so many parts, of the ledger's kind.
        acknowledge: told of every job before a step (with the step in `doing`) and after it.
    """

    def __init__(self, where: str, seed: int) -> None:
        """Make a ledger.

        Args:
            where: a path or an address that is free.
            seed: of everything that is chosen.
        """
        self.random = random.Random(seed)
        self.fuse = Fuse()
        self.clock = Clock()
        self.operations = self.crashes = self.faults = 0
        self.problems: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.acknowledge: Callable[[Job], None] = lambda _: None
        self._where = where
        self._create()
        self._beside = store_of(where, self.clock)
        self._auditor = Auditor(self._beside)
        self._processes: list[tuple[Faulty, Ledger]] = []
        self.start()

    def _create(self) -> None:
        capacity, self.priced = _KINDS[self.random.randrange(len(_KINDS))]
        with Ledger.create(self._where, capacity=capacity, clock=self.clock) as made:
            Steward(made).lay_out(_VISITS, capacity=self.priced(200))
            Steward(made).schedule(self.random.choice(_SCHEDULERS))

    # --- the life of the processes

    def work(self, operations: int, *, points: int, effects: tuple[Callable[[], NoReturn], ...] = ()) -> None:
        """Take steps at random.

        Args:
            operations: how many.
            points: how many points lie between two fuses, on the average.
            effects: what happens where a fuse goes off; abandoning and throwing if nothing is named.
        """
        end = self.operations + operations
        while self.operations < end:
            if self.fuse.points is None:
                effect = self.random.choice(effects or (self.abandon, self.abandon, throw))
                self.fuse.set(self.random.randrange(2 * points), effect)
            if self.random.random() < 0.1:
                self.clock.move(self.random.choice((0.5, 3.0, 20.0, -2.0)))
            self.step(*self._chosen())

    def step(self, job: Job, doing: str) -> None:
        """Take one step of a job, as often as needed for it to be acknowledged."""
        job.doing = doing
        self.acknowledge(job)
        while job.doing:
            try:
                _STEPS[doing](self, job)
                job.doing = ""
            except Abandoned:
                self.crashes += 1
                self._processes = [one for one in self._processes if one[0] is not self._at_work]
                self.start()
                self.check()
            except Thrown:
                self.faults += 1
                self.check()
        self.operations += 1
        self.acknowledge(job)

    def abandon(self) -> NoReturn:
        """The process at work is gone: its connection, in whatever it was, and all that it had in memory."""
        self._at_work.close()
        raise Abandoned

    def start(self) -> None:
        """Start processes until there are two; starting, they may die again."""
        while len(self._processes) < 2:
            self._at_work = Faulty(store_of(self._where, self.clock), self.fuse)
            try:
                self._processes.append((self._at_work, _opened(self._at_work)))
            except (Abandoned, Thrown):
                self.crashes += 1
                self._at_work.close()

    def leave(self) -> None:
        """Close every connection."""
        for store, _ in self._processes:
            store.close()
        self._processes.clear()
        self._beside.close()

    def killed(self, operations: int, points: int) -> None:
        """Let a process take steps until it is killed at a point, then take over from it."""
        self.leave()
        seed, (reader, writer) = self.random.random(), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._doomed(seed, operations, points, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as heard:
            self._take_over(heard)
        _, status = os.waitpid(child, 0)
        if status == signal.SIGKILL:
            self.crashes += 1
        elif status:
            self.problems.append(f"a process ended with status {status}; it says why")
        self._beside = store_of(self._where, self.clock)
        self._auditor.move_to(self._beside)
        self.start()
        self.check()
        for job in [job for job in self.jobs.values() if job.doing]:
            self.step(job, job.doing)

    def _doomed(self, seed: float, operations: int, points: int, writer: int) -> NoReturn:
        self.random = random.Random(seed)
        self.acknowledge = lambda job: _send(writer, (job, self.clock.now, self.clock.latest))
        try:
            self.start()
            self.work(operations, points=points, effects=(kill,))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _take_over(self, heard: IO[bytes]) -> None:
        with suppress(EOFError, pickle.UnpicklingError):  # its last word may be half a word
            while True:
                job, self.clock.now, self.clock.latest = pickle.load(heard)
                self.operations += not job.doing
                self.jobs[job.request.request_id] = job

    # --- what is looked at

    def check(self) -> None:
        """Audit, and compare with everything that was acknowledged."""
        look = self._auditor.look()
        self.problems += look.problems
        with self._beside.transaction() as tx:
            rows = {request_id: (number, noised) for number, request_id, noised in tx.rows(_ROWS)}
            answers = {key: bytes(release) for key, release in tx.rows(_RELEASES)}
        for job in self.jobs.values():
            number, noised = rows.get(job.request.request_id, (0, None))
            state = look.states.get(number, "nowhere")
            if state not in job.may_be(self.clock.latest):
                self.problems.append(f"{job.request.request_id} was {job.known}, {job.doing or 'idle'}, and is {state}")
            if job.known == "spent" and answers.get(job.key) != job.answer:
                self.problems.append(f"the release of {job.key} is not the one that was acknowledged")
            if job.known == "armed" and job.key not in answers and bytes(noised or b"") != job.noised:
                self.problems.append(f"the vector of {job.key} is gone")

    def finish(self) -> None:
        """Complete what is open, let every lease run out, and see that nothing is stuck and nothing was paid twice."""
        self.fuse.points = None
        for job in [job for job in self.jobs.values() if job.known == "armed"]:
            self.step(job, "commit")
        self.clock.move(10 * _DAY)
        self._processes[0][1].balance()
        self.check()
        look = self._auditor.look()
        stuck = [number for number, state in look.states.items() if state in ("waiting", "reserved", "armed")]
        self.problems += [f"claim {number} is stuck" for number in stuck]
        self.problems += [
            f"{block} holds back {of.acquired}"
            for block, of in look.blocks.items()
            if any(of.acquired.amounts.values())
        ]
        paid = sorted(int(job.claim.claim_id) for job in self.jobs.values() if job.known == "spent")
        spent = sorted(number for number, state in look.states.items() if state == "spent")
        if paid != spent[1:]:  # the first is the layout's
            self.problems.append(f"claims {paid} were paid, {spent[1:]} are spent")

    # --- steps

    def _chosen(self) -> tuple[Job, str]:
        """Whose step is next."""
        open_jobs = [job for job in self.jobs.values() if not job.ended]
        if not open_jobs or (len(open_jobs) < 12 and self.random.random() < 0.4):
            return self.new_job(), "ask"
        job = self.random.choice(open_jobs)
        if job.known == "held" and job.request.parent is None and self.random.random() < 0.2:
            return self.new_job(within=job), "ask"
        steps = {"asking": "ask", "waiting": "poll poll give_back", "armed": "commit"}
        return job, self.random.choice(steps.get(job.known, "arm arm arm renew look give_back").split())

    def new_job(self, within: Job | None = None) -> Job:
        """A request that nobody has made."""
        name, choose = f"job {len(self.jobs)}", self.random.choice
        request = Request(
            name,
            choose((5.0, 60.0, 600.0)),
            timeout_seconds=0.0 if within else choose((0.0, 0.0, 30.0, 300.0)),
            weight=choose((1, 5)),
            parent=None if within is None else int(within.claim.claim_id),
            release_key=f"key of {name}",
        )
        blocks = choose(_PLACES) if within is None else within.choice.names
        job = Job(request, Named(blocks, self.priced(choose((1, 2, 7, 30) if within is None else (1,))), ""))
        self.jobs[name] = job
        return job

    @property
    def _ledger(self) -> Ledger:
        """One of the two processes."""
        self._at_work, ledger = self.random.choice(self._processes)
        return ledger

    def _ask(self, job: Job) -> None:
        ledger = self._ledger
        try:
            row = ledger.ask(job.request, job.choice)
        except (BudgetExceeded, ClaimLost):
            job.known = "refused"
            return
        job.ticket = row.ticket(ledger.ledger_id)
        job.known = {"waiting": "waiting", "reserved": "held"}[row.state]

    def _poll(self, job: Job) -> None:
        ledger = self._ledger
        row = ledger.poll(int(job.claim.claim_id))
        job.ticket = row.ticket(ledger.ledger_id)
        job.known = {"waiting": "waiting", "reserved": "held"}.get(row.state, "refused")

    def _renew(self, job: Job) -> None:
        ledger = self._ledger
        try:
            job.ticket = ledger.renew(job.claim)
        except LeaseExpired:
            self._lose(job)
        except ClaimLost:  # it was renewed, and nobody heard: the request gives the new ticket
            self._ask(job)

    def _arm(self, job: Job) -> None:
        ledger = self._ledger
        try:
            ledger.arm(job.claim, job.noised)
        except LeaseExpired:
            self._lose(job)
        except ClaimLost:  # it was armed, and nobody heard
            paid = ledger.resumable(job.key)
            job.known = "refused" if paid is None else "armed"
        else:
            job.known = "armed"

    def _commit(self, job: Job) -> None:
        self._ledger.commit(job.claim, job.answer, plan="{}")
        job.known = "spent"

    def _give_back(self, job: Job) -> None:
        self._ledger.release(job.claim)
        job.known = "released"

    def _look(self, job: Job) -> None:
        self._ledger.balance()

    def _lose(self, job: Job) -> None:
        if job.claim.lease_expires_at > self.clock.latest:
            self.problems.append(f"{job.request.request_id} lost a lease that runs")
        job.known = "lost"


_STEPS: dict[str, Callable[[Crew, Job], None]] = {
    "ask": Crew._ask,
    "poll": Crew._poll,
    "renew": Crew._renew,
    "arm": Crew._arm,
    "commit": Crew._commit,
    "give_back": Crew._give_back,
    "look": Crew._look,
}

_KINDS: tuple[tuple[Budget, Callable[[int], Budget]], ...] = (
    (PureDP(1), lambda parts: PureDP(f"{parts}/700")),
    (ApproxDP(1, "1/1000"), lambda parts: ApproxDP(f"{parts}/700", f"{parts}/900000")),
    (RenyiDP({2: 1, 4: "1/2"}), lambda parts: RenyiDP({2: f"{parts}/400", 4: f"{parts}/700"})),
)


def _opened(store: Faulty) -> Ledger:
    """What `Ledger.open` does, on this store."""
    ledger = Ledger(store)
    with ledger.books() as books:
        books.settle()
    return ledger


def _send(pipe: int, message: object) -> None:
    data = pickle.dumps(message)
    while data:
        data = data[os.write(pipe, data) :]
