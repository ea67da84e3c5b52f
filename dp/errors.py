"""The root of the error tree, and the errors of a bad request.

    SparkMpcError
     +- InvalidArgument        a parameter, its value, and what to do instead      (also a ValueError)
     +- BudgetExceeded         a ledger, or the budget of a query, has less left than was asked
     +- lake.errors.*          tables and ledgers
     +- spark_mpc.errors.*     federations, peers and the wire

No message contains a value of a row: what an error says depends on public facts alone.
"""

from __future__ import annotations

__all__ = ["BudgetExceeded", "InvalidArgument", "SparkMpcError"]


class SparkMpcError(Exception):
    """Root of every error that this distribution raises on purpose."""


class InvalidArgument(SparkMpcError, ValueError):
    """A parameter that cannot be used; the message names parameter, value and remedy.

    Args:
        parameter: the name of the parameter, as the caller wrote it.
        value: what was given; shown with `repr`, so it must be public.
        remedy: what the caller should do instead.
    """

    def __init__(self, parameter: str, value: object, remedy: str) -> None:
        self.parameter = parameter
        self.value = value
        self.remedy = remedy
        super().__init__(f"{parameter}={value!r}: {remedy}")


class BudgetExceeded(SparkMpcError):
    """More privacy budget was asked for than is left."""
