"""Pictures of frames and predictions."""
