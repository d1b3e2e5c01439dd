from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.trainers.runs.run_logs import FitOutput, RunLogs

if TYPE_CHECKING:
    from pathlib import Path


def test_the_log_of_a_run_is_below_its_folder_whatever_the_request_is_called(tmp_path: Path) -> None:
    names = ["delay-1", "../../x", "a/b", "..", ".", "", "a" * 5_000, "ä", "\0"]
    paths = [RunLogs(tmp_path).path(name) for name in names]
    assert len({*paths}) == len(names)
    assert {path.parent for path in paths} == {tmp_path}
    assert all(len(path.name.encode()) < 256 for path in paths)


@pytest.mark.parametrize("pieces", [[b"0123456789" * 3], [b"%d" % n for n in range(10)] * 3, [b"012", b"3456789" * 9]])
def test_a_long_output_keeps_its_beginning_and_its_end(tmp_path: Path, pieces: list[bytes]) -> None:
    output = FitOutput(tmp_path / "a" / "r.log", largest=8)
    for piece in pieces:
        output.write(piece)
    output.close()
    whole = b"".join(pieces)
    said = f"\n… {len(whole) - 8} bytes are left out …\n".encode()
    assert (tmp_path / "a" / "r.log").read_bytes() == whole[:4] + said + whole[-4:]


def test_the_command_prints_the_log_of_a_run(tmp_path: Path) -> None:
    path = RunLogs(tmp_path / "runs").path("delay-1")
    path.parent.mkdir()
    path.write_text("epoch 1: ä\n")
    shown = CliRunner().invoke(build(), ["runs", "log", "delay-1", "--data-dir", str(tmp_path)])
    assert (shown.exit_code, shown.output) == (0, "epoch 1: ä\n")
    absent = CliRunner().invoke(build(), ["runs", "log", "delay-2", "--data-dir", str(tmp_path)])
    assert absent.exit_code != 0
