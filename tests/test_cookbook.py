"""The cookbook: notebooks that run from a clean kernel, kept with what they showed."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "notebooks.py"
NOTEBOOKS = sorted((ROOT / "cookbook").glob("*.ipynb"))


def outputs(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


def forms(path: Path) -> set[str]:
    return {form for output in outputs(path) for form in output.get("data", {})}


@pytest.mark.parametrize("name", ["langchain_rag", "llama_index_rag"])
def test_a_notebook_of_each_framework_runs_from_a_clean_kernel(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), f"{name}.ipynb", "--into", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = tmp_path / f"{name}.ipynb"
    assert forms(shown) == forms(ROOT / "cookbook" / shown.name)
    said = "".join("".join(output.get("text", ())) for output in outputs(shown))
    assert "this process: 40 registered, 40 encoded" in said
    assert "another process: 40 registered, 0 encoded" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_notebooks_were_run_whole_and_hold_no_noise(path: Path) -> None:
    scope = runpy.run_path(str(SCRIPT))
    notebook = scope["read"](path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs(path) if output["output_type"] == "error"]
    assert scope["text"](notebook) == path.read_text(encoding="utf-8"), (
        "run: python scripts/notebooks.py --clean"
    )
    assert str(ROOT) not in path.read_text(encoding="utf-8")
