"""Exact match of a model's answers on samples it cannot have seen, with full prefill.

    python -m promptcache.pocket.evaluate --model runs/pocket/export

Plain transformers, greedy, batched. Names and values come from the test side of the split; half
of the prompts use wordings that training never saw. Writes one JSON line per sample and prints a
table by kind of question, number of documents, wording and kind of value.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import transformers
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from promptcache.pocket import pocket_path
from promptcache.pocket.chat import messages
from promptcache.pocket.corpus import Shape, make_sample
from promptcache.pocket.data import Encoder, choose_wording

SINGLE = Shape((2, 8), (3, 6), (1, 1))
DOUBLE = Shape((2, 8), (3, 6), (1, 1), unanswerable=0.0, two_documents=1.0)
MAX_PROMPT = 1024
MAX_ANSWER = 24


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt and the answer that is right."""

    ids: tuple[int, ...]
    kind: str
    value: str
    documents: int
    wording: str
    held_out: bool
    question: str
    expected: str


@dataclass(frozen=True, slots=True)
class Result:
    """A case's outcome, as it is written to the file of rows."""

    kind: str
    value: str
    documents: int
    wording: str
    held_out: bool
    tokens: int
    question: str
    expected: str
    answer: str
    right: bool


def make_cases(
    tokenizer: PreTrainedTokenizerFast, count: int, seed: int, shape: Shape = SINGLE
) -> list[Case]:
    """Draw `count` cases of at most `MAX_PROMPT` tokens from the test side."""
    encoder = Encoder(tokenizer)
    rng = np.random.default_rng((seed, 1_000_003))
    cases: list[Case] = []
    while len(cases) < count:
        sample = make_sample(rng, shape, "test")
        wording = choose_wording(rng, held_out=len(cases) % 2 == 1)
        turn = sample.turns[0]
        if shape.two_documents and turn.kind == "fact":
            continue  # no question on two documents could be asked of these
        prompt = [m for m in messages(sample, wording) if m.role != "assistant"]
        ids = encoder.prompt(prompt, whole=False)
        if len(ids) > MAX_PROMPT:
            continue
        cases.append(
            Case(tuple(ids), turn.kind, turn.value, len(sample.documents), wording.name,
                 wording.held_out, turn.question, turn.answer)
        )  # fmt: skip
    return cases


@torch.inference_mode()
def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[tuple[int, ...]]
) -> list[str]:
    """Return the greedy answers to `prompts`, given as token ids, in one left-padded batch."""
    longest = max(map(len, prompts))
    pad = int(tokenizer.pad_token_id)
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=MAX_ANSWER, do_sample=False
    )
    texts = tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    cases: list[Case],
    batch: int = 16,
) -> list[Result]:
    """Answer all cases, the longest first."""
    order = sorted(cases, key=lambda case: -len(case.ids))
    results = []
    for start in tqdm(range(0, len(order), batch), desc="evaluate", leave=False):
        part = order[start : start + batch]
        answers = answer(model, tokenizer, [case.ids for case in part])
        for case, got in zip(part, answers, strict=True):
            fields = {k: v for k, v in asdict(case).items() if k != "ids"}
            right = got == case.expected
            results.append(Result(**fields, tokens=len(case.ids), answer=got, right=right))
    return results


def breakdown(results: list[Result]) -> Iterator[tuple[str, str, int, float]]:
    """Yield (what, which, samples, share right) for every way of looking at `results`."""
    views: dict[str, Callable[[Result], str]] = {
        "all": lambda r: "",
        "answerable": lambda r: "no" if r.kind in ("absent", "stranger") else "yes",
        "question": lambda r: r.kind,
        "documents": lambda r: str(r.documents),
        "wording": lambda r: "held out" if r.held_out else "in training",
        "value": lambda r: "-" if r.kind in ("absent", "stranger") else r.value,
        "prompt": lambda r: r.wording,
    }
    for what, view in views.items():
        groups: dict[str, list[bool]] = defaultdict(list)
        for result in results:
            groups[view(result)].append(result.right)
        for which, rights in sorted(groups.items()):
            yield what, which, len(rights), sum(rights) / len(rights)


def show(title: str, results: list[Result], console: Console) -> None:
    """Print the breakdown as a table."""
    table = Table("", "", "samples", "exact match", title=title)
    for what, which, count, share in breakdown(results):
        table.add_row(what, which, str(count), f"{share:.3f}")
    console.print(table)


def card(results: list[Result], pairs: list[Result]) -> str:
    """The figures for a model card; `pairs` are of questions that need two documents."""
    torch_version, own = torch.__version__.partition("+")[0], transformers.__version__
    threads = torch.get_num_threads()
    said = (
        f"## Figures\n\nExact match with full prefill (float32, greedy; torch {torch_version}, "
        f"transformers {own}, {threads} CPU thread{'s' * (threads > 1)})\n"
        f"on {len(results):,} unseen samples of 2 to 8 documents, at most {MAX_PROMPT:,} tokens "
        f"(the longest drawn has {max(r.tokens for r in results)}), half\n"
        f"of them in wordings that training never saw; and on {len(pairs)} questions that need two "
        "documents.\n`python -m promptcache.pocket.evaluate` repeats it.\n\n"
        "| what | which | samples | exact match |\n|---|---|---|---|\n"
    )
    lines = [(what, *rest) for what, *rest in breakdown(results)]
    for what, *rest in breakdown(pairs):
        if what in ("all", "question", "documents", "wording"):
            lines.append(("two documents" + (f": {what}" if what != "all" else ""), *rest))
    return said + "".join(
        f"| {w} | {which} | {n} | {share:.3f} |\n" for w, which, n, share in lines
    )


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a model in float32 and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def main(
    model: Annotated[Path, typer.Option(help="Folder of the weights.")] = pocket_path(),  # noqa: B008
    rows: Annotated[Path, typer.Option(help="Where the rows are written.")] = Path(
        "runs/pocket/evaluation.jsonl"
    ),
    samples: Annotated[int, typer.Option(help="Questions on one document.")] = 1000,
    double: Annotated[int, typer.Option(help="Questions on two documents.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    figures: Annotated[
        Path | None, typer.Option(help="Write the figures here, for the model card.")
    ] = None,
) -> None:
    """Measure exact match with full prefill on unseen samples."""
    network, tokenizer = load(model)
    console = Console()
    results = evaluate(network, tokenizer, make_cases(tokenizer, samples, seed))
    show("one document holds the answer, or none", results, console)
    pairs = evaluate(network, tokenizer, make_cases(tokenizer, double, seed, DOUBLE))
    if pairs:
        show("two documents are needed", pairs, console)
    if figures is not None:
        figures.write_text(card(results, pairs))
    results += pairs
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results))


if __name__ == "__main__":
    typer.run(main)
