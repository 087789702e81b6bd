"""mien's edge runtime: camera frames in, emotion readings out, no pixels kept."""

__version__ = "0.1.0"
