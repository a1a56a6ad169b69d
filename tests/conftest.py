"""What holds for all tests: the same examples every time, however busy the machine is.

`pytest --hypothesis-profile=explore` looks for examples nobody has thought of; what it finds becomes a plain test.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A time limit per example, and a complaint about slow ones, would say something of the machine only.
settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")
