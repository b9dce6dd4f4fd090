"""Questions in LongBench's file format (Bai et al., ACL 2024), for anyone who has its data.

One JSON object a line, with `input`, `context`, `answers`, `all_classes` and `dataset`; a file is a
task. The instructions are our own and short, so that figures compare policies with each other, and
not with published ones. What can be told apart in a context becomes documents of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcache.bench.fidelity.metrics import (
    Metric,
    accuracy,
    count,
    edit_similarity,
    f1,
    retrieval,
    rouge_l,
)
from promptcache.bench.fidelity.questions import About, Chat
from promptcache.errors import OptionError


@dataclass(frozen=True, slots=True)
class Task:
    """How a task is asked and scored; `asking` has the hole `{input}`.

    `few_shot` says that the context is examples, so that an answer ends with its first line.
    """

    metric: Metric
    new_tokens: int
    asking: str = "Answer from these passages, in a few words.\n\nQuestion: {input}\nAnswer:"
    few_shot: bool = False


_SUMMARY = "Write a summary of one page."
_EXAMPLES = "Go on as in the examples.\n\n{input}"
TASKS: Mapping[str, Task] = {
    "narrativeqa": Task(f1, 128),
    "qasper": Task(f1, 128),
    "multifieldqa_en": Task(f1, 64),
    "hotpotqa": Task(f1, 32),
    "2wikimqa": Task(f1, 32),
    "musique": Task(f1, 32),
    "gov_report": Task(rouge_l, 512, _SUMMARY),
    "qmsum": Task(rouge_l, 512, "Answer from this meeting, in a few sentences.\n\n{input}"),
    "multi_news": Task(rouge_l, 512, _SUMMARY),
    "trec": Task(accuracy, 64, _EXAMPLES, few_shot=True),
    "triviaqa": Task(f1, 32, _EXAMPLES, few_shot=True),
    "samsum": Task(rouge_l, 128, _EXAMPLES, few_shot=True),
    "lsht": Task(accuracy, 64, _EXAMPLES, few_shot=True),
    "passage_count": Task(count, 32, "How many different paragraphs are these? A number only."),
    "passage_retrieval_en": Task(
        retrieval, 32, "Which paragraph is this about? Its number only.\n\n{input}"
    ),
    "passage_retrieval_zh": Task(
        retrieval, 32, "Which paragraph is this about? Its number only.\n\n{input}"
    ),
    "lcc": Task(edit_similarity, 64, "Write the next line of this code.\n\n{input}"),
    "repobench-p": Task(edit_similarity, 64, "Write the next line of this code.\n\n{input}"),
}
UNSCORED = ("dureader", "multifieldqa_zh", "vcsum")
"""Tasks that are left out: their metrics need a segmenter of Chinese."""
_HEADERS = re.compile(r"(?m)^(?=(?:Passage|Paragraph|Document) \d+:|Dialogue:|Question:|段落\d+)")
_FIELDS = {"input": str, "context": str, "answers": list, "dataset": str}


def questions(folder: Path, most: int) -> Iterator[Chat]:
    """At most `most` questions of each file of a folder, those of UNSCORED tasks left out.

    Raises OptionError where there is none, and with the place for what is not in the format.
    """
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not files:
        raise OptionError(f"there are no .jsonl files in {str(folder)!r}")
    for file in files:
        if file.stem.removesuffix("_e") not in UNSCORED:
            yield from _of_file(file, most)


def passages(context: str) -> list[str]:
    """A context where its own headings cut it, or else at empty lines; white space aside."""
    parts = _HEADERS.split(context)
    if len(parts) < 3:
        parts = context.split("\n\n")
    return [part.strip() for part in parts if part.strip()]


def _of_file(file: Path, most: int) -> Iterator[Chat]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if number > most:
                return
            yield _chat(_record(line, f"line {number} of {file}"), number)


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise OptionError(f"{where} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise OptionError(f"{where} is no object")
    for name, kind in _FIELDS.items():
        if not isinstance(record.get(name), kind):
            found = f"{name}={record.get(name)!r:.60}"
            raise OptionError(f"{where} has {found}; expected a {kind.__name__}")
    return record


def _chat(record: Mapping[str, Any], number: int) -> Chat:
    name = str(record["dataset"]).removesuffix("_e")
    task = TASKS.get(name, Task(f1, 64))
    documents = passages(record["context"])
    about = About(
        record["input"] or name,
        kind=name,
        documents=len(documents),
        number=number,
        right=tuple(map(str, record["answers"])),
        metric=task.metric,
        classes=tuple(record.get("all_classes") or ()),
        first_line=task.few_shot,
    )
    asking = task.asking.replace("{input}", record["input"])
    told = (("user", "\n\n".join([*documents, asking])),)
    return Chat(about, told, tuple(documents), task.new_tokens)
