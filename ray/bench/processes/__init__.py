"""Servers under measurement, as real processes, and the small load generator that asks them."""
