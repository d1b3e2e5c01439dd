"""What changed between two versions of a view or a service, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.base.times import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.streams.deployments.deployment import Spec

_PLAIN = ("clock", "spec_version")
_DURATIONS = ("max_age_us", "history_us", "delay_us")


def changes(old: Spec, new: Spec) -> list[str]:
    """One phrase a change, such as ``+ window 6h`` or ``feature n: where``; none for the same spec."""
    return [
        *_named("window", old["windows"], new["windows"]),
        *_named("feature", old["features"], new["features"]),
        *_named("derived", _pairs(old["derived"]), _pairs(new["derived"])),
        *(["filter"] if old["where"] != new["where"] else []),
        *_entity(old["entity"], new["entity"]),
        *_stream(old["source"], new["source"]),
        *_settings(old, new, _DURATIONS, _duration),
        *_settings(old, new, _PLAIN, str),
    ]


def service_changes(old: Spec, new: Spec) -> list[str]:
    """Views that come, go, or are another version; their order where only that changed; what is made on demand."""
    before, after = dict(old["views"]), dict(new["views"])
    told = [f"+ {name}" for name in after if name not in before]
    told += [f"- {name}" for name in before if name not in after]
    told += [f"{name} {before[name]} → {after[name]}" for name in after if before.get(name, after[name]) != after[name]]
    if not told and old["views"] != new["views"]:
        told = ["order of views"]
    made = [spec.get("on_demand", {"request": [], "features": []}) for spec in (old, new)]
    told += _named("request value", *(part["request"] for part in made))
    return told + _named("on-demand feature", *(part["features"] for part in made))


def _pairs(derived: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "expression": tree} for name, tree in derived]


def _named(what: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was added, what is gone, and what differs; the order where only that did."""
    before, after = ({item["name"]: item for item in items} for items in (old, new))
    told = [f"+ {what} {name}" for name in after if name not in before]
    told += [f"- {what} {name}" for name in before if name not in after]
    told += [
        f"{what} {name}: {', '.join(_differing(before[name], after[name]))}"
        for name in after
        if name in before and before[name] != after[name]
    ]
    return told or ([f"order of {what}s"] if old != new else [])


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [_difference(name.removesuffix("_us"), old.get(name), new.get(name)) for name in names]


def _difference(name: str, old: Any, new: Any) -> str:
    if isinstance(old, str | int | float) and isinstance(new, str | int | float):
        return f"{name} {old} → {new}"
    return name


def _entity(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if old["keys"] != new["keys"]:
        return [f"entity {_keys(old)} → {_keys(new)}"]
    return [f"entity named {old['name']} → {new['name']}"] if old["name"] != new["name"] else []


def _keys(entity: Mapping[str, Any]) -> str:
    return "+".join(f"{name}:{kind}" for name, kind in entity["keys"])


def _stream(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if old["topic"] != new["topic"]:
        return [f"stream {old['topic']} → {new['topic']}"]
    rest = {name for name in {*old, *new} if name != "fields" and old.get(name) != new.get(name)}
    told = [f"stream: {name.removesuffix('_us')}" for name in sorted(rest)]
    return [*_named("field", old["fields"], new["fields"]), *told]


def _settings(old: Spec, new: Spec, names: Sequence[str], word: Callable[[Any], str]) -> list[str]:
    return [
        f"{name.removesuffix('_us')} {word(old.get(name))} → {word(new.get(name))}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _duration(us: int | None) -> str:
    return "none" if us is None else format_duration(us)
