"""What came of registering documents: how many were known, encoded, left out, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from promptcache.html import block, facts_table


@dataclass(frozen=True, slots=True)
class CachedDocuments:
    """What `cache_documents` did, in documents; `tokens` and `nbytes` are the encoded ones'.

    keys: what PML prompts call them; added: registered now; known: registered before, or twice
    among these; skipped: without text; too_short: found by their key only, not in plain text;
    encoded: run through the model now; too_long: not encoded, since no prompt could hold them;
    not_kept: encoded, and evicted or never kept, because the store's budget is too small.
    """

    keys: tuple[str, ...] = field(default=(), repr=False)
    added: int = 0
    known: int = 0
    skipped: int = 0
    too_short: int = 0
    encoded: int = 0
    too_long: int = 0
    not_kept: int = 0
    tokens: int = 0
    nbytes: int = 0

    def _repr_html_(self) -> str:
        counts = {
            "registered now": self.added,
            "known before": self.known,
            "encoded now": self.encoded,
            "without text": self.skipped,
            "too short to be looked for in plain text": self.too_short,
            "too long for the model's window": self.too_long,
            "encoded, not kept: the store is too small": self.not_kept,
        }
        facts = {what: f"{count:,} documents" for what, count in counts.items() if count}
        size = f"{self.tokens:,} tokens, {self.nbytes / 1e6:,.1f} MB"
        return block(facts_table(facts | {"attention states made": size}))
