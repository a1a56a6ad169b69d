"""Whether a test can have machines within this one: namespaces, which take root and the programs that make them.

Without root such a test is skipped, and says so. Where nothing may be skipped (`RAY_REQUIRE_BACKEND=1`, as continuous
integration has it), root has to have all that it needs.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

CAP_SYS_ADMIN = 21  # linux/capability.h


def missing(reason: str) -> NoReturn:
    """Something that root could have is not there."""
    if os.environ.get("RAY_REQUIRE_BACKEND") == "1":
        pytest.fail(f"RAY_REQUIRE_BACKEND=1, and {reason}", pytrace=False)
    pytest.skip(reason)


def need_machines(tools: Iterable[str], path: str | None = None) -> None:
    """Skip or fail the test where there can be no machine within this one. `tools`: what it runs, found on `path`."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a machine within the machine")
    if not _may_make_namespaces():
        pytest.skip("this root may not make namespaces: CAP_SYS_ADMIN is missing")
    lacking = [tool for tool in tools if shutil.which(tool, path=path) is None]
    if lacking:
        missing(f"needs {', '.join(lacking)}")


def _may_make_namespaces() -> bool:
    """Root in a container often may not (capabilities(7))."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> CAP_SYS_ADMIN & 1)
