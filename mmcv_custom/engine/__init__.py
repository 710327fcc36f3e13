"""Training and evaluation: the runner, the optimizer, acceleration and hooks."""
