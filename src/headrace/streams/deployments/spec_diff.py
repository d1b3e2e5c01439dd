"""The changes between two versions of a view or of a service, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.base.times import format_duration
from headrace.features.definitions.feature_spec import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.bus.stream_spec import FieldSpec, StreamSpec
    from headrace.features.definitions.role_spec import DerivedColumn
    from headrace.features.definitions.service_spec import OnDemandFeature, RequestField, ServiceSpec
    from headrace.features.definitions.view_spec import EntitySpec, ViewSpec
    from headrace.features.definitions.windows import WindowSpec

    _NamedPart = WindowSpec | FeatureSpec | DerivedColumn | FieldSpec | RequestField | OnDemandFeature

_PLAIN = ("clock", "spec_version")
_DURATIONS = ("max_age_us", "history_us", "delay_us")


def changes(old: ViewSpec, new: ViewSpec) -> list[str]:
    """Return one phrase for each change, such as ``+ window 6h`` or ``feature n: where``; none for equal specs."""
    return [
        *_named("window", old.windows, new.windows),
        *_named("feature", old.features, new.features),
        *_named("derived", old.derived, new.derived),
        *(["filter"] if old.where != new.where else []),
        *_entity(old.entity, new.entity),
        *_streams(old, new),
        *_settings(old, new, _DURATIONS, _duration),
        *_settings(old, new, _PLAIN, str),
    ]


def service_changes(old: ServiceSpec, new: ServiceSpec) -> list[str]:
    """Return one phrase for each view that comes, goes or has another version, and for each on-demand change.

    The order of the views is a change if nothing else about them is.
    """
    before, after = ({view.name: view.version for view in spec.views} for spec in (old, new))
    phrases = [f"+ {name}" for name in after if name not in before]
    phrases += [f"- {name}" for name in before if name not in after]
    phrases += [
        f"{name} {before[name]} → {after[name]}" for name in after if before.get(name, after[name]) != after[name]
    ]
    if not phrases and old.views != new.views:
        phrases = ["order of views"]
    phrases += _named("request value", old.made.request, new.made.request)
    return phrases + _named("on-demand feature", old.made.features, new.made.features)


def _named(what: str, old: Sequence[_NamedPart], new: Sequence[_NamedPart]) -> list[str]:
    """Return phrases for the parts that were added, removed or changed. If only the order changed, say so."""
    before, after = ({part.name: part for part in parts} for parts in (old, new))
    phrases = [f"+ {what} {name}" for name in after if name not in before]
    phrases += [f"- {what} {name}" for name in before if name not in after]
    phrases += [
        f"{what} {name}: {', '.join(_differing(before[name], after[name]))}"
        for name in after
        if name in before and before[name] != after[name]
    ]
    return phrases or ([f"order of {what}s"] if old != new else [])


def _differing(old: _NamedPart, new: _NamedPart) -> list[str]:
    before, after = _fields(old), _fields(new)
    before, after = _defaults(new) | before, _defaults(old) | after
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [_difference(name.removesuffix("_us"), before.get(name), after.get(name)) for name in names]


def _fields(part: _NamedPart) -> dict[str, Any]:
    """The fields of a struct. The aggregate of a feature is the first."""
    kind = {"aggregate": part.aggregate} if isinstance(part, FeatureSpec) else {}
    return kind | {name: getattr(part, name) for name in part.__struct_fields__}


def _defaults(part: _NamedPart) -> dict[str, Any]:
    """The fields that need not be written. An aggregate without such a field is as one that leaves it out."""
    told = {field.name: field.default for field in msgspec.structs.fields(part)}
    return {name: default for name, default in told.items() if default is not msgspec.NODEFAULT}


def _difference(name: str, old: Any, new: Any) -> str:
    if isinstance(old, str | int | float) and isinstance(new, str | int | float):
        return f"{name} {old} → {new}"
    return name


def _entity(old: EntitySpec, new: EntitySpec) -> list[str]:
    if old.keys != new.keys:
        return [f"entity {_keys(old)} → {_keys(new)}"]
    return [f"entity named {old.name} → {new.name}"] if old.name != new.name else []


def _keys(entity: EntitySpec) -> str:
    return "+".join(f"{key.name}:{key.kind}" for key in entity.keys)


def _stream(old: StreamSpec, new: StreamSpec) -> list[str]:
    if old.topic != new.topic:
        return [f"stream {old.topic} → {new.topic}"]
    settings = sorted(set(old.__struct_fields__) - {"topic", "fields"})
    differing = [name for name in settings if getattr(old, name) != getattr(new, name)]
    return [*_named("field", old.fields, new.fields), *(f"stream: {name.removesuffix('_us')}" for name in differing)]


def _streams(old: ViewSpec, new: ViewSpec) -> list[str]:
    if old.topics != new.topics:
        return [f"stream {', '.join(old.topics)} → {', '.join(new.topics)}"]
    found = [phrase for topic in new.topics for phrase in _stream(old.stream_of(topic), new.stream_of(topic))]
    plain = [[msgspec.structs.replace(role, stream=new.stream) for role in spec.sources] for spec in (old, new)]
    return found + (["roles"] if plain[0] != plain[1] else [])


def _settings(old: ViewSpec, new: ViewSpec, names: Sequence[str], word: Callable[[Any], str]) -> list[str]:
    return [
        f"{name.removesuffix('_us')} {word(getattr(old, name))} → {word(getattr(new, name))}"
        for name in names
        if getattr(old, name) != getattr(new, name)
    ]


def _duration(us: int | None) -> str:
    return "none" if us is None else format_duration(us)
