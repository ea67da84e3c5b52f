"""A plan on Spark: bounded cells, noise, and the release."""
