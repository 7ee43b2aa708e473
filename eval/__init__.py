"""Measuring: what the model gets right, how fast it is, and against what."""
