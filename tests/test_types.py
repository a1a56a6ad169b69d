"""The nouns' own arithmetic. What they look like as JSON is tested where they are answered."""

from __future__ import annotations

import pytest

from ray.types import MIB, ceil_mib


@pytest.mark.parametrize(("size_bytes", "mib"), [(0, 0), (1, 1), (MIB, 1), (MIB + 1, 2)])
def test_bytes_are_rounded_up_to_whole_mib(size_bytes: int, mib: int) -> None:
    assert ceil_mib(size_bytes) == mib
