"""Ray: a lean AI gateway for one cheap box, in front of a local llama-server."""

from ray.version import VERSION as __version__

__all__ = ["__version__"]
