"""Write what simulations say into docs/scaling.md, each between the marks that have its options.

Takes minutes. The page notes the code that it was made by, and a test holds that against the code.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scaling.md"
CODE = ROOT / "core" / "promptcache" / "ray"
FILES = ("ring.py", "routing.py", "workload.py", "simulated.py", "simulation.py")
COMMAND = "python -m promptcache.ray.simulation"
BLOCK = re.compile(r"(<!-- simulation(.*?) -->\n).*?(<!-- /simulation -->)", re.DOTALL)
NOTE = re.compile(r"<!-- simulated by [0-9a-f]* -->")


def code() -> str:
    """A hash of all that a simulation's figures depend on, comments and layout aside."""
    digest = blake2b(digest_size=8)
    for name in FILES:
        digest.update(ast.dump(ast.parse((CODE / name).read_text())).encode())
    return digest.hexdigest()


def simulated(options: str) -> str:
    """What a simulation prints, under the command that was given."""
    ran = subprocess.run(
        [sys.executable, "-m", "promptcache.ray.simulation", *shlex.split(options)],
        capture_output=True,
        text=True,
        check=True,
    )
    return f"\n```\n{COMMAND}{options}\n```\n\n{ran.stdout}\n"


def page(text: str) -> str:
    """The page with all simulations run again."""
    text = BLOCK.sub(lambda found: found[1] + simulated(found[2]) + found[3], text)
    return NOTE.sub(f"<!-- simulated by {code()} -->", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
