"""The HTML of the pages: what stays the same. A script of the page writes the numbers into it, as text."""

from __future__ import annotations

from html import escape

PAGES = {"now": "Now", "models": "Models", "views": "Views", "streams": "Streams", "applications": "Applications"}
"""The pages by their paths; the first one is at /."""
_SENTENCES = {
    "complete": "Every record is read, and none is missing",
    "fresh": "Features are near now",
    "learning": "Triggers are judged, runs succeed",
    "applied": "Applications answer with the live version",
}
_TABLES = {
    "views": ("View", "State", "Rows a second", "Records behind", "Clock", "Entities", "Memory", "Told"),
    "streams": (
        "Topic", "Partition", "State", "Records a second", "Lag", "Not in the log", "Clock", "Rejected", "Late",
        "Worker", "Told",
    ),
    "applications": (
        "Application", "Model", "State", "Version", "Live", "Predictions a second", "Told", "Acknowledged", "Note",
    ),
}  # fmt: skip


def page(name: str, namespace: str, flow: str = "") -> str:
    """Return a page. ``flow`` is the drawing of the flow graph, for the first page."""
    content = {"now": _now(flow), "models": '<div id="models"></div>'}.get(name) or _table(name)
    links = "".join(_link(each, title, is_here=each == name) for each, title in PAGES.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{PAGES[name]} · {escape(namespace)} · headrace</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="/static/page.css">'
        '<script src="/static/page.js" defer></script></head>'
        f'<body data-page="{name}"><a class="skip" href="#main">To the content</a>'
        f'<header><span class="brand">headrace</span> <span class="namespace">{escape(namespace)}</span>'
        f'<nav aria-label="Pages">{links}</nav>'
        '<p id="connection" role="status">waiting for the first snapshot</p></header>'
        f'<main id="main"><h1>{PAGES[name]}</h1>{content}</main></body></html>'
    )


def _link(name: str, title: str, *, is_here: bool) -> str:
    here = ' aria-current="page"' if is_here else ""
    return f'<a href="/{"" if name == "now" else name}"{here}>{title}</a>'


def _now(flow: str) -> str:
    sentences = "".join(
        f'<li data-sentence="{name}" data-mark="unknown"><span class="mark">unknown</span>'
        f'<h2>{name.capitalize()}</h2><p class="meaning">{meaning}</p>'
        '<p class="said">nothing was heard yet</p><p class="age"></p></li>'
        for name, meaning in _SENTENCES.items()
    )
    return (
        f'<ul class="sentences">{sentences}</ul>'
        '<h2 id="flow-heading">Flow</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="flow-heading" id="flow">'
        f"{flow}</div>"
        '<h2>Newest</h2><ol id="news"></ol>'
    )


def _table(name: str) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in _TABLES[name])
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{PAGES[name]}"><table id="{name}">'
        f"<thead><tr>{head}</tr></thead><tbody></tbody></table></div>"
        f'<p id="none" hidden>Nothing was heard of {name} yet.</p>'
    )
