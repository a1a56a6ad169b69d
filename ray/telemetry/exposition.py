"""The two views of the registry, and which one a client wants.

JSON is the default; Prometheus text (exposition format 0.0.4) is for clients that ask for it. OpenMetrics asks are
answered with 0.0.4 as well: scrapers read the `content-type` of the answer, not their own wish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ray.telemetry.metric import Metric
from ray.telemetry.metrics import AnyFamily, Counter, Gauge, Histogram, Labels, Metrics, State

PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Whoever asks for one of these is a scraper and reads the text format too; only Prometheus asks for protobuf.
_SCRAPER_TYPES = (("text", "plain"), ("application", "openmetrics-text"), ("application", "vnd.google.protobuf"))

_NO_GAUGES: Mapping[str, float] = MappingProxyType({})


def metrics_json(
    metrics: Metrics, *, include_recent: bool, extra_gauges: Mapping[str, float] = _NO_GAUGES
) -> dict[str, object]:
    """`{counters, gauges, recent?}`. Counters appear with their first event, gauges once they are known.

    `extra_gauges`: figures that only this answer has; they are shown as given. Runs the collectors.
    """
    metrics.collect()
    counters: dict[str, float] = {}
    gauges: dict[str, float] = {}
    for family in metrics.families:
        row = family.row
        if row.json == "counters":
            count = sum(cell.value for _, cell in _samples(family) if isinstance(cell, Counter))
            if count:
                counters[row.name] = _plain(count)
        elif row.json == "gauges":
            value = _figure(family)
            if value is not None:
                gauges[row.name] = _plain(value if row.decimals is None else round(value, row.decimals))
    gauges.update(extra_gauges)
    view: dict[str, object] = {"counters": counters, "gauges": gauges}
    if include_recent:
        view["recent"] = dict(metrics.recent)
    return view


def _figure(family: AnyFamily) -> float | None:
    if isinstance(family, State):
        return family.figure.value
    return next((cell.value for _, cell in _samples(family) if isinstance(cell, Gauge)), None)


def _samples(family: AnyFamily) -> Iterator[tuple[Labels, Counter | Gauge | Histogram]]:
    if not isinstance(family, State):
        yield from family.samples()


def _plain(value: float) -> float:
    """Whole numbers without a fraction: `3`, not `3.0`."""
    return int(value) if value == int(value) else value


def prometheus_text(metrics: Metrics) -> str:
    """All families in exposition format 0.0.4: `# HELP`, `# TYPE`, samples together, final newline, no timestamps.

    Gauges that are not known are left out. Runs the collectors.
    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    metrics.collect()
    by_name: dict[str, list[AnyFamily]] = {}
    for family in metrics.families:
        if family.row.prometheus is not None:
            by_name.setdefault(family.row.prometheus, []).append(family)
    lines: list[str] = []
    for name, families in by_name.items():
        samples = [line for family in families for line in _family_lines(name, family)]
        if samples:
            row = families[0].row
            lines += (f"# HELP {name} {_escaped_help(row.help)}", f"# TYPE {name} {row.prometheus_type}", *samples)
    lines += (
        "# HELP ray_build_info The running version, as labels of a constant 1.",
        "# TYPE ray_build_info gauge",
        _sample("ray_build_info", tuple(metrics.build.items()), 1),
    )
    return "\n".join(lines) + "\n"


def _family_lines(name: str, family: AnyFamily) -> Iterator[str]:
    if isinstance(family, State):
        if family.current is not None:
            for state in family.states:
                yield _sample(name, ((family.label, state),), int(state == family.current))
        return
    for labels, cell in family.samples():
        if isinstance(cell, Histogram):
            yield from _histogram_lines(name, labels, cell)
        elif cell.value is not None:
            yield _sample(name, labels, _in_base_unit(cell.value, family.row))


def _histogram_lines(name: str, labels: Labels, cell: Histogram) -> Iterator[str]:
    below = 0
    for bound, count in zip(cell.bounds, cell.counts, strict=False):
        below += count
        yield _sample(f"{name}_bucket", (*labels, ("le", _number(bound))), below)
    below += cell.counts[-1]
    yield _sample(f"{name}_bucket", (*labels, ("le", "+Inf")), below)
    yield _sample(f"{name}_sum", labels, cell.sum)
    yield _sample(f"{name}_count", labels, below)


def _in_base_unit(value: float, row: Metric) -> float:
    return value if row.divisor == 1 else value / row.divisor


def _sample(name: str, labels: Labels, value: float) -> str:
    if not labels:
        return f"{name} {_number(value)}"
    inside = ",".join(f'{label}="{_escaped_label(text)}"' for label, text in labels)
    return f"{name}{{{inside}}} {_number(value)}"


def _number(value: float) -> str:
    return repr(_plain(value))


def _escaped_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def wants_prometheus(accept: str | None, query: str) -> bool:
    """Whether `GET /metrics` is to be answered in Prometheus text.

    `format=prometheus` or `format=json` in the query decides. Otherwise the `Accept` header does: text when
    `text/plain` or `application/openmetrics-text` is wanted more than JSON (RFC 9110 section 12.5.1), JSON on a tie
    and without a header.
    """
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == "format" and value.lower() in ("prometheus", "json"):
            return value.lower() == "prometheus"
    if not accept:
        return False
    ranges = _media_ranges(accept)
    text = max(_quality(ranges, kind, subtype) for kind, subtype in _SCRAPER_TYPES)
    return text > _quality(ranges, "application", "json")


def _media_ranges(accept: str) -> list[tuple[str, str, float]]:
    """(type, subtype, quality) of every well-formed range; parameters other than `q` are not looked at."""
    ranges: list[tuple[str, str, float]] = []
    for element in accept.lower().split(","):
        media, *parameters = element.split(";")
        kind, slash, subtype = media.strip().partition("/")
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _qvalue(value.strip())
        if slash and kind and subtype:
            ranges.append((kind, subtype, quality))
    return ranges


def _qvalue(text: str) -> float:
    """RFC 9110 section 12.4.2: 0 to 1 with at most three decimals. What is malformed is not wanted."""
    whole, dot, decimals = text.partition(".")
    if whole not in ("0", "1") or len(decimals) > 3 or (decimals and not (decimals.isascii() and decimals.isdigit())):
        return 0.0
    return min(1.0, float(f"{whole}{dot}{decimals}"))


def _quality(ranges: list[tuple[str, str, float]], kind: str, subtype: str) -> float:
    """The quality of the most specific ranges that cover this media type, 0 when none does.

    Several ranges that differ in their parameters only (`text/plain` in two versions) count as their best.
    """
    for wanted in ((kind, subtype), (kind, "*"), ("*", "*")):
        found = [quality for range_kind, range_subtype, quality in ranges if (range_kind, range_subtype) == wanted]
        if found:
            return max(found)
    return 0.0
