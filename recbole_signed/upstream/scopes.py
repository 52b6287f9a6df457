"""Which names in a piece of code mean something of its module, and not a local variable; hints of types aside."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def global_names(node: ast.AST) -> list[ast.Name]:
    """Return the nodes of all names in ``node`` that are looked up in (or bound in) the module."""
    finder = _Finder()
    finder.visit(node)
    return finder.found


def bound_names(body: list[ast.stmt] | list[ast.expr]) -> Iterator[str]:
    """Yield the names that statements bind in their own scope, not in those of functions and classes in them."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, _Comprehension):
            # only what := binds leaves a comprehension
            pending += [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
            continue
        pending += ast.iter_child_nodes(node)


class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[ast.Name] = []
        self.scopes: list[tuple[bool, set[str]]] = []  # (of a class, its names)

    def _is_local(self, name: str) -> bool:
        # the names of a class are seen by its own statements, not by its methods
        inner = [names for number, (of_class, names) in enumerate(reversed(self.scopes)) if not of_class or number == 0]
        return any(name in names for names in inner)

    def visit_Name(self, node: ast.Name) -> None:
        if not self._is_local(node.id):
            self.found.append(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node.args, [node.body])

    def _function(self, arguments: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        for default in [*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)]:
            self.visit(default)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        names = {each.arg for each in every if each is not None} | set(bound_names(body))
        for statement in body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Global):
                    names -= set(node.names)
        self._in_scope(False, names, body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for outside in [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]:
            self.visit(outside)
        self._in_scope(True, set(bound_names(node.body)), node.body)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        first = node.generators[0]
        self.visit(first.iter)
        names = set(bound_names([each.target for each in node.generators]))
        inside: list[ast.AST] = [each.iter for each in node.generators[1:]]
        inside += [condition for each in node.generators for condition in each.ifs]
        inside += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._in_scope(False, names, inside)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _in_scope(self, of_class: bool, names: set[str], body: list[ast.AST] | list[ast.stmt] | list[ast.expr]) -> None:
        self.scopes.append((of_class, names))
        for node in body:
            self.visit(node)
        self.scopes.pop()
