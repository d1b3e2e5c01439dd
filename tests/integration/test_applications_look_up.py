"""What an application needs for a look-up, and what it may count on when the store is away or was emptied."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, Status
from tests.support.lookups_scene import A1, MINUTE, START_US, Worker, sale


def test_definitions_that_were_lost_are_remembered() -> None:
    memory = MemoryOnlineStore()
    Worker(memory)
    client = FeatureClient(memory)
    client.get("risk", A1)
    memory.clear()
    assert client.get("risk", A1).statuses()["shop"] is Status.REBUILDING


def test_a_store_that_does_not_answer_is_a_typed_error() -> None:
    client = FeatureClient.from_url("redis://127.0.0.1:1/0")
    with pytest.raises(OnlineStoreUnavailableError):
        client.get("risk", A1)


# -- what an application needs ----------------------------------------------------------------------------------------

HEAVY = ["feast", "mlflow", "faust", "sklearn", "pandas", "pyarrow", "polars", "deltalake", "skops", "confluent_kafka"]
PROBE = f"""
import sys
import {{module}}
print(sorted(set({HEAVY}) & set(sys.modules)))
"""


@pytest.mark.parametrize("module", ["headrace", "headrace.serving", "headrace.serving.features"])
def test_importing_the_client_imports_nothing_heavy(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


CORE_ONLY = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # an import of it fails, as where it is not installed
from headrace.base.times import utc_datetime
from headrace.serving.features import FeatureClient
client = FeatureClient.from_url(sys.argv[1], sys.argv[2], heartbeat_bound="10m")
found = client.get("risk", {{"shop": "a", "till": 1}}, as_of=utc_datetime(int(sys.argv[3])))
print(found.to_lists(), found.statuses(), found.to_numpy().shape)
"""


@pytest.mark.integration
def test_a_look_up_needs_the_core_alone(services: Any, namespace: str) -> None:
    store = RedisOnlineStore(services.redis_url, namespace)
    worker = Worker(store)
    worker.fold(0, sale("a", 1))
    worker.fold(1)
    arguments = [services.redis_url, namespace, str(START_US + 4 * MINUTE)]
    done = subprocess.run([sys.executable, "-c", CORE_ONLY, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[1, 1.0, 1, 1.0]]")
    assert "present" in done.stdout
    store.close()
