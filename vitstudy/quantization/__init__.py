"""Quantization, one paper one file; every file stands on `uniform`."""
