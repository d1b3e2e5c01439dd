"""Events as their records have them, where times are not RFC 3339 text: see ``bus/wire.py``."""

from __future__ import annotations

import typing
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.event import Event, fields

if TYPE_CHECKING:
    from headrace.bus.wire import TimeForm


class WrittenEvents:
    """Turns events of one type into a type ``written``, whose fields are as the records have them, and back."""

    def __init__(self, event: type[Event], forms: dict[str, TimeForm]) -> None:
        self._event, self._forms = event, forms
        config, hints = event.__struct_config__, typing.get_type_hints(event, include_extras=True)
        infos = msgspec.structs.fields(event)
        self.written = msgspec.defstruct(
            event.__name__,
            [_field(info, forms.get(info.name), hints[info.name]) for info in infos],
            kw_only=True,
            tag=config.tag,
            tag_field=config.tag_field,
            omit_defaults=config.omit_defaults,
            forbid_unknown_fields=config.forbid_unknown_fields,
            gc=False,
        )

    def event(self, written: Any) -> Event:
        """Return the event of a record whose times fit."""
        found = {name: getattr(written, name) for name in self._event.__struct_fields__}
        for name, form in self._forms.items():
            if found[name] is not None:
                found[name] = form.read(found[name])
        return self._event(**found)

    def row(self, event: msgspec.Struct) -> Any:
        """Return what the record of an event has."""
        content = {name: getattr(event, name) for name in self._event.__struct_fields__}
        for name, form in self._forms.items():
            if content[name] is not None:
                content[name] = form.write(content[name])
        return self.written(**content)


@cache
def written_events(event: type[Event]) -> WrittenEvents | None:
    """Return how events of this type are written; None if all times are RFC 3339 text."""
    forms = {field.name: field.form for field in fields(event) if field.form is not None}
    return WrittenEvents(event, forms) if forms else None


def _field(info: Any, form: TimeForm | None, hint: Any) -> tuple[str, Any, Any]:
    """Return a field as `msgspec.defstruct` wants it: name, type, and default with the name in JSON."""
    default = info.default
    if form is not None:
        hint = form.written | None if _takes_none(hint) else form.written
        default = default if default in {None, msgspec.NODEFAULT} else form.write(default)
    if info.default_factory is not msgspec.NODEFAULT:
        return info.name, hint, msgspec.field(default_factory=info.default_factory, name=info.encode_name)
    return info.name, hint, msgspec.field(default=default, name=info.encode_name)


def _takes_none(hint: Any) -> bool:
    return hint is type(None) or any(map(_takes_none, typing.get_args(hint)))
