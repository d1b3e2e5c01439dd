"""docs/benchmarks.md: the tables between its markers, from bench.json alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
Json = Any
_OURS = {"ordinary": "ordinary views, plug-in", "tiled": "tiled views, plug-in", "client": "FeatureClient"}
GROWTH = ("entities", "windows", "views", "partitions", "workers")


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace what is between the page's markers, or make a page of them alone. RuntimeError if they are not there."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise RuntimeError(f"{path} lacks the markers {BEGIN} and {END}")
    tables = f"{BEGIN}\n\n{render(document)}\n\n{END}"
    path.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: tables, text, flags=re.DOTALL))


def render(document: Mapping[str, Any]) -> str:
    """The machine, and each section that was measured."""
    parts = [_machine(document["machine"])]
    for name, part in PARTS.items():
        section = document["sections"].get(name)
        if section is not None:
            parts.append(f"## {TITLES[name]}\n\n{part(section)}\n\n*Measured {section['at']} at {section['commit']}.*")
    return "\n\n".join(parts)


def _machine(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"**Machine**: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['system']}; "
        f"headrace {machine['headrace']}, Python {machine['python']}, Apache Kafka {machine['kafka']}, {packages}.\n"
        "Broker, Valkey and the measuring process run on the same cores as what is measured."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rate(value: float) -> str:
    return f"{value:,.0f}"


def _runs(found: Json) -> str:
    return " · ".join(_rate(run["events_per_s"]) for run in found["runs"])


def _ingest(section: Json) -> str:
    loads = [name for name in ("uniform", "zipf") if name in section]
    head = ("workload", "what", "events/s", "all runs", "seconds", "until folded", "CPU s: worker", "broker", "Valkey")
    rows = [
        (f"{name}, {section[name]['events']:,}", what, *_of_runs(section[name][what]))
        for name in loads
        for what in ("decode", "ingest")
    ]
    ratios = _table(
        ("workload", "ratio to decode", "events per CPU second of the worker"),
        [(name, section[name]["ratio_to_decode"], section[name]["events_per_cpu_s"]) for name in loads],
    )
    return (
        f"{_table(head, rows)}\n\nThe rate is the median; seconds and CPU seconds are those of the median run.\n\n"
        f"{ratios}\n\nThe totals of every run were exact in Valkey and in the log."
    )


def _of_runs(found: Json) -> tuple[Any, ...]:
    """The cells of one kind of run."""
    middle = sorted(found["runs"], key=lambda run: run["events_per_s"])[len(found["runs"]) // 2]
    cpu = [middle["cpu"][of] for of in ("worker", "broker", "redis")]
    return _rate(found["events_per_s"]), _runs(found), middle["seconds"], middle["folded_s"] or "", *cpu


def _freshness(section: Json) -> str:
    rows = [(what, *(section[key][name] for name in ("p50_ms", "p99_ms", "max_ms")))
            for what, key in (("event → visible in a look-up", "visible"), ("one look-up", "look_up"))]  # fmt: skip
    return (
        f"{_table(('ms', 'p50', 'p99', 'max'), rows)}\n\n{section['probes']:,} probes in {section['seconds']} s at "
        f"{section['events_per_s']:,} events/s; the worker used {section['worker_cpu_share']:.0%} of a core."
    )


def _backfill(section: Json) -> str:
    head = ("events", "events per CPU second of the worker", "events/s", "all runs (events/s)")
    row = (section["events"], section["events_per_cpu_s"], section["events_per_s"], _runs(section))
    return _table(head, [row])


def _history(section: Json) -> str:
    head = ("form", "rows per CPU second", "ratio to the floor")
    rows = [(form, each["rows_per_cpu_s"], each["ratio"]) for form, each in section["forms"].items()]
    floor = f"floor: {section['floor_per_cpu_s']:,} rows per CPU second"
    return f"{_table(head, rows)}\n\n{section['events']:,} payments of a year, in no order; {floor}."


def _bytes(section: Json) -> str:
    what = "bytes_per_entity_window"
    head = ("bytes per entity and window", "measured", "ratio to the dense minimum")
    rows = [
        ("dense minimum of the non-empty tiles", section[f"dense_{what}"], 1),
        ("fields, as stored", section[f"field_{what}"], section["field_ratio"]),
        ("memory of Valkey, with keys and tables", section[f"memory_{what}"], section["memory_ratio"]),
    ]
    return (
        f"{_table(head, rows)}\n\n{section['entities']:,} entities, {section['windows']} windows, "
        f"{section['tiles']:,} non-empty tiles."
    )


def _growth(section: Json) -> str:
    parts = [f"{section['events']:,} events a point; of workers {section['long_events']:,}."]
    for name in GROWTH:
        points = section[name]
        table = _table((name, *(f"{int(count):,}" for count in points)), [("events/s", *points.values())])
        parts.append(f"{table}\n\n![events a second by number of {name}](benchmarks/growth-{name}.png)")
    return "\n\n".join(parts)


def _memory(section: Json) -> str:
    rows = [
        (
            f"{run['bound_mib']:,} MiB",
            f"{run['peak_mib']:,} MiB" if run["peak_mib"] else "-",
            _rate(run["events_per_s"]),
        )
        for run in section["runs"]
    ]
    table = _table(("`--memory`", "the process at most", "events/s"), rows)
    return f"{section['events']:,} events of {section['users']:,} users.\n\n{table}"


def _training(section: Json) -> str:
    took = section["seconds"]
    head = ("training set", "seconds", "to mere reading")
    names = {"read": "the log's columns, merely read", "headrace": "headrace", "feast": "Feast, default store"}
    rows = [(names[name], f"{took[name]:.2f}", f"{took[name] / took['read']:.1f}") for name in names]
    size = f"{section['rows']:,} rows, {section['events']:,} events, {section['features']} features"
    parts = [
        f"{size}; at most {section['peak_gb']} GB in memory. Feast joins values that are ready made.",
        _table(head, rows),
        f"Feast's time to ours: **{section['ratio_to_feast']}**.",
    ]
    if section.get("large"):
        more = section["large"]
        parts.append(
            f"{more['rows']:,} rows of {more['events']:,} events, from file to file: {more['seconds']:.1f} s, "
            f"at most {more['peak_gb']} GB in memory."
        )
    for name, points in section["growth"].items():
        slug = name.replace(" ", "-")
        table = _table((name, *(f"{int(count):,}" for count in points)), [("rows/s", *points.values())])
        parts.append(f"{table}\n\n![rows a second by number of {name}](benchmarks/training-{slug}.png)")
    return "\n\n".join(parts)


def _peers(section: Json) -> str:
    head = ("engine", "garbage collection", "results", "events/s (median)", "counted")
    rows: list[tuple[Any, ...]] = [
        ("headrace", "as it is", "Valkey and Delta, exactly once", _rate(section["headrace"]["events_per_s"]), 1)
    ]
    for name, peer in section["peers"].items():
        if "missing" in peer:
            rows.append((name, peer["missing"], "", "", ""))
            continue
        for run in peer["runs"]:
            where = "Valkey" if run["redis"] else "dropped"
            rate = run.get("error", _rate(run["events_per_s"]))
            rows.append(
                (f"{name} {peer['version']}", "on" if run["gc"] else "off", where, rate, run.get("counted", ""))
            )
    ratio = section["ratio_to_best_with_redis"]
    best = "" if ratio is None else f"\n\nheadrace against the best peer with results in Valkey: **{ratio}**."
    return f"{section['events']:,} events.\n\n{_table(head, rows)}{best}"


def _lookups(section: Json) -> str:
    head = ("rows x views", "raw read", "look-up", "and all it says read off", "look-up to raw read", "each repeat")
    rows = [
        (
            name.replace("x", " x "),
            *(found[f"{kind}_p50_ms"] for kind in ("raw", "look_up", "told")),
            found["ratio"],
            " · ".join(map(str, found["ratios"])),
        )
        for name, found in section["shapes"].items()
    ]
    return (
        f"{_table(head, rows)}\n\nMedian ms of {section['rounds']} of each kind in turn; "
        f"{section['columns']} features, {section['bytes']:,} bytes of cursors and fields a row."
    )


def _feast(section: Json) -> str:
    head = (
        "views x rows",
        "Feast's Redis store",
        *(f"{what}{of}" for what in _OURS.values() for of in ("", ": ratio")),
    )
    rows = [
        (
            name.replace("x", " x "),
            found["feast"]["p50_ms"],
            *(cell for kind in _OURS for cell in (found[kind]["p50_ms"], found[f"{kind}_ratio"])),
        )
        for name, found in section["shapes"].items()
    ]
    return (
        f"{_table(head, rows)}\n\nMedian ms of {section['rounds']:,} of each kind, {section['features']} features a "
        "view; ratios to Feast's own store."
    )


def _http(section: Json) -> str:
    head = ("views x rows", "Feast, answers per CPU second", "headrace", "ratio")
    rows = [
        (name.replace("x", " x "), _rate(found["feast"]), _rate(found["headrace"]), found["ratio"])
        for name, found in section["shapes"].items()
    ]
    return (
        f"{_table(head, rows)}\n\nMedians of runs of {section['seconds']:.0f} s over {section['connections']} "
        f"connections; CPU seconds are those of the server's processes."
    )


def _models(section: Json) -> str:
    head = ("models", "rows a model", "first tick s", "tick s", "RSS MiB", "decisions a day", "bytes a day", "start s")
    names = ("models", "rows_a_model", "first_tick_s", "tick_s", "rss_mib", "decisions_a_day", "decision_bytes_a_day")
    table = _table(head, [[*(section[name] for name in names), section["start_s"]]])
    year = "one an hour for each model in a year"
    return f"{table}\n\nThe start reads the end of {section['decisions']:,} decisions, {year}, and a run a week."


def _swap(section: Json) -> str:
    head = ("seconds", "p50", "p95", "share")
    whole = ("request → live in the application, without the fits", section["p50_s"], section["p95_s"], "")
    names = {"training_set": "training set", "application": "application: fetch, verify, load, swap"}
    parts = [
        (names.get(name, name), part["p50_s"], part["p95_s"], f"{part['share']:.0%}")
        for name, part in section["parts"].items()
    ]
    return (
        f"{_table(head, [whole, *parts])}\n\n{section['runs']} runs on {section['rows']:,} requests; the two fits of a "
        f"run take {section['fits_p50_s']} s more (median). From a person's message to the request: "
        f"{section['message_to_request_p50_s']} s."
    )


def _formats(section: Json) -> str:
    head = ("format", "records/s", "its own decoder", "ratio")
    rows = [
        (name, each["records_per_s"], each["own_per_s"], each["ratio"]) for name, each in section["formats"].items()
    ]
    return f"{_table(head, rows)}\n\nMedians of runs in turn, on {section['events']:,} payments."


def _aggregates(section: Json) -> str:
    head = ("aggregate", "a row", "ns", "a look-up", "µs", "bytes an entity")
    names = ("row_ratio", "row_ns", "look_up_ratio", "look_up_us", "bytes")
    rows = [(name, *(each[part] for part in names)) for name, each in section["aggregates"].items()]
    return (
        f"{_table(head, rows)}\n\nRatios are to `Count()`, measured beside each; ns and µs are CPU time. "
        f"Each alone, in one window of 1h with 60 tiles: {section['events']:,} events of "
        f"{section['entities']} entities."
    )


PARTS: dict[str, Callable[[Json], str]] = {
    "ingest": _ingest,
    "freshness": _freshness,
    "backfill": _backfill,
    "history": _history,
    "bytes": _bytes,
    "formats": _formats,
    "aggregates": _aggregates,
    "growth": _growth,
    "memory": _memory,
    "lookups": _lookups,
    "feast": _feast,
    "http": _http,
    "training": _training,
    "models": _models,
    "swap": _swap,
    "peers": _peers,
}
TITLES = {
    "ingest": "Ingest: Kafka to Valkey and Delta",
    "freshness": "Freshness",
    "backfill": "Backfill",
    "history": "History from files",
    "bytes": "Bytes in Valkey",
    "formats": "Formats of records",
    "aggregates": "What each aggregate costs",
    "growth": "Growth",
    "memory": "A million entities in bounded memory",
    "lookups": "Look-ups against the raw read",
    "feast": "Look-ups through Feast",
    "http": "Look-ups over HTTP",
    "training": "Training sets",
    "models": "Many models in one trainer",
    "swap": "From a retrain request to the application",
    "peers": "Peers",
}
