"""``python -m tests.crash.soak``: the whole catalogue of faults in seeded rounds, until enough workers were killed.

Each round has fresh topics, several lanes at once, and ends with a broker that is killed and a full comparison. The
table says what was done and how long it took until all was exact again; exit code 1 if anything was not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.app.local.services import LocalServices
from tests.support.crash.faults import CATALOGUE, deck
from tests.support.crash.lanes import Lane, Recovery, lanes, play_all, recover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.crash.comparison import Comparison

BROKER = "broker killed"


@dataclass(frozen=True)
class Broken:
    """A round that was not exact, or did not end: the seed makes its faults again."""

    round: int
    seed: int
    what: str


@dataclass
class Tally:
    """What was done so far. ``seconds``: until all was exact again, by fault."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    lost: int = 0
    duplicated: int = 0
    altered: int = 0
    values: int = 0
    mismatched: int = 0
    miscounted: int = 0
    broken: list[Broken] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def recovered(self, recovery: Recovery) -> None:
        """A fault was got over."""
        with self._lock:
            self.seconds.setdefault(recovery.fault, []).append(recovery.seconds)
            self.mismatched += len(recovery.mismatched)
            if recovery.mismatched:
                self.wrong.append(f"{recovery.fault}: {recovery.mismatched[:3]}; misplaced: {recovery.misplaced[:5]}")

    def compared(self, found: Comparison) -> None:
        """A lane's end."""
        for name, count in asdict(found).items():
            setattr(self, name, getattr(self, name) + count)

    @property
    def is_exact(self) -> bool:
        """Whether nothing was ever wrong."""
        return not (self.lost or self.duplicated or self.altered or self.mismatched or self.miscounted or self.broken)


@dataclass(frozen=True)
class Soak:
    """The services and how many lanes there are at once."""

    services: LocalServices
    width: int
    tally: Tally

    def play(self, number: int, seed: int, folder: Path) -> int:
        """One round; the number of workers that it killed."""
        chance = random.Random(seed)
        faults = deck(chance)
        decks = [faults[lane :: self.width] for lane in range(self.width)]
        with lanes(self.services.bootstrap_servers, folder, f"soak{number}-{seed}", seed, decks) as found:
            try:
                comparisons = play_all(found, self.tally.recovered, partial(self._kill_broker, found, chance))
            except AssertionError:
                self.tally.broken.append(Broken(number, seed, traceback.format_exc()))
                comparisons = []
            deaths = sum((lane.scene.deaths for lane in found), Counter[str]())
        self.tally.kills += deaths
        self.tally.broken += [Broken(number, seed, wrong) for wrong in self.tally.wrong]
        self.tally.wrong.clear()
        for comparison in comparisons:
            self.tally.compared(comparison)
            if not comparison.is_exact:
                self.tally.broken.append(Broken(number, seed, str(comparison)))
        return deaths.total()

    def _kill_broker(self, found: Sequence[Lane], chance: random.Random) -> None:
        """Under all lanes, which go on producing."""
        self.services.kafka.kill()
        time.sleep(chance.uniform(0, 2))
        self.services.kafka.restart()
        for lane in found:
            self.tally.recovered(recover(lane.scene, BROKER))


def table(tally: Tally) -> Table:
    """Fault by fault, and what came of it all."""
    shown = Table(title=f"{tally.kills.total():,} workers killed, {tally.produced:,} rows produced")
    shown.add_column("fault")
    for name in ("times", "median s", "max s until exact"):
        shown.add_column(name, justify="right")
    for fault in [*CATALOGUE, BROKER]:
        seconds = sorted(tally.seconds.get(fault, []))
        if seconds:
            shown.add_row(fault, str(len(seconds)), f"{seconds[len(seconds) // 2]:.2f}", f"{seconds[-1]:.2f}")
    shown.add_section()
    for name in ("lost", "duplicated", "altered"):
        shown.add_row(f"rows {name}", f"{getattr(tally, name):,}", "", "")
    shown.add_row("online values compared", f"{tally.values:,}", "", "")
    shown.add_row("online values mismatched", f"{tally.mismatched:,}", "", "")
    return shown


def written(tally: Tally, options: argparse.Namespace, seconds: float) -> dict[str, object]:
    """The content of soak.json."""
    return {
        "format": 1,
        "seed": options.seed,
        "lanes": options.lanes,
        "seconds": round(seconds, 1),
        "worker_kills": tally.kills.total(),
        "kills": dict(tally.kills),
        "faults": {
            fault: {"times": len(times), "max_seconds_until_exact": round(max(times), 3)}
            for fault, times in sorted(tally.seconds.items())
        },
        "rows": {name: getattr(tally, name) for name in ("produced", "lost", "duplicated", "altered")},
        "online": {name: getattr(tally, name) for name in ("values", "mismatched", "miscounted")},
        "broken": [asdict(broken) for broken in tally.broken],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000, help="go on until so many workers were killed (1000)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round after so many minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next has the next (1)")
    parser.add_argument("--lanes", type=int, default=3, help="how many scenes at once (3)")
    parser.add_argument("--out", type=Path, default=Path("soak.json"), help="where the numbers go (soak.json)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds; 1 if any was not exact."""
    options, tally, console = _options(arguments), Tally(), Console()
    began = time.monotonic()
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with (
        tempfile.TemporaryDirectory(prefix="headrace-soak-", ignore_cleanup_errors=True) as folder,
        LocalServices(Path(folder) / "services") as services,
        Progress(*columns, console=console) as progress,
    ):
        soak = Soak(services, options.lanes, tally)
        bar = progress.add_task("workers killed", total=options.kills)
        number = 0
        while tally.kills.total() < options.kills and time.monotonic() - began < options.minutes * 60:
            seed, place = options.seed + number, Path(folder) / f"round-{number}"
            place.mkdir()
            progress.advance(bar, soak.play(number, seed, place))
            number += 1
            if tally.broken:
                break
    options.out.write_text(json.dumps(written(tally, options, time.monotonic() - began), indent=2) + "\n")
    console.print(table(tally))
    for broken in tally.broken:
        console.print(f"round {broken.round} was not exact; again: --seed {broken.seed} --kills 1\n{broken.what}")
    return 0 if tally.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
