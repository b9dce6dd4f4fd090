"""Run the notebooks of the cookbook from a clean kernel, and keep what they show.

`python scripts/notebooks.py` runs all of them and writes their outputs into the files;
`python scripts/notebooks.py NAME.ipynb --into FOLDER` leaves the files as they are. What changes
from run to run and says nothing (times of execution, progress bars and all else on stderr) is not
kept, nor is a value's plain form beside its HTML form. Keys are sorted, so that a difference in a
file is a difference in the notebook.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

COOKBOOK = Path(__file__).parent.parent / "cookbook"
LIMIT = 900
"""Seconds that a cell may take."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
STYLES = re.compile(r"\x1b\[[0-9;]*m")
"""What terminals take for bold or coloured text."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def read(path: Path) -> NotebookNode:
    """A notebook from its file."""
    return nbformat.read(path, as_version=4)


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the outputs of a clean kernel, which downloads nothing.

    Raises CellExecutionError with the cell and its traceback.
    """
    client = NotebookClient(
        notebook,
        timeout=LIMIT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        startup_timeout=LIMIT,
        extra_arguments=["--HistoryManager.enabled=False", "--log-level=ERROR"],
        resources={"metadata": {"path": str(COOKBOOK)}},
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | OFFLINE | {"PATH": path}  # as in an active virtual environment
    environment.pop("MPLBACKEND", None)  # the kernel has its own
    return client.execute(env=environment)


def text(notebook: NotebookNode) -> str:
    """The file of a notebook, with nothing in it that says nothing."""
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02d}", {}
        if cell.cell_type == "code":
            cell.outputs = [kept for kept in cell.outputs if kept.get("name") != "stderr"]
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = STYLES.sub("", output.text)
                if "data" in output:
                    output.metadata = {}
                    if "text/html" in output.data:
                        output.data.pop("text/plain", None)
    nbformat.validate(notebook)
    split = nbformat.v4.rwbase.split_lines(nbformat.from_dict(notebook))
    return json.dumps(split, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Run notebooks; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME.ipynb", help="which; all by default")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="write the results there")
    parser.add_argument("--clean", action="store_true", help="run nothing, rewrite the files")
    chosen = parser.parse_args(arguments)
    paths = [COOKBOOK / Path(name).name for name in chosen.names] or sorted(
        COOKBOOK.glob("*.ipynb")
    )
    failed = 0
    for path in paths:
        began = time.perf_counter()
        notebook = read(path)
        try:
            result = notebook if chosen.clean else executed(notebook)
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            failed = 1
            continue
        target = (chosen.into or COOKBOOK) / path.name
        target.write_text(text(result), encoding="utf-8")
        print(f"{path.name}: {time.perf_counter() - began:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
