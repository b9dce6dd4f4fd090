"""Inputs that are made to break parsers: valid ones and hostile ones, changed at random.

Each follows from its number alone, so what one of a million did can be looked at again:

    python -m support.fuzzing --first 123456 --count 1
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm.auto import tqdm

from promptcache.errors import PromptCacheError
from promptcache.pml import Prompt, Schema, parse_prompt, parse_schema, resolve, write
from promptcache.segments import Kind, joined
from promptcache.text.recognize import Recognizer
from promptcache.text.trie import GRAM

TRIP = """<schema name="trip">
  <system>You plan trips.</system>
  <user>
    <module name="plan">A trip of <param name="days" len="4" default="3 days"/>
      <module name="note" cache="false">Mind the <param name="what" len="6"/>.</module></module>
    <union name="where" default="maui"><module name="miami">Miami is hot &amp; loud.</module>
      <module name="maui"><![CDATA[Maui <is> an island.]]></module></union>
    <collection name="docs" separator="&#10;--&#10;"/>
  </user>
  <scaffold name="both" modules="plan miami"/>
</schema>"""
VALID = [
    TRIP,
    '<schema name="s"><module name="m" encoding="base64">AGEA</module></schema>',
    '<schema name="s"><text src="rules.txt"/><module name="m" src="rules.txt"/></schema>',
    '<schema name="s" xml:space="preserve"> a <module name="m"> b </module> c </schema>',
    "<schema name='s'><module name='é'>日本</module><assistant>x</assistant></schema>",
    '<prompt schema="trip"><plan days="2"><note><arg name="what">rain</arg></note></plan>'
    '<miami/><docs><doc key="k"/><doc key="l"/></docs>What now?</prompt>',
    '<prompt schema="trip"><user>Hello</user><assistant>Yes.</assistant><maui/></prompt>',
    '<prompt schema="s"><m/>Why?<!-- because --></prompt>',
    "<schema name='s'>" + "<module name='m'>" * 99 + "x" + "</module>" * 99 + "</schema>",
    '<?xml version="1.0" encoding="utf-7"?><schema name="s">+ADw-</schema>',
    '<prompt schema="s">\n  <m>\n  </m>\n  <text encoding="base64">AA==</text>\n</prompt>',
]
ENTITIES = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
HOSTILE = [
    f'<!DOCTYPE s [<!ENTITY e0 "ha">{ENTITIES}]><schema name="s">&e9;</schema>',
    '<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><schema name="s">&x;</schema>',
    '<!DOCTYPE s [<!ENTITY % p SYSTEM "http://127.0.0.1/x">%p;]><prompt schema="s"/>',
    '<!DOCTYPE schema SYSTEM "http://127.0.0.1/x.dtd"><schema name="s"/>',
    '<schema name="s"><text src="../../../../etc/passwd"/></schema>',
    '<schema name="s"><text src="outside"/><text src="/etc/passwd"/><text src="."/></schema>',
    '<schema xmlns:xi="http://www.w3.org/2001/XInclude" name="s"><xi:include href="x"/></schema>',
    "<schema name='s'>" + "<user>" * 150 + "deep" + "</user>" * 150 + "</schema>",
    "<schema name='s'><module name='m'>a<param name='p' len='999999999'/></module></schema>",
    "<schema name='s'>\x00\ud800\udfff\ufffe</schema>",
    "\ufeff<prompt schema='s'>\u202e\u200b</prompt>",
    "<prompt schema='s'>" + "<m/>" * 300 + "</prompt>",
]  # fmt: skip
SPLICES = [
    *("<schema name='s'>", "</schema>", "<prompt schema='s'>", "</prompt>", "<m>", "</m>", "<m/>"),
    *("<module name='m'>", "</module>", "<union>", "<union default='m'>", "</union>", "<user>"),
    *("</user>", "<system/>", "<assistant>", "<param name='p' len='1'/>", "<collection name='c'/>"),
    *("<arg name='days'>", "</arg>", "<doc key='k'/>", "<text>", "</text>", "<text src='x'/>"),
    *("<scaffold name='f' modules='plan maui'/>", " encoding='base64'", " xml:space='preserve'"),
    *("<!--", "-->", "--", "<![CDATA[", "]]>", "<?pi?>", "<!DOCTYPE x>", "<!ENTITY a 'b'>"),
    *("&amp;", "&x;", "&#0;", "&#x110000;", "&#xD800;", "%x;", "&", "<", ">", "'", '"', "=", "/"),
    *("\x00", "\x0b", "\x7f", "\x85", "\ud800", "\udc00", "\ufffe", "\U0010ffff", "\u2028", "\r\n"),
    *(" ", "\t", "\n", "\u00a0", "words", "0", "-1", "1e9", "__class__", "{}", "%s", "\\"),
]  # fmt: skip
WHOLE = [
    *("<maui/>", "<miami/>", "<plan/>", "<plan days='9'/>", "<note what='x'/>", "<m>b</m>"),
    *("<docs><doc key='k'/></docs>", "<doc key='l'/>", "<docs/>", "<!-- c -->", "<![CDATA[<x>]]>"),
    *("<module name='a'>A</module>", "<module name='plan'/>", "<param name='p' len='3'/>", "&#10;"),
    *("<union><module name='u'>U</module></union>", "<collection name='more'/>", "<user>u</user>"),
    *("<text>t</text>", "<assistant><plan/></assistant>", "<arg name='days'>7</arg>", "\n  "),
    *("<text encoding='base64'>AGE=</text>", "<scaffold name='f' modules='plan maui'/>"),
]  # fmt: skip
"""Markup that is well-formed by itself."""
BOUNDARY = re.compile(r"(?=<)|(?<=>)")
DOCUMENTS = {"k": "The first document.", "l": "<module name='m'>is text</module>"}
LIBRARY = [
    "The museum opens at nine and closes at five, on Mondays never.",
    "The museum opens at nine and closes at ten, in summer only.",
    "The museum opens at nine and closes at five, on Mondays never. Dogs stay outside.",
    'He said "<it\'s> a & b"\nand\tleft; {{mustache}} &amp; more.',
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababababababababababababababababababababababababababab",
    "\u00c5ngstr\u00f6m \u0130stanbul \ufb01ne \u1e9e \U0001f600 \u200d\u202e and more text",
    "\x00\x01\ud800 no text at all, and still it is looked for \udfff\x00",
    " \n  white space at the edges of a document \u00a0\u3000 ",
]
GIANT = 1_000_001
"""Characters: one more than an attribute may hold."""
LONGEST_MESSAGE = 2_000
"""Characters of an error's message, whatever is wrong."""
RARE = 2_000
"""One input of so many is giant."""


def changed(text: str, rng: random.Random, others: list[str]) -> str:
    """A text after a few random changes."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        begin = rng.randint(0, len(text))
        end = min(len(text), begin + rng.choice((0, 1, 2, 8, 40)))
        kind = rng.randrange(10)
        if kind == 0:
            text = text[:begin] + text[end:]
        elif kind == 1:
            text = text[:begin] + text[begin:end] * rng.choice((2, 3, 20)) + text[end:]
        elif kind == 2:
            other = rng.choice(others)
            start = rng.randint(0, len(other))
            text = text[:begin] + other[start : start + rng.choice((1, 9, 60))] + text[end:]
        elif kind == 3:
            text = (
                text[:begin]
                + chr(rng.choice((rng.randrange(128), rng.randrange(0x110000))))
                + (text[end:])
            )
        elif kind == 4:
            text = text[:begin] + rng.choice(SPLICES) + text[begin:]
        elif places := [match.start() for match in BOUNDARY.finditer(text[:2_000])]:
            begin = rng.choice(places)
            text = text[:begin] + rng.choice(WHOLE) + text[begin:]
    return text


def giant(rng: random.Random) -> str:
    """Markup of which something is far too large."""
    kind = rng.randrange(5)
    if kind == 0:
        return f"<schema name='s'><module name='{'x' * GIANT}'>a</module></schema>"
    if kind == 1:
        return f"<prompt schema='trip'><plan days='{'9' * GIANT}'/></prompt>"
    if kind == 2:
        depth = rng.choice((101, 1_000, 30_000))
        return "<schema name='s'>" + "<user>" * depth
    if kind == 3:
        many = " ".join(f"a{i}=''" for i in range(5_000))
        return f"<schema name='s' {many}/>"
    return "<prompt schema='trip'>" + "<plan/>" * 5_000 + "x" * GIANT + "</prompt>"


class Fuzz:
    """Hands inputs to what reads text of users; raises whatever is no error of promptcache."""

    def __init__(self, folder: Path) -> None:
        folder.joinpath("rules.txt").write_text("Shoes off.\n")
        folder.joinpath("outside").symlink_to("/etc/passwd")
        self._folder = folder
        self._schema = parse_schema(TRIP)
        self.outcomes: Counter[str] = Counter()

    def one(self, number: int) -> None:
        """Try the input of a number."""
        rng = random.Random(number)
        if number % 3:
            text = giant(rng) if rng.randrange(RARE) == 0 else None
            self._markup(text or changed(rng.choice(MARKUP), rng, MARKUP), number)
        else:
            self._recogniser(rng)

    def _markup(self, text: str, number: int) -> None:
        for parse in (parse_schema, parse_prompt):
            try:
                value = (
                    parse_schema(text, base=self._folder if number % 2 else None)
                    if parse is parse_schema
                    else parse_prompt(text)
                )
            except PromptCacheError as error:
                self._refused(error, parse.__name__)
                continue
            self.outcomes[f"a {type(value).__name__}"] += 1
            assert parse(write(value)) == value
            if isinstance(value, Prompt):
                self._resolved(self._schema, value)
            else:
                assert "root:" not in text_of(value), "a file from outside"
                self._resolved(value, Prompt(value.name, ()))

    def _resolved(self, schema: Schema, prompt: Prompt) -> None:
        try:
            resolve(schema, prompt, DOCUMENTS)
        except PromptCacheError as error:
            self._refused(error, "resolve")
        else:
            self.outcomes["messages"] += 1

    def _refused(self, error: PromptCacheError, where: str) -> None:
        assert len(str(error)) < LONGEST_MESSAGE
        self.outcomes[f"{type(error).__name__} of {where}"] += 1

    def _recogniser(self, rng: random.Random) -> None:
        recognizer = Recognizer()
        texts: dict[str, str] = {}
        for place in range(rng.randint(1, 5)):
            text = changed(rng.choice(LIBRARY), rng, LIBRARY)
            with suppress(PromptCacheError):
                if recognizer.add(str(place), text) == str(place):
                    texts[str(place)] = text
        if texts and rng.random() < 0.3:
            gone = rng.choice(sorted(texts))
            assert recognizer.remove(gone)
            del texts[gone]
        known = [*texts.values(), rng.choice(LIBRARY), rng.choice(SPLICES)]
        parts = [rng.choice(known) for _ in range(rng.randint(0, 6))]
        prompt = changed(rng.choice(("", " ", "\n\n")).join(parts), rng, LIBRARY)
        segments = recognizer.recognise(prompt)
        assert joined(segments) == prompt
        found = [segment for segment in segments if segment.kind is Kind.MODULE]
        for segment in found:
            assert segment.text in (texts[segment.module], texts[segment.module].strip())
        if texts and not found:
            assert not any(t.strip() in prompt for t in texts.values() if len(t.strip()) >= GRAM)
        for name in texts:
            recognizer.explain(prompt, name)
        recognizer.in_part(prompt)
        recognizer.spoiled(prompt, {segment.module for segment in found})
        self.outcomes[f"{len(found)} documents found"] += 1


MARKUP = [*VALID, *VALID, *VALID, *HOSTILE]


def text_of(schema: Schema) -> str:
    """Everything that a schema says, and how."""
    return repr(schema.children)


def run(first: int, count: int) -> Iterator[tuple[int, str]]:
    """Try inputs, with a bar; the numbers of those that break something, and how."""
    slowest, longest = first, 0.0
    with TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder))
        for number in tqdm(range(first, first + count), unit="input", mininterval=5):
            began = time.process_time()
            try:
                fuzz.one(number)
            except Exception:
                yield number, traceback.format_exc()
            if (took := time.process_time() - began) > longest:
                slowest, longest = number, took
    for outcome, times in sorted(fuzz.outcomes.items()):
        print(f"{times:>10,}  {outcome}")
    print(f"the slowest, {slowest}, took {longest:.3f} s")


def main() -> None:
    """Try so many inputs from a number on; status 1 if one breaks something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1_000_000)
    arguments = parser.parse_args()
    broken = 0
    for number, how in run(arguments.first, arguments.count):
        broken += 1
        print(f"input {number}:\n{how}", flush=True)
        if broken == 20:
            break
    print(f"{arguments.count:,} inputs from {arguments.first:,} on: {broken} broke something")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
