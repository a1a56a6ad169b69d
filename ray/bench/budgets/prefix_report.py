"""What the prefix bench shows: the targets as rows, the passes as a table of their own, everything as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ray.bench.budgets.clients import Asked
from ray.bench.budgets.prefix_bench import COLD, RAM_CACHE_MIB, RESTARTED, STEADY, Measured, Pass, PrefixPlan
from ray.bench.budgets.prefix_sides import Model
from ray.bench.report.figures import quantile, repeated, single
from ray.bench.report.plot import Panel, Series
from ray.bench.report.report import Budget, Report, Row, json_document, number, text_table

PREFIX_KIND = "prefix-bench"

STEADY_TARGET = Budget(3.5, at_least=True)
STEADY_RAM_TARGET = Budget(1.05, at_least=True)
COLD_TARGET = Budget(1.25, at_least=True)
RESTART_TARGET = Budget(1.8, at_least=True)
ALONE_TARGET = Budget(0.97, at_least=True)
OTHER_TEXTS = Budget(0)

_BARE, _RAM, _RAY = "direct_0", f"direct_{RAM_CACHE_MIB}", "ray"
# Which of the plot's colours and markers a side has.
SERIES_PLACES: Mapping[str, int] = {_RAY: 0, _BARE: 1, _RAM: 2}
PASS_TITLES = {COLD: "first pass, nothing warm", STEADY: "second pass", RESTARTED: "after a restart"}
_READ_AND_RESTORED = ("evaluated", "restored")
_COLUMNS = (
    *("side", "pass", "took", "tok/s", "p50", "p95", "first token p50", "p95", "reused"),
    *("read", "wrote", "idle", "gateway CPU", "others"),
)
_COLUMN_NOTE = """\
Times in seconds. reused: prompt tokens the backend did not have to read. read, wrote: the backend's seconds with
prompts and with answers, summed over its slots. idle: share of the slots' time with neither. gateway CPU: seconds of
the gateway's process. others: share of the machine that processes outside the bench used meanwhile; above a few
percent the pass says little."""


def prefix_facts(plan: PrefixPlan, model: Model) -> dict[str, str]:
    """What the run is made of, for the head of the report."""
    environ = " ".join(f"{name}={value}" for name, value in model.environ.items())
    return {
        "model": Path(model.path).name,
        "workload": f"{plan.families} families of {plan.prefix_tokens} tokens, {plan.requests} requests of "
        f"{plan.clients} clients in each pass, answers of at most {plan.answer_tokens} tokens, {plan.slots} slots, "
        f"seed {plan.seed}",
        "environment of llama-server, both sides": environ or "empty",
    }


def rows_of(plan: PrefixPlan, measured: Measured) -> list[Row]:
    """The ratios with their targets, what the store did, and whether the texts are equal."""

    def ratio(row: str, label: str, name: str, against: str, target: Budget | None) -> Row:
        sides = zip(measured.rates(_RAY, name), measured.rates(against, name), strict=True)
        ratios = [through / direct for through, direct in sides]
        return Row(row, label, "x", repeated(ratios), target, more_is_better=True)

    bare, ram = "--cache-ram 0", f"--cache-ram {RAM_CACHE_MIB}"
    return [
        ratio("steady_ratio", f"second pass, to directly with {bare}", STEADY, _BARE, STEADY_TARGET),
        ratio("steady_ram_ratio", f"second pass, to directly with {ram}", STEADY, _RAM, STEADY_RAM_TARGET),
        ratio("cold_ratio", f"first pass, to directly with {bare}", COLD, _BARE, None),
        ratio("cold_ram_ratio", f"first pass, to directly with {ram}", COLD, _RAM, COLD_TARGET),
        ratio("restart_ratio", f"after a restart, to directly with {ram}", RESTARTED, _RAM, RESTART_TARGET),
        Row(
            "alone_ratio",
            f"one family, one client, median of {len(measured.pairs)} pairs",
            "x",
            repeated([pair.ratio for pair in measured.pairs]),
            ALONE_TARGET,
        ),
        *_text_rows(plan, measured),
        *_store_rows(plan, measured),
    ]


def _text_rows(plan: PrefixPlan, measured: Measured) -> list[Row]:
    label = "answers that a restored prefix changed"
    if not plan.store:
        return [Row("other_texts", label, "", None, OTHER_TEXTS, "the store is off")]
    compared = [
        one for one in measured.samples if (one.read.answer.prefix, one.restored.answer.prefix) == _READ_AND_RESTORED
    ]
    whole = sum(one.read.answer.text != one.whole.answer.text for one in measured.samples)
    rows = [
        Row(
            "other_texts_whole",
            "answers that reading the prefix on its own changed",
            "",
            single(whole),
            note=f"of {len(measured.samples)}; other batches round differently, so some differ without any fault",
        )
    ]
    if not compared:
        states = sorted({f"{one.read.answer.prefix}/{one.restored.answer.prefix}" for one in measured.samples})
        note = f"no prefix was restored after the restart: {', '.join(states)}"
        return [Row("other_texts", label, "", None, OTHER_TEXTS, note), *rows]
    changed = sum(one.read.answer.text != one.restored.answer.text for one in compared)
    note = f"of {len(compared)} whose prefix was read before the restart and restored after it"
    return [Row("other_texts", label, "", single(changed), OTHER_TEXTS, note), *rows]


def _store_rows(plan: PrefixPlan, measured: Measured) -> list[Row]:
    """Ray's own metrics of the store in the first round: before and after the restart, as its `/metrics` name them."""
    before_and_after = measured.store[:2]
    names = sorted({name for metrics in before_and_after for name in metrics})
    if not names:
        note = "the store is off" if not plan.store else "the gateway's /metrics show none"
        return [Row("store", "prefix store", "", None, note=note)]
    moments = ("", ", after the restart")
    return [
        Row(f"store.{name}{'.restarted' if moment else ''}", f"prefix store: {name}{moment}", "", single(metrics[name]))
        for moment, metrics in zip(moments, before_and_after, strict=True)
        for name in names
        if name in metrics
    ]


def pass_table(passes: Sequence[Pass], slots: int) -> str:
    """All passes, one line each, ending with a newline."""
    lines = [_COLUMNS, *(_pass_cells(one, slots) for one in passes)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    shown = []
    for line in lines:
        cells = [cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in _numbered(line, widths)]
        shown.append("  ".join(cells).rstrip())
    return "\n".join([*shown, "", _COLUMN_NOTE]) + "\n"


def _numbered(line: Sequence[str], widths: Sequence[int]) -> enumerate[tuple[str, int]]:
    return enumerate(zip(line, widths, strict=True))


def _pass_cells(one: Pass, slots: int) -> tuple[str, ...]:
    latencies = [asked.latency for asked in one.load.asked]
    first = [asked.ttft for asked in one.load.asked]
    return (
        one.side.label,
        one.name if one.round == 0 else f"{one.name} ({one.round + 1})",
        number(one.load.wall_seconds),
        number(one.load.tokens_per_second),
        *(number(quantile(samples, share)) for samples in (latencies, first) for share in (0.5, 0.95)),
        f"{one.reused_share:.0%}",
        number(one.work.prompt_seconds),
        number(one.work.answer_seconds),
        f"{one.idle_share(slots):.0%}",
        number(one.gateway_cpu) if one.side.gateway else "",
        f"{one.foreign:.0%}",
    )


def prefix_text(report: Report, plan: PrefixPlan, measured: Measured) -> str:
    """The report for a terminal."""
    table = text_table(report)
    facts, rows = table.split("\n\n", 1)
    return f"{facts}\n\n{pass_table(measured.passes, plan.slots)}\n{rows}"


def prefix_document(report: Report, plan: PrefixPlan, measured: Measured) -> dict[str, object]:
    """The report as JSON data, with every pass and every request in it; seconds, tokens. No texts."""
    settings = prefix_settings(plan)
    pairs = [
        {"direct": _asked_document(pair.direct), "through": _asked_document(pair.through)} for pair in measured.pairs
    ]
    passes = [_pass_document(one, plan.slots) for one in measured.passes]
    return json_document(replace(report, settings=settings), {"plan": settings, "passes": passes, "pairs": pairs})


def prefix_settings(plan: PrefixPlan) -> dict[str, object]:
    """What was asked for, as the report has it."""
    return {
        "families": plan.families,
        "clients": plan.clients,
        "requests": plan.requests,
        "slots": plan.slots,
        "prefixTokens": plan.prefix_tokens,
        "answerTokens": plan.answer_tokens,
        "rounds": plan.rounds,
        "pairs": plan.pairs,
        "seed": plan.seed,
        "store": plan.store,
    }


def _pass_document(one: Pass, slots: int) -> dict[str, object]:
    load = one.load
    latencies, first = [asked.latency for asked in load.asked], [asked.ttft for asked in load.asked]
    return {
        "side": one.side.id,
        "label": one.side.label,
        "round": one.round + 1,
        "pass": one.name,
        "seconds": load.wall_seconds,
        "tokensPerSecond": load.tokens_per_second,
        "latency": _quantiles(latencies),
        "firstToken": _quantiles(first),
        "promptTokens": load.prompt_tokens,
        "promptTokensRead": one.work.prompt_tokens,
        "reusedShare": one.reused_share,
        "answerTokens": load.completion_tokens,
        "backendPromptSeconds": one.work.prompt_seconds,
        "backendAnswerSeconds": one.work.answer_seconds,
        "slotIdleShare": one.idle_share(slots),
        "backendCpuSeconds": one.backend_cpu,
        "gatewayCpuSeconds": one.gateway_cpu if one.side.gateway else None,
        "foreignShare": one.foreign,
        "requests": [_asked_document(asked) for asked in load.asked],
    }


def _quantiles(samples: Sequence[float]) -> dict[str, float]:
    return {"p50": quantile(samples, 0.5), "p95": quantile(samples, 0.95)}


def _asked_document(asked: Asked) -> dict[str, object]:
    answer = asked.answer
    document: dict[str, object] = {
        "family": asked.family,
        "started": asked.started,
        "firstToken": asked.ttft,
        "latency": asked.latency,
        "promptTokens": answer.prompt_tokens,
        "cachedTokens": answer.cached_tokens,
        "answerTokens": answer.completion_tokens,
    }
    if answer.prefix is not None:
        document["prefix"] = answer.prefix
    if answer.queue_ms is not None:
        document["queueMs"] = answer.queue_ms
    return document


def panels(measured: Measured) -> list[Panel]:
    """Latency by request in the first round: a panel for each pass and a series for each side that has it."""
    shown = []
    for name, title in PASS_TITLES.items():
        series = [
            Series(one.side.label, SERIES_PLACES[one.side.id], [asked.latency for asked in one.load.asked])
            for one in measured.passes
            if (one.round, one.name) == (0, name)
        ]
        if series:
            shown.append(Panel(title, series))
    return shown
