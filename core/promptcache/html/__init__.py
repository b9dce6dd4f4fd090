"""HTML forms, as notebooks show them: elements that escape what they hold, in one style.

Everything is plain HTML with one `<style>`, scoped by a class: no scripts and nothing to load.
Knows nothing of what is shown.
"""

from promptcache.html.elements import Html, element, facts_table, joined, rows_table
from promptcache.html.style import CSS, DARK, LIGHT, SCOPE, Theme

__all__ = [
    "CSS",
    "DARK",
    "LIGHT",
    "SCOPE",
    "Html",
    "Theme",
    "block",
    "element",
    "facts_table",
    "joined",
    "rows_table",
]


def block(*children: str) -> str:
    """A whole HTML form: its style, and what it holds. Text that is no `Html` is escaped."""
    return str(element("div", element("style", Html(CSS)), joined(children), class_=SCOPE))
