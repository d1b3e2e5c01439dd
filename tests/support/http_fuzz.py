"""Bytes and JSON documents that no client should send: what the tests of the HTTP server throw at it."""

from __future__ import annotations

from datetime import datetime

from hypothesis import strategies as st

from tests.support.lookups_scene import shops

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PIECES = [
    LIVEZ,
    *[
        b"GET ",
        b"/livez ",
        b"HTTP/1.1\r\n",
        b"HTTP/9.9\r\n",
        b"Host: x\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b": ",
        b"\0",
        b"\xff",
        b" ",
    ],
    *[
        b"POST /features HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n",
        b"GET /%ff%00 HTTP/1.1\r\n",
    ],
    *[b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n", b"hello", b"{}"],
    *[b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, gzip\r\n", b"ffffffffffffffff\r\n"],
    *[b"5\r\nhello\r\n", b"0\r\n\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n"],
    *[b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"a" * 3_000, b"GET http://x/livez HTTP/1.1\r\n"],
    *[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"],
]
ANY_BYTES = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=30)), max_size=8)
"""Pieces to be sent one after the other."""

SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a", 1])
JSON = st.recursive(
    SCALAR, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3)
)
NAMES = (
    st.sampled_from(["risk", "shop", "till", f"shop@{shops.version}", "shop:n_10m", "till:last_1h", "shop@0", ""])
    | JSON
)
ROW = st.fixed_dictionaries({}, optional={"shop": SCALAR, "till": SCALAR, "more": JSON})
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "service": NAMES,
        "views": st.lists(NAMES, max_size=3) | JSON,
        "entities": st.lists(ROW, max_size=3)
        | st.dictionaries(st.sampled_from(["shop", "till"]), st.lists(SCALAR))
        | JSON,
        "as_of": st.datetimes(timezones=st.timezones()).map(datetime.isoformat) | JSON,
        "request": ROW | st.lists(ROW, max_size=3) | JSON,
        "offsets": JSON,
        "features": st.lists(NAMES, max_size=3) | JSON,
        "feature_service": NAMES,
        "full_feature_names": st.booleans() | JSON,
    },
)
PATHS = ["/features", "/get-online-features"]
ANY_BODY = REQUEST | JSON
"""A body for one of the paths."""
