"""Write dp_accounting.json beside this file: deltas by Google's dp-accounting, an implementation that is not ours.

Run by hand in an environment of its own (`pip install dp-accounting==0.6.0`): its pins, attrs below 24 among them, have
no place in ours. Each case has two estimates, one from losses rounded down and one from losses rounded up, so the least
delta lies between them but for the error of its Fourier transforms.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from dp_accounting.pld import privacy_loss_distribution as pld

INTERVAL = 1e-4
PURE = [{"1/10": 20}, {"1/20": 100}, {"1": 5}, {"1/2": 1, "1/3": 1, "1/7": 1, "1": 1}, {"2": 3, "1/10": 10}]
EPSILONS = ["1/4", "1/2", "1", "2"]
# (shift of every cell, cells, variance)
GAUSSIANS = [(1, 1, 18), (1, 1, 6), (1, 4, 70), (2, 3, 200), (5, 1, 400), (3, 20, 2000)]
MIXED = [({"1/10": 1, "1/5": 1}, (1, 4, 100)), ({"1/4": 4}, (2, 3, 500))]


def pure(epsilon: str, pessimistic: bool) -> pld.PrivacyLossDistribution:
    """Randomised response, whose answers are 0 and 1."""
    top, _, bottom = epsilon.partition("/")
    unlikely = -math.log1p(math.exp(int(top) / int(bottom or 1)))
    likely = unlikely + int(top) / int(bottom or 1)
    return pld.from_two_probability_mass_functions(
        {0: unlikely, 1: likely},
        {0: likely, 1: unlikely},
        pessimistic_estimate=pessimistic,
        value_discretization_interval=INTERVAL,
    )


def gaussian(shift: int, cells: int, variance: int, pessimistic: bool) -> pld.PrivacyLossDistribution:
    one = pld.from_discrete_gaussian_mechanism(
        math.sqrt(variance), shift, pessimistic_estimate=pessimistic, value_discretization_interval=INTERVAL
    )
    return one.self_compose(cells)


def estimates(epsilons: dict[str, int], noise: tuple[int, int, int] | None, epsilon: str) -> list[float]:
    deltas = []
    for pessimistic in (False, True):
        parts = [pure(each, pessimistic).self_compose(count) for each, count in epsilons.items()]
        parts += [gaussian(*noise, pessimistic)] if noise else []
        total = parts[0]
        for part in parts[1:]:
            total = total.compose(part)
        top, _, bottom = epsilon.partition("/")
        deltas.append(total.get_delta_for_epsilon(int(top) / int(bottom or 1)))
    return deltas


def main() -> None:
    cases = [(epsilons, None) for epsilons in PURE] + [({}, noise) for noise in GAUSSIANS] + MIXED
    rows = []
    for epsilons, noise in cases:
        for epsilon in EPSILONS:
            low, high = estimates(epsilons, noise, epsilon)
            rows.append({"pure": epsilons, "gaussian": noise, "epsilon": epsilon, "low": low, "high": high})
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    Path(__file__).with_name("dp_accounting.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
