"""Attention that costs less than a softmax over all pairs of tokens."""
