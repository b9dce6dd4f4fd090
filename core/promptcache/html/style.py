"""How HTML forms look: two themes and the style sheet that is made of them.

The dark theme is that of the reader's system, unless JupyterLab, VS Code or a page in the style
of mkdocs-material says which of the two it shows. Kinds of spans differ in a sign and in the line
under them as well as in colour; every text has a contrast of 4.5 to 1 at least, which a test
computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCOPE = "promptcache"
"""The class that all our style is scoped by."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as `#rrggbb`: of the page, of text, of text of less weight, and of thin lines.

    `fills` are what kinds of spans are written on, `edges` the lines under them.
    """

    page: str
    ink: str
    quiet: str
    line: str
    fills: Mapping[str, str]
    edges: Mapping[str, str]

    def variables(self) -> str:
        """The colours as CSS variables."""
        plain = {"page": self.page, "ink": self.ink, "quiet": self.quiet, "line": self.line}
        fills = {f"{kind}-fill": colour for kind, colour in self.fills.items()}
        edges = {f"{kind}-edge": colour for kind, colour in self.edges.items()}
        named = (plain | fills | edges).items()
        return "".join(f"--pc-{name}:{colour};" for name, colour in named)


LIGHT = Theme(
    page="#ffffff",
    ink="#1b1f24",
    quiet="#57606a",
    line="#c5ccd3",
    fills={
        "exact": "#b7e4c0",
        "approximate": "#bfdcf5",
        "encoded": "#f5e6a3",
        "recomputed": "#ead0f0",
        "new": "#ffffff",
    },
    edges={
        "exact": "#1a7f37",
        "approximate": "#0a5fc0",
        "encoded": "#8a5d00",
        "recomputed": "#7b3fa0",
        "new": "#57606a",
    },
)
DARK = Theme(
    page="#16191d",
    ink="#eceff2",
    quiet="#a3adb8",
    line="#3b434c",
    fills={
        "exact": "#1d4f2e",
        "approximate": "#1b466d",
        "encoded": "#584710",
        "recomputed": "#573162",
        "new": "#16191d",
    },
    edges={
        "exact": "#3fb950",
        "approximate": "#58a6ff",
        "encoded": "#d8a32c",
        "recomputed": "#c792ea",
        "new": "#a3adb8",
    },
)
SIGNS = {"exact": "=", "approximate": "≈", "encoded": "+", "recomputed": "↻", "new": ""}
"""What stands before a span of each kind; it is no part of the text, and is not copied with it."""
_LINES = {
    "exact": "solid",
    "approximate": "dashed",
    "encoded": "double",
    "recomputed": "dotted",
    "new": "none",
}
_SAYS_LIGHT = (
    '[data-jp-theme-light="true"]',
    '[data-vscode-theme-kind="vscode-light"]',
    '[data-vscode-theme-kind="vscode-high-contrast-light"]',
    '[data-md-color-scheme="default"]',
)
_SAYS_DARK = (
    '[data-jp-theme-light="false"]',
    '[data-vscode-theme-kind="vscode-dark"]',
    '[data-vscode-theme-kind="vscode-high-contrast"]',
    '[data-md-color-scheme="slate"]',
)


def _where(hosts: tuple[str, ...]) -> str:
    return ",".join(f"{host} .{SCOPE}" for host in hosts)


def _kind(kind: str) -> str:
    sign = SIGNS[kind]
    before = f'.{SCOPE} .pc-{kind}::before{{content:"{sign}"}}' if sign else ""
    return (
        f".{SCOPE} .pc-{kind}{{--pc-fill:var(--pc-{kind}-fill);"
        f"--pc-under:2px {_LINES[kind]} var(--pc-{kind}-edge);"
        f"background:var(--pc-fill);border-bottom:var(--pc-under)}}{before}"
        f".{SCOPE} .pc-bar .pc-{kind}{{fill:var(--pc-{kind}-edge)}}"
    )


_RULES = """
.S{position:relative;background:var(--pc-page);color:var(--pc-ink);padding:.6em .8em;
 font:14px/1.6 system-ui,sans-serif;border:1px solid var(--pc-line);border-radius:4px}
.S p,.S ul{margin:.3em 0}
.S .pc-quiet,.S summary{color:var(--pc-quiet)}
.S summary{cursor:pointer}
.S .pc-legend{list-style:none;padding:0}
.S .pc-legend li{margin:.2em 0}
.S .pc-legend b{font-weight:600}
.S .pc-bar{display:block;box-sizing:border-box;width:100%;height:10px;margin:.5em 0;
 border:1px solid var(--pc-line)}
.S .pc-text{white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,monospace;
 font-size:13px;line-height:1.8;margin:.6em 0}
.S .pc-span{border-radius:2px}
.S .pc-span::before,.S .pc-key::before{font:600 .8em system-ui,sans-serif;padding:0 .25em}
.S .pc-missed::after{content:"!";font:600 .8em system-ui,sans-serif;padding:0 .25em}
.S .pc-key{padding:0 .3em .1em;border-radius:2px}
.S :focus-visible{outline:2px solid var(--pc-approximate-edge);outline-offset:1px}
.S .pc-span:hover::after,.S .pc-span:focus::after{content:attr(data-facts);position:absolute;
 left:1em;margin-top:2.2em;z-index:9;white-space:pre-wrap;max-width:calc(100% - 4em);
 padding:.4em .7em;font:12px/1.5 system-ui,sans-serif;background:var(--pc-ink);
 color:var(--pc-page);border-radius:4px;pointer-events:none}
.S details.pc-fold,.S details.pc-fold[open]{display:inline}
.S details.pc-fold summary{display:inline;list-style:none;color:inherit;
 border:1px dashed currentColor;border-radius:4px;padding:0 .4em;
 font:12px system-ui,sans-serif}
.S details.pc-fold::details-content{display:inline}
.S .pc-rest{background:var(--pc-fill);border-bottom:var(--pc-under)}
.S details.pc-fold summary::-webkit-details-marker{display:none}
.S table{border-collapse:collapse;margin:.4em 0;font-size:13px;color:inherit}
.S tr,.S tr:nth-child(even){background:transparent}
.S th,.S td{text-align:left;vertical-align:top;padding:.15em .7em .15em 0;max-width:34em;
 overflow-wrap:break-word;border:0;color:inherit;background:transparent}
.S thead th{white-space:nowrap}
.S .pc-wide{overflow-x:auto}
.S .pc-number{text-align:right;white-space:nowrap}
.S .pc-tree,.S .pc-tree ul{list-style:none;padding-left:1.1em;
 border-left:1px solid var(--pc-line);margin:.1em 0 .1em .3em}
.S .pc-tree .pc-excerpt{font-family:ui-monospace,monospace;font-size:13px;white-space:pre-wrap;
 overflow-wrap:anywhere}
.S .pc-tree summary b{color:var(--pc-ink)}
"""

CSS = (
    f".{SCOPE}{{{LIGHT.variables()}}}"
    f"@media (prefers-color-scheme:dark){{.{SCOPE}{{{DARK.variables()}}}}}"
    f"{_where(_SAYS_LIGHT)}{{{LIGHT.variables()}}}"
    f"{_where(_SAYS_DARK)}{{{DARK.variables()}}}"
    + _RULES.replace(".S", f".{SCOPE}").replace("\n", "")
    + "".join(map(_kind, SIGNS))
)
"""The whole style sheet, with nothing to load and no rule outside of our class."""
