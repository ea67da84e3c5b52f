"""Write dp_accounting_renyi.json beside this file: Renyi divergences by Google's dp-accounting, which is not ours.

Run by hand in an environment of its own (`pip install dp-accounting==0.6.0`). Its Laplace law is the continuous one.
"""

from __future__ import annotations

import json
from pathlib import Path

import dp_accounting
from dp_accounting import rdp

ORDERS = ["3/2", "2", "5/2", "8", "32"]
PARAMETERS = ["1/2", "1", "5", "50"]  # noise multipliers
EVENTS = {"gaussian": dp_accounting.GaussianDpEvent, "laplace": dp_accounting.LaplaceDpEvent}


def number(text: str) -> float:
    top, _, bottom = text.partition("/")
    return int(top) / int(bottom or 1)


def main() -> None:
    rows = []
    for name, event in EVENTS.items():
        for parameter in PARAMETERS:
            accountant = rdp.RdpAccountant([number(order) for order in ORDERS])
            accountant.compose(event(number(parameter)))
            for order, divergence in zip(ORDERS, accountant._rdp, strict=True):
                rows.append({"event": name, "parameter": parameter, "order": order, "divergence": float(divergence)})
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    Path(__file__).with_name("dp_accounting_renyi.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
