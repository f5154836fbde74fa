"""Where the frame's path says which stage it is in; what is done with that is the clock's affair."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Clock(Protocol):
    """Notes the stages of a frame."""

    def span(self, stage: str) -> AbstractContextManager[None]:
        """The time of one stage.

        Args:
            stage: A path such as ``preprocess/sweeps``: group, then stage. Spans of one frame never overlap, and a
                stage that is entered twice in a frame adds up.
        """


class NoClock:
    """Notes nothing, at next to no cost."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def span(self, stage: str) -> AbstractContextManager[None]:
        """A context that does nothing."""
        return self._nothing


NO_CLOCK = NoClock()
"""For whoever doesn't measure."""
