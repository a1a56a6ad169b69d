"""Tests of what `examples/` promises to run anywhere."""
