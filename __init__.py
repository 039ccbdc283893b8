"""bolid: galleries of people's photos to identity-grouped shards to a body-and-face adapter for SDXL (BoLID)."""

__version__ = "0.1.0"
