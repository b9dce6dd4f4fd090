"""The examples in docs/pml.md are read as they stand, and mean what the page says."""

import re
import runpy
from itertools import pairwise
from pathlib import Path

from promptcache.pml import Prompt, Schema, parse_prompt, parse_schema, resolve, write

PAGE = (Path(__file__).parents[3] / "docs" / "pml.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(xml|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(folder: Path) -> list[Schema | Prompt | str]:
    """The page's examples in order: schemas, prompts, and the text a prompt becomes."""
    return [
        content.removesuffix("\n")
        if kind == "text"
        else parse_prompt(content)
        if content.startswith("<prompt")
        else parse_schema(content, base=folder)
        for kind, content in FENCE.findall(PAGE)
    ]


def test_every_example_reads_and_writes_itself_back(tmp_path):
    (tmp_path / "house-rules.txt").write_text("Shoes off.\n")
    examples = [block for block in blocks(tmp_path) if not isinstance(block, str)]
    assert any(isinstance(example, Prompt) for example in examples)
    for example in examples:
        read = parse_schema if isinstance(example, Schema) else parse_prompt
        assert read(write(example)) == example


def test_every_prompt_becomes_the_text_that_the_page_shows(tmp_path):
    (tmp_path / "house-rules.txt").write_text("Shoes off.\n")
    schemas: dict[str, Schema] = {}
    documents = {"ferry": "The ferry leaves at nine.", "rain": "It rains in May."}
    shown = 0
    for block, after in pairwise([*blocks(tmp_path), ""]):
        if isinstance(block, Schema):
            schemas[block.name] = block
        elif isinstance(block, Prompt):
            messages = resolve(schemas[block.schema], block, documents)
            lines = [f"{m.role}: {m.text}" if m.role else m.text for m in messages]
            assert "\n".join(lines) == after
            shown += 1
    assert shown


def test_the_programs_of_the_page_run_and_are_the_schemas_beside_them(tmp_path):
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "house-rules.txt").write_text("Shoes off.\n")
    (tmp_path / "page.py").write_text("".join(code))  # programs are read from files
    scope = runpy.run_path(str(tmp_path / "page.py"))
    schemas = {s.name: s for s in blocks(tmp_path) if isinstance(s, Schema)}
    assert scope["travel"].schema == schemas["travel"]
    assert scope["reply"].usage.encoded == 0
    assert scope["reply"].usage.reused_tokens > 20
