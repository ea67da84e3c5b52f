"""Selections of groups from a budget: noise that gives the epsilon asked for, and the threshold that follows."""

from __future__ import annotations

from fractions import Fraction

from dp.accounting.calibration import gaussian_variance, laplace_scale, zcdp_rho
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.noise.thresholds import GaussianThreshold, LaplaceThreshold

__all__ = ["gaussian_threshold", "laplace_threshold"]


def laplace_threshold(
    *, epsilon: Fraction, delta: Fraction, max_groups: int, pre_threshold: int = 1, group_size: int = 1
) -> LaplaceThreshold:
    """The Laplace threshold with the least noise for a budget.

    Args:
        epsilon: total for the units protected together, > 0, exact.
        delta: total for the units protected together, 0 < delta < 1, exact.
        max_groups: groups of one unit, >= 1.
        pre_threshold: groups with fewer units are never kept, >= 1.
        group_size: how many units are protected together, >= 1.

    Raises:
        InvalidArgument: an argument outside its range.
    """
    return LaplaceThreshold(
        noise=DiscreteLaplace(laplace_scale(max_groups * group_size, epsilon)),
        delta=delta,
        max_groups=max_groups,
        pre_threshold=pre_threshold,
        group_size=group_size,
    )


def gaussian_threshold(
    *, epsilon: Fraction, delta: Fraction, max_groups: int, pre_threshold: int = 1, group_size: int = 1
) -> GaussianThreshold:
    """A Gaussian threshold for a budget: half of delta turns rho into epsilon, the rest is for the threshold.

    Args:
        epsilon: total for the units protected together, > 0, exact.
        delta: total for the units protected together, 0 < delta < 1, exact.
        max_groups: groups of one unit, >= 1.
        pre_threshold: groups with fewer units are never kept, >= 1.
        group_size: how many units are protected together, >= 1.

    Raises:
        InvalidArgument: an argument outside its range.
    """
    rho = zcdp_rho(epsilon, delta / 2)
    return GaussianThreshold(
        noise=DiscreteGaussian(gaussian_variance(max_groups * group_size**2, rho)),
        epsilon=epsilon,
        delta=delta,
        max_groups=max_groups,
        pre_threshold=pre_threshold,
        group_size=group_size,
    )
