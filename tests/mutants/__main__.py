"""Plant every fault and see it caught: `python -m tests.mutants [--quick] [NAME...]`.

Exit status 1 if a mutant survives, cannot run, or no longer fits the code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, QUICK
from tests.mutants.runner import Mutant, copied, mutated, outcome, run_tests


def main() -> int:
    """Print a line a mutant; 0 if all are caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only those whose tests take seconds")
    parser.add_argument("--unharmed", action="store_true", help="first see all these tests pass without any fault")
    parser.add_argument("names", nargs="*", help="only these")
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if (not asked.names or m.name in asked.names) and (not asked.quick or m.name in QUICK)]
    for mutant in chosen:
        mutated(mutant)  # raises before an hour has gone by
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copied(Path(folder))
        if asked.unharmed:
            status, said = run_tests(sorted({test for mutant in chosen for test in mutant.tests}), Path(folder))
            print("without any fault:", said, flush=True)
            if status != 0:
                return 1
        missed = sum(_reported(mutant, Path(folder)) for mutant in chosen)
    print(f"{len(chosen)} mutants, {missed} not caught")
    return int(missed > 0 or not chosen)


def _reported(mutant: Mutant, folder: Path) -> bool:
    """Print what became of it; whether it was not caught."""
    started = time.monotonic()
    found, said = outcome(mutant, folder)
    lines = ",".join(map(str, mutant.attacks))
    print(f"{found:8}  {mutant.name:42}  attacks {lines:9}  {time.monotonic() - started:4.0f} s  {said}", flush=True)
    return found != "caught"


if __name__ == "__main__":
    sys.exit(main())
