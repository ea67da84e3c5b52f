"""Tests. A deadline for each hypothesis example would measure the machine, so there is none."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
