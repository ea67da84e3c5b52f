"""Noise that a protocol draws among its parties, so that there is one sample a cell and nobody knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from dp.accounting.budget import ApproxDP, Budget
from dp.accounting.calibration import distance_of_delta
from dp.errors import InvalidArgument
from dp.noise.coins import LaplaceCoins, laplace_coins
from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.parts import NoiseParties, Part

__all__ = ["UnderSharing"]


@dataclass(frozen=True)
class UnderSharing(NoiseParties):
    """A protocol draws one sample a cell, as wide as one curator's: discrete Laplace noise from biased coins.

    Args:
        delta_share: how much of the release's delta pays for the distance between what is drawn and this law,
            0 < delta_share < 1, exact.

    Raises:
        InvalidArgument: a share outside its range.
    """

    copies: int = field(default=1, init=False)
    honest: int = field(default=1, init=False)
    delta_share: Fraction = Fraction(1, 1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.delta_share < 1:
            raise InvalidArgument("delta_share", self.delta_share, "give a part of delta, such as 1/1000")

    def sampler_delta(self, asked: Budget) -> Fraction:
        return asked.delta * self.delta_share if isinstance(asked, ApproxDP) else Fraction(0)

    def coins(self, asked: Budget, parts: Sequence[Part]) -> tuple[LaplaceCoins, ...]:
        """See `NoiseParties.coins`.

        Raises:
            InvalidArgument: a delta too small for the coins that there are, or a part that has other noise.
        """
        assert isinstance(asked, ApproxDP)
        scales = [_laplace(part).scale for part in parts]
        distance = distance_of_delta(self.sampler_delta(asked), asked.epsilon)
        try:
            return laplace_coins(scales, [part.cells for part in parts], distance)
        except InvalidArgument:
            remedy = (
                f"noise under sharing takes {self.delta_share} of it and is not so exact: give more, or less epsilon"
            )
            raise InvalidArgument("delta", float(asked.delta), remedy) from None

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "drawn": "under_sharing", "delta_share": str(self.delta_share)}


def _laplace(part: Part) -> DiscreteLaplace:
    if not isinstance(part.mechanism, DiscreteLaplace):
        remedy = "under sharing cells get Laplace noise, and nothing is chosen by exact counts: leave it out"
        raise InvalidArgument("agg", part.measure.label, remedy)
    return part.mechanism
