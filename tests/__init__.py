"""Tests. A deadline for each hypothesis example would measure the machine, so there is none; CI repeats its draws."""

import os

from hypothesis import settings

settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("ours")
