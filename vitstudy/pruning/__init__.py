"""Pruning: dimensions scored, cut at the lowest scores, and physically removed."""
