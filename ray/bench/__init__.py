"""The bench room: measures Ray from outside, as real processes, and holds the numbers against the plan's budgets.

`python -m ray.bench gateway` is the way in; there is nothing here to import.
"""
