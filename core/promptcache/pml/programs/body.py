"""The body of a prompt program: from Python's syntax to the parts of a schema.

Each statement becomes nodes, and what a call asks of them, at once, so that the two cannot differ.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import FunctionType

from promptcache.errors import PMLError, PromptError, kind_of, valid
from promptcache.pml.checks import ROLES
from promptcache.pml.programs.calls import bound, callee_of
from promptcache.pml.programs.expressions import (
    Expression,
    Values,
    condition_of,
    label_of,
    label_of_pattern,
    pattern_of,
)
from promptcache.pml.programs.parts import Part, Piece, Scope, asked, checked, imported, nodes_of
from promptcache.pml.programs.source import Given, Source
from promptcache.pml.prompt import Argument, Import, Turn
from promptcache.pml.tree import Module, Param, Role, Text, Union

Find = Callable[[object], "Source | None"]
"""The source of a prompt program; None for any other value."""

_STATEMENTS = (
    "a prompt program is made of strings, if, match, with role(...), and calls of other programs"
)


def body_of(source: Source, role: object, find: Find) -> list[Part]:
    """The parts of a program's body.

    `role` is the object that `with role(...)` calls. Raises PMLSyntaxError with file and line.
    """
    return _Compiler(source, role, find).block(source.tree.body, Scope(in_module=False))


class _Compiler:
    def __init__(
        self, source: Source, role: object, find: Find, callers: tuple[FunctionType, ...] = ()
    ) -> None:
        self._source = source
        self._role = role
        self._find = find
        self._open = (*callers, source.function)

    def block(self, statements: list[ast.stmt], scope: Scope) -> list[Part]:
        parts: list[Part] = []
        for statement in statements:
            last = scope.last and statement is statements[-1]
            with self._source.placed(statement):
                parts += self._statement(statement, replace(scope, last=last))
        return parts

    def _statement(self, statement: ast.stmt, scope: Scope) -> Iterator[Part]:
        match statement:
            case ast.Pass():
                pass
            case ast.Expr(value=ast.Constant(value=str() as text)):
                yield Part((Text(text),))
            case ast.Expr(value=ast.JoinedStr() as string):
                yield from self._string(string, scope)
            case ast.Expr(value=ast.Name() as name):
                yield from self._argument(name, scope)
            case ast.Expr(value=ast.Call() as call):
                yield self._call(call, scope)
            case ast.If():
                yield self._chain(statement, scope)
            case ast.Match():
                yield self._match(statement, scope)
            case ast.With():
                yield from self._message(statement, scope)
            case _:
                code = ast.unparse(statement).splitlines()[0]
                raise self._source.error(
                    statement, f"{code[:60]!r} cannot stand here: {_STATEMENTS}"
                )

    # Strings and arguments.

    def _string(self, string: ast.JoinedStr, scope: Scope) -> Iterator[Part]:
        """An f-string; outside of modules it is one, called after its first argument."""
        fills = [value for value in string.values if isinstance(value, ast.FormattedValue)]
        if not fills or scope.in_module:
            yield from self._filled(string.values, scope)
            return
        first = fills[0].value
        name = scope.name(label_of(first))
        parts = list(self._filled(string.values, scope.module()))
        yield Part((Module(name, nodes_of(parts)),), lambda values: [imported(name, parts, values)])

    def _filled(self, values: Iterable[ast.expr], scope: Scope) -> Iterator[Part]:
        for value in values:
            if isinstance(value, ast.Constant):
                yield Part((Text(str(value.value)),))
                continue
            assert isinstance(value, ast.FormattedValue)
            if value.conversion != -1 or value.format_spec is not None:
                raise self._source.error(
                    value.value, "an argument stands in a string as it is, without ! or : behind it"
                )
            given = self._given(value.value)
            if given is None or given.length is None:
                raise self._without_length(value.value, given)
            yield self._hole(given, given.length, scope)

    def _hole(self, given: Given, length: int, scope: Scope) -> Part:
        name = scope.name(given.name)
        default = given.default if isinstance(given.default, str) else None

        def ask(values: Values) -> Iterator[Argument]:
            text = values[given.name]
            if isinstance(text, str) and text != default:
                yield Argument(name, text)

        return Part((Param(name, length, default),), ask)

    def _given(self, node: ast.expr) -> Given | None:
        return self._source.given.get(node.id) if isinstance(node, ast.Name) else None

    def _without_length(self, node: ast.expr, given: Given | None) -> PMLError:
        code = ast.unparse(node)
        if given is not None:
            why = f"the argument {code!r} has no length: annotate it Annotated[str, Length(...)]"
        else:
            lengths = [g.name for g in self._source.given.values() if g.length is not None]
            hint = valid(code, lengths, what="arguments with a length")
            why = f"{code[:60]!r} cannot stand in a string: only arguments with a length can{hint}"
        return self._source.error(node, why)

    def _argument(self, name: ast.Name, scope: Scope) -> Iterator[Part]:
        """An argument by itself: a parameter, or the prompt's own text at the very end."""
        given = self._given(name)
        if given is None:
            raise self._source.error(name, f"{name.id!r} cannot stand here: {_STATEMENTS}")
        if given.length is not None:
            value = ast.FormattedValue(name, -1)
            yield from self._string(ast.JoinedStr([value]), scope)
            return
        if not given.is_text:
            raise self._without_length(name, given)
        if scope.in_module or not scope.last or scope.role not in (None, "user"):
            raise self._source.error(
                name,
                f"the argument {name.id!r} has no length, so it is the prompt's own text, which "
                "stands at the end of the outermost function, in no message or the user's: move "
                "it there, or annotate it Annotated[str, Length(...)]",
            )

        def ask(values: Values) -> Iterator[Text]:
            text = values[given.name]
            if not isinstance(text, str):
                raise PromptError(
                    f"{self._source.name}(): {given.name} is {kind_of(text)}, expected text"
                )
            yield Text(text)

        yield Part(ask=ask, own=True)

    # Messages.

    def _message(self, statement: ast.With, scope: Scope) -> Iterator[Part]:
        role = self._role_of(statement)
        if scope.role is not None:
            raise self._source.error(
                statement,
                f"<{role}> stands inside <{scope.role}>: a message does not contain another",
            )
        parts = self.block(statement.body, replace(scope, role=role))
        nodes = nodes_of(parts)
        says = any(isinstance(node, Text) for node in nodes)

        def ask(values: Values) -> list[Piece]:
            pieces = asked(parts, values)
            if not (parts and parts[-1].own) or says or len(pieces) > 1:
                return pieces
            # nothing of the schema has begun the message that the prompt's own text stands in
            return [Turn(role, tuple(piece for piece in pieces if isinstance(piece, Text)))]

        yield Part((Role(role, nodes),) if nodes else (), ask)

    def _role_of(self, statement: ast.With) -> str:
        if len(statement.items) == 1 and statement.items[0].optional_vars is None:
            call = statement.items[0].context_expr
            if isinstance(call, ast.Call) and callee_of(self._source, call) is self._role:
                match call.args, call.keywords:
                    case [ast.Constant(value=str() as role)], []:
                        if role in ROLES:
                            return role
                        raise self._source.error(call, f"{role!r} is no role{valid(role, ROLES)}")
        raise self._source.error(
            statement, "with opens a message: write with role('system'), 'user' or 'assistant'"
        )

    # Modules.

    def _chain(self, statement: ast.If, scope: Scope) -> Part:
        """A module, or, with elif or else, a union."""
        options: list[tuple[Expression, str, list[Part]]] = []
        rest: list[ast.stmt] = [statement]
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            branch = rest[0]
            option = self._option(label_of(branch.test), branch.body, scope)
            options.append((condition_of(self._source, branch.test), *option))
            rest = branch.orelse
        if rest:
            options.append((lambda values: True, *self._option("else", rest, scope)))
        return self._union(options) if len(options) > 1 else self._choice(options)

    def _match(self, statement: ast.Match, scope: Scope) -> Part:
        subject = condition_of(self._source, statement.subject)
        options: list[tuple[Expression, str, list[Part]]] = []
        for case in statement.cases:
            if case.guard is not None:
                raise self._source.error(
                    case.guard, "a case has no if of its own here: use if/elif"
                )
            fits = pattern_of(self._source, case.pattern)
            option = self._option(label_of_pattern(case.pattern), case.body, scope)
            options.append((lambda values, fits=fits: fits(subject(values), values), *option))  # type: ignore[misc]
        return self._union(options)

    def _option(self, label: str, body: list[ast.stmt], scope: Scope) -> tuple[str, list[Part]]:
        return scope.name(label), self.block(body, scope.module())

    def _union(self, options: list[tuple[Expression, str, list[Part]]]) -> Part:
        part = self._choice(options)
        members = tuple(node for node in part.nodes if isinstance(node, Module))
        return replace(part, nodes=(Union(members),))

    def _choice(self, options: list[tuple[Expression, str, list[Part]]]) -> Part:
        """The modules of some options; a call imports the first whose condition holds."""

        def ask(values: Values) -> Iterator[Import]:
            for holds, name, parts in options:
                if holds(values):
                    yield imported(name, parts, values)
                    return

        return Part(tuple(Module(name, nodes_of(parts)) for _, name, parts in options), ask)

    # Calls of other programs.

    def _call(self, call: ast.Call, scope: Scope) -> Part:
        callee = self._find(callee_of(self._source, call))
        code = ast.unparse(call.func)[:60]
        again = callee is not None and callee.function in self._open
        if again or code == self._source.name:
            raise self._source.error(
                call, f"{code}(...) calls itself: modules do not nest for ever"
            )
        if callee is None:
            raise self._source.error(
                call,
                f"{code}(...) cannot be called here: only functions with @schema can, that are "
                "defined before",
            )
        given = bound(self._source, call, callee.signature, code)
        parts = _Compiler(callee, self._role, self._find, self._open).block(
            callee.tree.body, scope.module()
        )
        name = scope.name(callee.name)

        def ask(values: Values) -> list[Piece]:
            inner = {each: value(values) for each, value in given.items()}
            return [imported(name, parts, checked(callee, inner))]

        return Part((Module(name, nodes_of(parts)),), ask)
