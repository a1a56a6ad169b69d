"""What holds for all tests: nothing of the caller's surroundings, and the same examples every time.

`pytest --hypothesis-profile=explore` looks for examples nobody has thought of; what it finds becomes a plain test.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# What the tests themselves are told by. Everything else that begins with RAY_ would reach the programs they start.
OF_THE_TESTS = ("RAY_LLAMA_SERVER", "RAY_REQUIRE_BACKEND", "RAY_TEST_")
# Proxies between a test and its own server; the sockets of a service manager that has started the tests; languages.
SURROUNDINGS = ("LANGUAGE", "LC_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
PROXIES = ("all_proxy", "http_proxy", "https_proxy")

for name in list(os.environ):
    is_setting_of_ray = name.startswith("RAY_") and not name.startswith(OF_THE_TESTS)
    if is_setting_of_ray or name.startswith(SURROUNDINGS) or name.lower() in PROXIES:
        del os.environ[name]
os.environ["LANG"] = "C.UTF-8"

# A time limit per example, and a complaint about slow ones, would say something of the machine only.
settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")
