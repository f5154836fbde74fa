"""Property tests without a time limit per example: the first one may compile a kernel."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
