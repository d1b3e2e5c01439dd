"""What addresses show of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.base.redaction import redacted
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.redis.redis_store import RedisOnlineStore

HIDDEN = "redis://***"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://:pa:ss@h", "redis://:***@h"),
        ("redis://u:p@ss@h:1/0", "redis://u:***@h:1/0"),
        ("rediss+cluster://u:secret@[::1]:7/0?db=1", "rediss+cluster://u:***@[::1]:7/0?db=1"),
        ("redis://h/0?password=abc&db=1", "redis://h/0?password=***&db=1"),
        ("redis://h/0?db=1&username=u&pass%77ord=a=b", "redis://h/0?db=1&username=***&pass%77ord=***"),
        ("redis://h/0?ssl_password=abc#def", "redis://h/0?ssl_password=***#***"),
        ("unix://u:secret@/run/redis.sock?db=2", "unix://u:***@/run/redis.sock?db=2"),
        ("redis://u:p/ss@h", HIDDEN),
        ("redis://u:12/ss@h", HIDDEN),
        ("redis://:p[ss@h", HIDDEN),
        ("redis://h:1/0", "redis://h:1/0"),
        ("abfss://box@account.dfs.core.windows.net/a", "abfss://box@account.dfs.core.windows.net/a"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("/data/u:p@h", "/data/u:p@h"),
        ("h:9092,i:9092", "h:9092,i:9092"),
        ("", ""),
    ],
)
def test_an_address_shows_where_it_leads_and_not_what_lets_one_in(address: str, shown: str) -> None:
    assert redacted(address) == shown


@given(st.text(st.characters(codec="utf-8")))
def test_the_shown_address_does_not_depend_on_the_password(password: str) -> None:
    assert redacted(f"redis://u:{password}@h:1/0") in {"redis://u:***@h:1/0", HIDDEN}
    assert redacted(f"redis://h:1/0?password={password.replace('&', '')}").removesuffix("#***") in {
        "redis://h:1/0?password=***", HIDDEN,
    }  # fmt: skip


def test_an_error_of_the_store_does_not_tell_the_password() -> None:
    with pytest.raises(
        OnlineStoreUnavailableError, match=r"at redis://u:\*\*\*@127.0.0.1:1/0\?password=\*\*\* "
    ) as caught:
        RedisOnlineStore("redis://u:se:cret@127.0.0.1:1/0?password=secret").get_document("a")
    assert "secret" not in str(caught.value)
