"""Paths that units may name."""

from __future__ import annotations

import pytest

from ray.deploy.paths import HOME_PROTECTED, PRIVATE_TMP, absolute, path_problem, program_problem, under


@pytest.mark.parametrize("path", ["/a", "a", "/with space", "/\u00e4", "/100%/$x/'q'", "/" + "a" * 4095])
def test_paths(path: str) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "path", ["", " /a", "/a\t", "/a\0b", "/a\nb", "/a\rb", "/" + "a" * 4096, "\u00e4" * 2049, "\udce4"]
)
def test_no_paths(path: str) -> None:
    assert path_problem(path) is not None


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("/usr/bin/python3", False),
        ("/homely/python3", False),
        ("/usr/local/../bin/x", False),
        ("/home", True),
        ("/home/x", True),
        ("//home/x", True),
        ("/usr/../root/x", True),
        ("/run/user/0/x", True),
        ("/var/tmp/x", True),
        ("x/y", True),
    ],
)
def test_programs_lie_where_a_service_sees_them(path: str, hidden: bool) -> None:
    assert (program_problem(path, (*HOME_PROTECTED, *PRIVATE_TMP)) is not None) is hidden


def test_paths_are_made_absolute_as_text() -> None:
    assert absolute("a/../b", "/srv/ray") == "/srv/ray/b"
    assert absolute("/etc/ray/ray.json", "/srv/ray") == "/etc/ray/ray.json"
    assert absolute("//etc/./ray", "/srv/ray") == "/etc/ray"
    assert absolute(".", "/srv/ray/") == "/srv/ray"
    assert absolute("/..", "/") == "/"


def test_a_root_is_found_by_whole_names() -> None:
    assert under("/tmp", PRIVATE_TMP) == "/tmp"
    assert under("/tmpfs/x", PRIVATE_TMP) is None
    assert under("/var/tmp/x", PRIVATE_TMP) == "/var/tmp"
