"""From trained weights to files that run in a vehicle, and proof that they answer the same."""

from fusionkd.export.raw import raw_frame
from fusionkd.export.spec import spec_of

__all__ = ["raw_frame", "spec_of"]
