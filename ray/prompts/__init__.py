"""What Ray knows about prompts before any backend sees them."""

from ray.prompts.lane import lane_of

__all__ = ["lane_of"]
