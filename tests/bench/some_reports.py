"""Documents of every kind of report, made by the code that makes the real ones."""

from __future__ import annotations

from random import Random

from ray.bench.budgets.prefix_bench import PASSES, Measured, Pair, PrefixPlan
from ray.bench.budgets.prefix_report import PREFIX_KIND, prefix_document, rows_of
from ray.bench.budgets.prefix_sides import direct_side, ray_side
from ray.bench.eval.report import eval_document
from ray.bench.formats.report import FALLBACK, SCAFFOLD, sweep_document
from ray.bench.peers.command import Peers, peers_document
from ray.bench.reading.compare_runs import compare_runs
from ray.bench.report.figures import Figure, single
from ray.bench.report.report import Budget, Report, Row, json_document
from ray.bench.tune.report import findings_document
from tests.bench.eval.test_report import some_report
from tests.bench.formats.test_report import HIGH, LOW, result, sweep
from tests.bench.passes import some_asked, some_pass
from tests.bench.some_runs import some_run
from tests.bench.tune.test_report import box, found_by

Document = dict[str, object]


def rows_report(kind: str = "gateway-bench") -> Document:
    """A row of every sort: kept, missed, without a budget, with a spread below 0, not measured, and a budget of 0."""
    rows = [
        Row("start", "cold start", "ms", Figure(181.2, 170.0, 260.0, 9), Budget(250)),
        Row("rss", "resident memory", "MB", single(31.4), Budget(30)),
        Row("ratio", "tokens per second, to directly", "x", None, Budget(0.97, at_least=True), "needs a real model"),
        Row("p50", "p50 <of all>", "ms", Figure(0.1, 0.09, 0.12, 5)),
        Row("p99", "p99", "ms", Figure(0.15, 0.14, 0.16, 5)),
        Row("added", "added", "ms", Figure(9.0, -3.0, 80.0, 16)),
        Row("other", "other texts", "", single(0.0), Budget(0)),
        Row("share", "share", "%", single(40.0), more_is_better=True),
    ]
    return json_document(Report(kind, rows, {"processor": "2 x Test"}, "a bench", {"quick": False, "connections": 8}))


def prefix_report() -> Document:
    plan = PrefixPlan(rounds=2)
    passes = [
        some_pass(side, name, 10.0, turn)
        for turn in (0, 1)
        for side, names in ((direct_side(0), PASSES[:2]), (direct_side(512), PASSES), (ray_side(True), PASSES))
        for name in names
    ]
    measured = Measured(passes, [Pair(some_asked(1.0), some_asked(1.1))], [], [])
    return prefix_document(Report(PREFIX_KIND, rows_of(plan, measured), {}, "prefix"), plan, measured)


def run_report() -> Document:
    return some_run([100.0 + number % 7 for number in range(80)]).to_document()


def peers_report() -> Document:
    random = Random(3)
    peer, ray = (
        some_run([base * random.lognormvariate(0, 0.1) for _ in range(80)], label=label)
        for base, label in ((200.0, "peer"), (100.0, "ray"))
    )
    return peers_document(Peers(compare_runs(peer, ray), None))


def autotune_report() -> Document:
    return findings_document(found_by(box(), rival="b"), "tuned", {"Ray": "0"})


def formats_report() -> Document:
    return sweep_document(sweep([result(SCAFFOLD, LOW), result(FALLBACK, HIGH)], SCAFFOLD))


def all_reports() -> list[Document]:
    rows = [rows_report(kind) for kind in ("gateway-bench", "jobs-bench", "openai-bench")]
    runs = [run_report(), peers_report(), eval_document(some_report()), formats_report()]
    return [*rows, prefix_report(), *runs, autotune_report()]
