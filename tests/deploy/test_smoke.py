"""`smoke`: the dry render of every public config, and the reference files that follow it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from ray.deploy.reference import DIRECTORY, FILES, MAX_FILE_BYTES, reference_files
from tests.deploy.support import EXAMPLE_NAMES, EXAMPLES, ROOT, run

# Public ones and the two for backends of their own: gateway MemoryMax and swap, backend MemoryMax and swap, in MiB.
LIMITS: Mapping[str, tuple[int, int, int | None, int | None]] = {
    "ray.1b.8gb.generic.public.json": (1152, 128, 5401, 1024),
    "ray.1b.8gb.public.json": (1152, 128, 5401, 1024),
    "ray.1b.generic.public.json": (896, 128, 2380, 595),
    "ray.1b.public.json": (896, 128, 2380, 595),
    "ray.hetzner-cx23-qwen0.6b.public.json": (896, 128, 2380, 595),
    "ray.sub1b.cax11.public.json": (896, 128, 2380, 595),
    "ray.sub1b.public.json": (896, 128, 2380, 595),
    "ray.vps.json": (1152, 128, None, None),
    "ray.balanced.json": (1408, 128, None, None),
}
# None of it may count: neither what would break a config nor what would mend it.
HOSTILE = {"RAY_PORT": "not-a-number", "RAY_API_KEYS": "leaked", "RAY_DEPLOY_MEMORY_MIB": "1"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The examples and the reference files as they are rendered now."""
    shutil.copytree(EXAMPLES, tmp_path / "examples/config")
    (tmp_path / DIRECTORY).mkdir(parents=True)
    for name, text in reference_files(str(tmp_path), "examples/config").items():
        (tmp_path / DIRECTORY / name).write_text(text)
    return tmp_path


def smoke(tree: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    status, text = run("smoke", "--cwd", str(tree), "--json", *arguments, environ=HOSTILE)
    document = json.loads(text)
    assert isinstance(document, dict)
    return status, document


def results(document: Mapping[str, object]) -> list[dict[str, object]]:
    found = document["results"]
    assert isinstance(found, list)
    return found


def static_codes(document: Mapping[str, object]) -> list[str]:
    example = document["staticExample"]
    assert isinstance(example, dict)
    assert example["errorCount"] == len(example["diagnostics"])
    return [finding["code"] for finding in example["diagnostics"]]


def test_given_the_examples_when_rendered_dry_then_none_has_an_error_and_each_gets_its_limits(tree: Path) -> None:
    status, document = smoke(tree)

    limits = ("gatewayMemoryMaxMiB", "gatewayMemorySwapMaxMiB", "llamaCppMemoryMaxMiB", "llamaCppMemorySwapMaxMiB")
    seen = {
        Path(str(result["configPath"])).name: tuple(result.get(name) for name in limits) for result in results(document)
    }
    assert status == 0
    assert seen == LIMITS
    assert (document["ok"], document["configCount"], document["errorCount"]) == (True, len(LIMITS), 0)
    assert all(result["hasLlamaCppService"] is ("llamaCppMemoryMaxMiB" in result) for result in results(document))
    assert static_codes(document) == []


def test_given_no_secrets_when_rendered_dry_then_the_only_warnings_are_about_keys(tree: Path) -> None:
    _, document = smoke(tree)

    warned: list[str] = []
    for result in results(document):
        diagnostics = result["diagnostics"]
        assert isinstance(diagnostics, list)
        warned += [finding["code"] for finding in diagnostics if finding["level"] == "warn"]
    assert sorted(set(warned)) == ["auth_disabled", "auth_keys_unverified"]
    assert (warned.count("auth_disabled"), warned.count("auth_keys_unverified")) == (2, 7)
    assert document["warningCount"] == 9


def test_every_example_that_faces_the_internet_is_rendered() -> None:
    assert {name for name in EXAMPLE_NAMES if name.endswith(".public.json")} <= LIMITS.keys()


def test_given_a_config_that_cannot_be_used_when_rendered_dry_then_it_is_one_error_and_the_others_go_on(
    tree: Path,
) -> None:
    (tree / "examples/config/ray.broken.public.json").write_text('{"profile": "none"}')

    status, document = smoke(tree)

    failed = [result for result in results(document) if result["errorCount"]]
    assert (status, document["errorCount"], document["configCount"]) == (1, 1, len(LIMITS) + 1)
    assert len(failed) == 1
    assert failed[0]["configPath"] == "examples/config/ray.broken.public.json"
    assert "deploy_render_failed" in str(failed[0]["diagnostics"])


def test_given_no_json_when_rendered_dry_then_a_person_reads_a_line_for_each(tree: Path) -> None:
    status, text = run("smoke", "--cwd", str(tree))

    assert status == 0
    assert all(f"examples/config/{name}" in text for name in LIMITS)
    assert "auth_keys_unverified" not in text
    assert text.endswith("9 configs, 0 errors, 9 warnings\n")
    assert "auth_keys_unverified" in run("smoke", "--cwd", str(tree), "--verbose")[1]


@pytest.mark.parametrize("name", FILES)
def test_given_a_reference_file_that_differs_when_compared_then_it_is_named_and_update_mends_it(
    name: str, tree: Path
) -> None:
    path = tree / DIRECTORY / name
    path.write_text(path.read_text() + "# by hand\n")

    status, document = smoke(tree)
    assert (status, static_codes(document)) == (1, [FILES[name][1]])

    status, document = smoke(tree, "--update")
    assert (status, static_codes(document)) == (0, [])


def test_given_windows_line_ends_when_compared_then_they_do_not_count(tree: Path) -> None:
    for name in FILES:
        path = tree / DIRECTORY / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert static_codes(smoke(tree)[1]) == []


@pytest.mark.parametrize("content", [None, b"x" * (MAX_FILE_BYTES + 1), b"\xff"])
def test_given_a_reference_file_that_cannot_be_read_when_compared_then_it_is_invalid(
    content: bytes | None, tree: Path
) -> None:
    path = tree / DIRECTORY / "Caddyfile"
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    assert static_codes(smoke(tree)[1]) == ["static_vps_examples_invalid"]


def test_given_a_default_config_without_a_backend_when_compared_then_its_unit_is_unexpected(tree: Path) -> None:
    shutil.copy(EXAMPLES / "ray.vps.json", tree / "examples/config/ray.sub1b.public.json")

    assert "static_vps_llama_cpp_service_unexpected" in static_codes(smoke(tree)[1])


def test_the_reference_files_of_this_repository_are_what_is_rendered_now() -> None:
    wanted = reference_files(str(ROOT), "examples/config")
    found = {name: (ROOT / DIRECTORY / name).read_text("utf-8") for name in wanted}

    assert found == wanted, "python -m ray.deploy smoke --update"


def test_the_reference_files_name_no_place_of_this_machine() -> None:
    for name, text in reference_files(str(ROOT), "examples/config").items():
        assert str(ROOT) not in text, name


@pytest.mark.parametrize(
    "arguments",
    [("--domain", "a {b}"), ("--user", "a b"), ("--gateway-runtime", "python3"), ("--cwd", ""), ("--config-dir", " x")],
)
def test_given_an_option_that_no_config_could_use_when_run_then_it_is_wrong_usage(
    arguments: tuple[str, ...], tree: Path
) -> None:
    assert run("smoke", "--cwd", str(tree), *arguments)[0] == 2


def test_given_a_directory_outside_when_run_then_it_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("smoke", "--cwd", str(tree / "examples"), "--config-dir", "../deploy")[0] == 1
    assert "inside" in capsys.readouterr().err
