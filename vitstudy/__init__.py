"""vitstudy: a reproducible study of Vision-Transformer compression, every number from a file."""

__version__ = "0.1.0"
