"""docs/fidelity.md and its figures, made of rows; and verdicts on rows."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from core.bench.fidelity_rows import answered, full, row, rows
from promptcache.bench.fidelity.measure import Outcome
from promptcache.bench.fidelity.page import figures, main, render, rows_in
from promptcache.bench.fidelity.plots import curves, draw
from promptcache.bench.fidelity.questions import About
from promptcache.bench.fidelity.rows import FULL, PLAIN, Answered, write_fidelity
from promptcache.bench.fidelity.tables import CHECK, FIDELITY, number, points, share, terminal_table
from promptcache.bench.fidelity.verdict import Bound, Verdict
from promptcache.errors import OptionError

DOCS = Path(__file__).parents[3] / "docs"


def many() -> list[Answered]:
    """Two samples of two kinds in two orders, under policies with and without a share."""
    found = []
    for policy, share_again, kl in (
        ("Modular()", 0.0, 0.02),
        ("FirstK(k=8)", 0.05, 0.01),
        ("FirstK(k=16)", 0.1, 0.001),
        ("Exact()", 0.8, 0.0),
        (FULL, 1.0, 0.0),
    ):
        for context in ("",) if policy == FULL else ("preamble", "bare"):
            for count, kind in enumerate(("fact", "compare")):
                about = About("Who | what?", kind, 2 + count, 7, count, ("Mira",))
                outcome = Outcome("Mira", kl, recomputed_share=share_again, ttft_ratio=0.3)
                for order in ("own", "shuffled"):
                    found.append(
                        answered(
                            about=about,
                            policy=policy,
                            context=context,
                            outcome=outcome,
                            order=order,
                        )
                    )
    return found


def test_the_page_is_what_its_rows_make() -> None:
    made = rows_in(DOCS / "fidelity")
    page = (DOCS / "fidelity.md").read_text()
    assert page == render(made), "run: python -m promptcache.bench.fidelity.page"
    for name in figures(made):
        assert f"(fidelity/{name})" in page
        assert (DOCS / "fidelity" / name).is_file()


def test_a_page_names_policies_that_compute_again_in_vain() -> None:
    page = render(rows(*many()))
    assert "To the digits shown, nothing that was computed again left a higher mean KL" in page
    again = [
        answered(policy="FirstK(k=2)", context=context, outcome=Outcome("Mira", kl=kl))
        for context, kl in (("preamble", 0.05), ("bare", 0.020001))
    ]
    page = render(rows(*many(), *again))
    assert "than computing nothing again: `FirstK(k=2)` preamble (0.05 against 0.02). " in page


def test_a_page_shows_each_compression_by_itself() -> None:
    kinds = [answered(compression=compression) for compression in ("", "int8")]
    page = render(rows(*kinds))
    assert "| Modular() | preamble |" in page
    assert page.count("| Modular() | preamble, int8 |") == 3  # a table, and two by what is asked


def test_a_page_says_what_was_measured_on_what() -> None:
    page = render(rows(*many()))
    setting = "tiny, float32, on a machine, cpu, 1 thread (promptcache 0.1.0, commit abc1234)"
    assert f"{setting}; run a run" in page and "; seed 7." in page
    assert "## tiny, float32: 4 prompts" in page
    assert "| Modular() | bare | 100.0 % | -69.3 to +69.3 |" in page
    assert (
        "| policy | context | own order | shuffled order | compare | fact | 2 documents |" in page
    )
    assert "Who \\| what?" in page, "a bar would end the cell"
    assert "LongBench" in render([]) and "promptcache check" in render([])


def test_a_page_of_several_seeds_shows_them_apart() -> None:
    kinds = [
        answered(about=About("Who?", "fact", 2, seed, 0, ("Mira",)), outcome=Outcome("Mira", kl))
        for seed, kl in ((1, 0.5), (2, 0.25))
    ]
    page = render(rows(*kinds))
    assert "| policy | context | seed 1 | seed 2 |" in page
    assert "| Modular() | preamble | 0.5 (0.5) | 0.25 (0.25) |" in page
    assert "| policy | context | fact | 2 documents |" in page


def test_a_page_shows_wordings_apart_where_there_are_several() -> None:
    kinds = [
        answered(about=About("Who?", "fact", 2, 1, number, ("Mira",), wording=wording),
                 outcome=Outcome("Mira", kl))
        for number, (wording, kl) in enumerate((("in training", 0.25), ("held out: rules", 0.5)))
    ]  # fmt: skip
    page = render(rows(*kinds))
    assert page.count("| policy | context | held out: rules | in training |") == 2
    assert "| Modular() | preamble | 0.5 (0.5) | 0.25 (0.25) |" in page
    assert "| policy | context | fact | 2 documents |" in page
    assert "how it is worded" not in render(rows(*kinds[:1]))


def test_the_page_and_its_figures_are_written_beside_the_rows(tmp_path: Path) -> None:
    made = rows(*many())
    write_fidelity(tmp_path / "fidelity" / "rows.json", made)
    main(tmp_path)
    assert (tmp_path / "fidelity.md").read_text() == render(made)
    (figure,) = figures(made)
    first = (tmp_path / "fidelity" / figure).read_bytes()
    assert first.startswith(b"<?xml")
    main(tmp_path)
    assert (tmp_path / "fidelity" / figure).read_bytes() == first
    assert not figures([row(), full()]), "nothing was chosen there"


def test_a_curve_begins_where_nothing_is_computed_again() -> None:
    whole = [each for each in rows(*many()) if each.case == "all" and each.context]
    along = curves(whole)
    assert set(along) == {
        f"{kind}, {context}" for kind in ("Modular", "FirstK", "Exact")
        for context in ("preamble", "bare")
    }  # fmt: skip
    assert [each.policy for each in along["FirstK, bare"]] == [
        "Modular()", "FirstK(k=8)", "FirstK(k=16)"
    ]  # fmt: skip
    assert [each.policy for each in along["Exact, bare"]] == ["Exact()"]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    for nothing in ([full()], [row("Exact()")]):
        with pytest.raises(OptionError, match="no rows of `bench fidelity`"):
            draw(nothing, tmp_path / "figure.svg")
    draw(rows(answered(about=About("What?"))), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_numbers_are_written_as_people_read_them() -> None:
    assert [number(kl) for kl in (0, 2e-13, 3e-7, 0.0123, 1.29, 12.4)] == [
        "0", "<1e-9", "3.0e-07", "0.012", "1.3", "12"
    ]  # fmt: skip
    assert [share(value) for value in (None, 0.0, 0.9749)] == ["-", "0.0 %", "97.5 %"]
    assert points(-0.0123, 0.0) == "-1.2 to +0.0" and points(None, None) == "-"


@pytest.mark.parametrize("columns", [CHECK, FIDELITY])
def test_a_table_fits_a_terminal(columns: list) -> None:  # type: ignore[type-arg]
    policy = "Selective(ratio=0.15, check_layer=1)"
    console = Console(width=80, record=True, file=StringIO())
    console.print(terminal_table([row(policy, "preamble"), full()], columns))
    text = console.export_text()
    assert "…" not in text and "Selective(0.15, 1)" in text


def test_the_fastest_of_what_keeps_the_bound_is_recommended() -> None:
    near = row("FirstK(k=16)", ttft_ratio=0.4, kl=0.001)
    far = row("Modular()", ttft_ratio=0.1, kl=0.5)
    slow = row("Exact()", ttft_ratio=0.9, kl=0.0)
    verdict = Verdict.of([far, slow, near, full()], Bound())
    assert verdict.recommended == near
    assert verdict.kept == [near, slow, full()] and verdict.missed == [far]
    text = " ".join(verdict.lines())
    assert "Recommended: reuse=FirstK(k=16), context='preamble'" in text
    assert "Not kept by Modular() preamble (KL 0.5," in text
    for short in (row(top1=0.9), row(same=False)):
        assert Verdict.of([short, full()], Bound()).recommended == full()
    bare = row(context="bare", ttft_ratio=0.2, kl=0.019)
    assert Verdict.of([bare, row(ttft_ratio=0.21, kl=0.001), full()], Bound()).recommended == row(
        ttft_ratio=0.21, kl=0.001
    ), "nearly as fast, and nearer"
    loose = Verdict.of([far, near, full()], Bound(kl=1.0))
    assert loose.recommended == far


def test_full_prefill_is_recommended_where_nothing_faster_keeps_the_bound() -> None:
    verdict = Verdict.of([row(kl=0.5), row("Exact()", ttft_ratio=1.2), full()], Bound())
    assert "Recommended: reuse=NoReuse(), which computes every prompt in full" in " ".join(
        verdict.lines()
    )


def test_nothing_is_recommended_that_was_not_measured() -> None:
    plain = row(PLAIN, "", ttft_ratio=0.01, kl=0.3, top1=0.9)
    reason = "moves modules, but the model's keys depend on absolute positions."
    refused = {"Modular()": f"Modular {reason}", "FirstK(k=16)": f"FirstK {reason}"}
    exact = row("Exact()", ttft_ratio=0.5, kl=0.0)
    verdict = Verdict.of([plain, exact, full()], Bound(), refused)
    assert verdict.recommended == exact and verdict.plain == plain
    text = " ".join(verdict.lines())
    assert f"Refused: FirstK(k=16); Modular(). FirstK {reason}" in text
    assert "changes more than the bound allows" in text
    in_part = Verdict.of([row(ttft_ratio=0.1), exact, full()], Bound(), refused)
    assert in_part.recommended == exact, "it was not measured on every prompt"
    same = Verdict.of([row(PLAIN, "", kl=0.0), full()], Bound())
    assert "changes nothing" in " ".join(same.lines())


def test_a_bound_that_nothing_can_be_held_against_is_refused() -> None:
    for wrong in ({"kl": -1.0}, {"kl": float("nan")}, {"top1": 1.1}, {"answers": 98.0}):
        with pytest.raises(OptionError, match=r"(max-kl|min-top1|min-answers)=.*expected"):
            Bound(**wrong)
