"""The name and version of the distribution that this package belongs to."""

DISTRIBUTION = "spark-mpc"
__version__ = "0.1.0"
