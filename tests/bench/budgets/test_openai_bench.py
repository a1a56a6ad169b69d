"""The bench of the chat route: equal questions for both sides, ratios within pairs, and the whole story once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench.budgets.clients import Asked
from ray.bench.budgets.doors import DIRECT, THROUGH_CHAT, Answer, ChatReader
from ray.bench.budgets.openai_bench import chat_question, latency_rows

ROOT = Path(__file__).parents[3]


def asked(ttft: float, latency: float, tokens: int = 10) -> Asked:
    return Asked(0, 0, 0.0, ttft, latency, Answer("text", 20, tokens, 0))


def test_both_sides_get_the_same_body_at_the_same_path() -> None:
    question = chat_question(7)
    assert THROUGH_CHAT.path == DIRECT.path
    assert THROUGH_CHAT.body(question, 64, True) == DIRECT.body(question, 64, True)


def test_two_questions_share_neither_system_text_nor_line() -> None:
    one, other = chat_question(7), chat_question(8)
    assert one.system != other.system
    assert one.line.split()[0] != other.line.split()[0]


def test_ratios_are_taken_within_pairs() -> None:
    pairs = [(asked(0.1, 1.0), asked(0.2, 2.0)), (asked(0.4, 4.0), asked(0.4, 4.0)), (asked(1.0, 1.0), asked(0.5, 0.5))]
    figures = {row.id: row.figure for row in latency_rows(pairs)}
    ttft, rate, added = figures["ttft_ratio"], figures["tokens_ratio"], figures["ttft_added_ms"]
    assert ttft is not None
    assert (ttft.value, ttft.low, ttft.high) == (1.0, 0.5, 2.0)
    assert rate is not None
    assert (rate.value, rate.low, rate.high) == (1.0, 0.5, 2.0)
    assert added is not None
    assert added.value == pytest.approx(0)


def test_what_ray_says_about_an_answer_is_read_from_whichever_event_has_it() -> None:
    reader = ChatReader()
    events: list[dict[str, object]] = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "Hello"}}]},
        {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "ray": {"queueTimeMs": 3, "prefix": {"state": "hot", "tokensReused": 5}},
        },
        {
            "choices": [],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}},
        },
    ]
    brought = [reader.feed(None, json.dumps(event)) for event in events]
    assert not reader.feed(None, "[DONE]")
    assert brought == [False, True, False, False]
    assert reader.answer() == Answer("Hello", 9, 1, 5, "hot", 3.0)


@pytest.mark.integration
def test_a_quick_run_measures_every_row(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.bench.fake_llama_program "$@"\n'
    )
    program.chmod(0o755)
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    options = ["--llama-server", str(program), "--model", str(model)]
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "openai", "--quick", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    rows = {row["id"]: row for row in json.loads(run.stdout)["rows"]}
    for name in ("ttft_ratio", "tokens_ratio", "busy_ratio", "token_cpu_us", "freed_ms"):
        assert rows[name]["samples"] >= 1, name
        assert rows[name]["value"] >= 0, name
