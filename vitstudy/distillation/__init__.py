"""Distillation: soft and hard targets, DeiT's token, and the teacher they come from."""
