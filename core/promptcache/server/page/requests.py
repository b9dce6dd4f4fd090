"""The last requests on the page: a line for each, and behind it its answer and its trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from promptcache.bench.tables import duration
from promptcache.html import Html, element, facts_table, joined
from promptcache.reply import reply_html
from promptcache.server.page.tables import moment
from promptcache.server.visits import Visit

EXCERPT = 80
"""Characters of an answer, or of an error, in the line of its request."""


def requests_list(visits: Iterable[Visit]) -> Html:
    """The requests, each folded; what is behind is asked for when one is unfolded."""
    return element("ol", *map(_request, visits), data_part="requests")


def _request(visit: Visit) -> Html:
    where = element("code", visit.path)
    folded = element("summary", moment(visit.at), " ", where, " ", *_outcome(visit))
    inside = element("div", class_="trace", data_of=visit.id)
    return element("li", element("details", folded, inside), id=f"request-{visit.id}")


def _outcome(visit: Visit) -> Sequence[Html | str]:
    if visit.reply is None:
        return element("strong", f"failed, {visit.status}"), ": ", _excerpt(_why(visit))
    usage = visit.reply.usage
    said = (
        f"first token after {duration(visit.reply.ttft)}, "
        f"{usage.reused_tokens:,} of {usage.input_tokens:,} tokens reused: "
    )
    unfinished = (element("strong", "failed after that"), ": ") if visit.error else ()
    return said, *unfinished, element("q", _excerpt(visit.reply.text))


def request_page(visit: Visit) -> Html:
    """What there is to say of one request: where and why it failed; its answer and its trace."""
    facts = {
        "address": f"{visit.method} {visit.path}",
        "status": str(visit.status),
        "took": duration(visit.seconds),
        "name": visit.id,
    }
    if visit.error is not None or visit.reply is None:
        error = visit.error or {}
        facts |= {
            "error": _why(visit),
            "field": error.get("param") or "",
            "code": error.get("code") or "",
        }
    if visit.reply is not None:
        facts["policy"] = visit.reply.policy
    told = facts_table({name: said for name, said in facts.items() if said})
    return joined([told] if visit.reply is None else [reply_html(visit.reply), told])


def _why(visit: Visit) -> str:
    if visit.error is not None:
        return visit.error["message"] or ""
    return "its client went away"


def _excerpt(text: str) -> str:
    flat = " ".join(text[: 2 * EXCERPT].split())
    return flat if len(flat) < EXCERPT else f"{flat[: EXCERPT - 1]}…"
