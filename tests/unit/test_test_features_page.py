"""The tests on the page about tests of features pass, as a user's would."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from headrace import testing
from tests.support.documents import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/how-to/test-features.md"
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:xdist", "-W", "error")


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    code = "\n".join(block.text for block in blocks(PAGE, "python") if not block.text.startswith("# "))
    (tmp_path / "test_page.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={tmp_path}", "test_page.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{code.count('def test_')} passed" in done.stdout


def test_every_double_is_on_the_page_and_in_the_docstring_of_the_module() -> None:
    doubles = [name for name in testing.__all__ if name[:6] in {"Memory", "Inline", "Settab"}]
    page = (ROOT / PAGE).read_text()
    for name in doubles:
        assert f"| `{name}` |" in page
        assert f"| `{name}` |" in str(testing.__doc__)
    assert len(doubles) > 6
