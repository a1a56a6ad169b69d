"""Log lines: their shape, what they refuse to print, and that they never raise."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.telemetry import Logger, error_fields

REPOSITORY = Path(__file__).resolve().parents[2]


class Written:
    """A logger with the two streams it writes to."""

    def __init__(self, level: str = "debug") -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.logger = Logger("ray-gateway", level, self.stdout, self.stderr)

    def write(self, fields: Mapping[str, object]) -> dict[str, object]:
        """What one line with these fields holds."""
        self.logger.info("message", event="event", request_id=None, **fields)
        (text,) = self.stdout.getvalue().splitlines()
        document = json.loads(text)
        assert isinstance(document, dict)
        return document


def line(**fields: object) -> dict[str, object]:
    return Written().write(fields)


# Shape


def test_a_line_is_one_compact_json_object_with_the_core_fields_first() -> None:
    written = Written()
    written.logger.info("gateway listening", event="gateway_listening", request_id="req_1", port=3000, host="::1")
    text = written.stdout.getvalue()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert ": " not in text.replace("gateway listening", "")
    document = json.loads(text)
    assert list(document) == ["ts", "service", "level", "message", "event", "requestId", "port", "host"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["ts"])
    assert [document[name] for name in ("service", "level", "message", "event", "requestId", "port")] == [
        "ray-gateway",
        "info",
        "gateway listening",
        "gateway_listening",
        "req_1",
        3000,
    ]


def test_without_a_request_there_is_no_request_id() -> None:
    assert "requestId" not in line()


def test_errors_go_to_stderr_and_the_rest_to_stdout() -> None:
    written = Written()
    for level in ("debug", "info", "warn", "error"):
        getattr(written.logger, level)(level, event=level)
    levels = [json.loads(text)["level"] for text in written.stdout.getvalue().splitlines()]
    assert levels == ["debug", "info", "warn"]
    assert json.loads(written.stderr.getvalue())["level"] == "error"


@pytest.mark.parametrize(
    ("level", "passed"),
    [
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_not_written(level: str, passed: list[str]) -> None:
    written = Written(level)
    for name in ("debug", "info", "warn", "error"):
        getattr(written.logger, name)(name, event=name)
        assert written.logger.enabled(name) is (name in passed)
    lines = (written.stdout.getvalue() + written.stderr.getvalue()).splitlines()
    assert [json.loads(text)["level"] for text in lines] == passed


def test_a_line_below_the_level_does_not_look_at_its_fields() -> None:
    class Untouchable(Mapping[str, object]):
        def __getitem__(self, key: str) -> object:
            raise AssertionError

        def __iter__(self) -> Iterator[str]:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

    written = Written("info")
    written.logger.debug("quiet", event="quiet", field=Untouchable())
    assert written.stdout.getvalue() == ""


def test_an_unknown_level_is_refused_at_once() -> None:
    with pytest.raises(KeyError):
        Logger("ray-gateway", "verbose")


@pytest.mark.parametrize("name", ["ts", "service", "level", "message", "requestId"])
def test_a_field_cannot_pass_for_a_core_field(name: str) -> None:
    written = Written()
    written.logger.info("real", event="real", request_id="req_1", **{name: "spoofed"})
    document = json.loads(written.stdout.getvalue())
    assert document[f"field.{name}"] == "spoofed"
    assert document[name] != "spoofed"


@pytest.mark.parametrize("name", ["__proto__", "constructor", "self", "a b", "a\nb", ""])
def test_any_other_name_is_an_ordinary_field(name: str) -> None:
    assert line(**{name: 1})[name] == 1


def test_text_in_any_script_is_written_as_it_is() -> None:
    written = Written()
    written.logger.info("grüße 😀", event="e", field="日本")
    assert "grüße 😀" in written.stdout.getvalue()
    assert "日本" in written.stdout.getvalue()


def test_line_breaks_in_values_do_not_break_the_line() -> None:
    assert line(field="a\nb\r\x00c")["field"] == "a\nb\r\x00c"


# Caps


def test_64_fields_are_kept_whole() -> None:
    document = line(**{f"f{index}": index for index in range(64)})
    assert sum(name.startswith("f") for name in document) == 64
    assert not any(name.startswith("__") for name in document)


def test_of_70_fields_six_are_dropped_and_said_to_be() -> None:
    document = line(**{f"f{index}": index for index in range(70)})
    assert sum(name.startswith("f") for name in document) == 64
    assert document["__truncatedFields"] == 6


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x" * 8_192, "x" * 8_192),
        ("x" * 8_193, "x" * 8_192 + "...[truncated 1 chars]"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (b"abc", "[bytes 3 bytes]"),
        ("\ud800", "?"),
        (None, None),
        (True, True),
        ((1, 2), [1, 2]),
        (ValueError("bad"), {"name": "ValueError", "message": "bad"}),
        (list(range(65)), [*range(64), "[Truncated 1 items]"]),
        ({"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, {"a": {"b": {"c": {"d": {"e": "[Truncated]"}}}}}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_are_bounded(value: object, expected: object) -> None:
    assert line(field=value)["field"] == expected


def test_a_field_name_beyond_128_characters_is_cut() -> None:
    (name,) = (name for name in line(**{"k" * 141: 1}) if name.startswith("k"))
    assert len(name) == 128
    assert name == "k" * 105 + "...[truncated 36 chars]"


def test_a_cycle_is_named_and_a_repeated_sibling_is_printed() -> None:
    cycle: dict[str, object] = {}
    cycle["again"] = cycle
    twin = {"a": 1}
    document = line(cycle=cycle, twins=[twin, twin])
    assert document["cycle"] == {"again": "[Circular]"}
    assert document["twins"] == [{"a": 1}, {"a": 1}]


class BrokenText:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenMapping(dict[str, object]):
    def items(self) -> object:  # type: ignore[override]
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(BrokenText(), "[Thrown: RuntimeError]"), (BrokenMapping(), "[Unreadable: RuntimeError]")],
)
def test_a_hostile_value_costs_itself_and_not_the_line(value: object, expected: str) -> None:
    document = line(hostile=value, other=1)
    assert document["hostile"] == expected
    assert document["other"] == 1


# Redaction


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "proxy-authorization",
        "cookie",
        "Set-Cookie",
        "apiKey",
        "api_key",
        "API-KEY",
        "x-api-key",
        "token",
        "access_token",
        "refreshToken",
        "secret",
        "clientSecret",
        "password",
    ],
)
def test_a_secret_is_never_printed_under_its_name(name: str) -> None:
    secret = "sk-live-1"
    written = Written()
    written.logger.info("m", event="e", **{name: secret}, inner={name: [secret]}, headers=[(name, secret)])
    assert secret not in written.stdout.getvalue()
    document = json.loads(written.stdout.getvalue())
    assert document[name] == "[redacted]"
    assert document["inner"] == {name: "[redacted]"}
    assert document["headers"] == [[name, "[redacted]"]]


@pytest.mark.parametrize("name", ["prompt", "input", "system", "output", "messages", "content", "Prompt"])
@pytest.mark.parametrize("shape", ["text", "list", "nested"])
def test_what_users_write_and_models_answer_is_never_printed(name: str, shape: str) -> None:
    words = "dear diary"
    value: object = {"text": words, "list": [{"role": "user", "text": words}], "nested": {"a": {"b": words}}}[shape]
    written = Written()
    written.write({name: value, "details": {"request": {name: value}}})
    assert words not in written.stdout.getvalue()
    assert "[redacted]" in written.stdout.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("promptTokens", 12),
        ("maxTokens", 96),
        ("queuedTokens", 4_000),
        ("tokens", 5),
        ("tokens_cached", 0),
        ("apiKeyEnv", "RAY_API_KEYS"),
        ("tokenizer", "bpe"),
        ("promptChars", 3),
        ("outputBytes", 3),
        ("inputs", "x"),
        ("systemd", "yes"),
        ("secretary", "x"),
        ("prompt", 12),
        ("usage", {"tokens": {"prompt": 3, "completion": 4, "total": 7}}),
        ("system", {"cpus": 2, "memory": None}),
        ("authorization", None),
        ("pair", ["prompt", "tokens"]),
    ],
)
def test_names_that_only_resemble_a_secret_and_counts_are_printed(name: str, value: object) -> None:
    assert line(**{name: value})[name] == value


def test_the_details_of_an_error_are_redacted_too() -> None:
    error = RayError("provider_upstream_error", "upstream said 400", details={"body": {"prompt": "dear diary"}})
    written = Written()
    written.logger.warn("m", event="e", error=error_fields(error, stack=False))
    assert "dear diary" not in written.stdout.getvalue()


# Errors


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_expected_error_has_code_status_and_details_and_no_stack() -> None:
    error = RayError("provider_timeout", "too slow", details={"timeoutMs": 500})
    assert line(error=error_fields(error, stack=False))["error"] == {
        "code": "provider_timeout",
        "status": 504,
        "message": "too slow",
        "name": "RayError",
        "details": {"timeoutMs": 500},
    }


def test_an_unexpected_error_is_the_gateways_and_has_its_stack_in_the_line() -> None:
    document = line(error=error_fields(raised(ValueError("broken")), stack=True))["error"]
    assert isinstance(document, dict)
    assert (document["code"], document["status"]) == ("gateway_error", 500)
    assert (document["name"], document["message"]) == ("ValueError", "broken")
    assert "in raised" in document["stack"]
    assert document["stack"].endswith("ValueError: broken\n")


def test_a_stack_does_not_show_local_values() -> None:
    def handle(prompt: str) -> None:
        raise ValueError("cannot handle this")

    with pytest.raises(ValueError, match="cannot") as caught:
        handle("dear " + "diary")
    assert "dear diary" not in str(error_fields(caught.value, stack=True))


def test_a_long_stack_keeps_its_end_and_fits_the_line() -> None:
    error: Exception = ValueError("the last word")
    for number in range(200):
        error = raised_from(number, error)
    stack = error_fields(error, stack=True)["stack"]
    assert isinstance(stack, str)
    assert len(stack) <= 8_192
    assert stack.startswith("[truncated ")
    assert stack.endswith("KeyError: 199\n")
    document = line(error={"stack": stack})["error"]
    assert document == {"stack": stack}


def raised_from(number: int, cause: Exception) -> Exception:
    try:
        raise KeyError(number) from cause
    except KeyError as caught:
        return caught


def test_a_megabyte_of_message_does_not_push_out_the_frames() -> None:
    fields = error_fields(raised(ValueError("x" * 1_000_000)), stack=True)
    assert "in raised" in str(fields["stack"])
    assert str(fields["message"]) == "x" * 8_192 + "...[truncated 991808 chars]"


def test_an_error_without_a_message_still_says_something() -> None:
    assert error_fields(ValueError(), stack=False)["message"] == "Unknown error"


def test_an_error_that_cannot_be_printed_is_still_logged() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    fields = error_fields(raised(Unprintable()), stack=True)
    assert fields["message"] == "[Thrown: RuntimeError]"
    assert "Unprintable" in str(fields["stack"])


# Streams that fail


class FailingStream(io.StringIO):
    """Fails as told, `times` times, then works."""

    def __init__(self, failure: Exception, times: int) -> None:
        super().__init__()
        self._failure = failure
        self.times = times
        self.attempts = 0

    def write(self, text: str) -> int:
        self.attempts += 1
        if self.attempts <= self.times:
            raise self._failure
        return super().write(text)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), BlockingIOError(), ValueError("closed")])
def test_a_stream_that_fails_costs_its_line_and_is_tried_again(failure: Exception) -> None:
    stream = FailingStream(failure, times=1)
    logger = Logger("ray-gateway", "info", stream, stream)
    logger.info("lost", event="e")
    logger.error("written", event="e")
    assert json.loads(stream.getvalue())["message"] == "written"


def test_a_broken_pipe_is_not_written_to_again_and_stderr_stays() -> None:
    broken, stderr = FailingStream(BrokenPipeError(), times=99), io.StringIO()
    logger = Logger("ray-gateway", "info", broken, stderr)
    logger.info("lost", event="e")
    logger.info("not tried", event="e")
    logger.error("written", event="e")
    assert broken.attempts == 1
    assert json.loads(stderr.getvalue())["message"] == "written"


def test_a_closed_stream_is_tolerated() -> None:
    stream = io.StringIO()
    logger = Logger("ray-gateway", "info", stream, stream)
    stream.close()
    logger.info("lost", event="e")
    logger.error("lost", event="e")


def test_a_stream_of_a_narrow_encoding_gets_the_escaped_form() -> None:
    raw = io.BytesIO()
    logger = Logger("ray-gateway", "info", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    logger.info("grüße 😀", event="e")
    assert json.loads(raw.getvalue())["message"] == "grüße 😀"


def test_a_process_whose_reader_has_gone_still_ends_with_its_own_status() -> None:
    # Given a reader of stdout that is gone, what the interpreter flushes on exit must not turn status 0 into 120.
    # (-E: with PYTHONUNBUFFERED there would be nothing left to flush.)
    program = (
        "from ray.telemetry import Logger\n"
        "logger = Logger('ray-gateway', 'info')\n"
        "for number in range(100): logger.info('x' * 1000, event='e')\n"
        "logger.error('end', event='e')\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-E", "-c", program], stdout=writer, stderr=subprocess.PIPE, cwd=REPOSITORY, check=False
        )
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert json.loads(done.stderr)["message"] == "end"


def test_a_process_whose_disk_is_full_still_ends_with_its_own_status() -> None:
    # Given a full disk, what is left in the buffers must not turn status 0 into 120 when the interpreter ends.
    program = (
        "from ray.telemetry import Logger\n"
        "logger = Logger('ray-gateway', 'info')\n"
        "for number in range(100): logger.info('x' * 1000, event='e')\n"
        "logger.error('end', event='e')\n"
        "logger.close()\n"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-E", "-c", program], stdout=full, stderr=subprocess.PIPE, cwd=REPOSITORY, check=False
        )
    assert done.returncode == 0
    assert json.loads(done.stderr)["message"] == "end"


def test_closing_keeps_what_was_written_and_tolerates_closed_streams() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    logger = Logger("ray-gateway", "info", stdout, stderr)
    logger.info("written", event="e")
    stderr.close()
    logger.close()
    logger.close()
    assert json.loads(stdout.getvalue())["message"] == "written"
