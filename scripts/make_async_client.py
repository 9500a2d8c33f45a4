"""Writes the asynchronous client, ``clients/python/atelier_client/aio``, from the synchronous one.

``python -m scripts.make_async_client`` writes it, ``--check`` says whether it is what it would write. The modules below
are read as syntax trees: whatever calls something asynchronous becomes asynchronous, ``with`` and ``for`` included, and
what stays as it is, is imported instead of copied. Comments and the order of the code are kept.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "clients/python/atelier_client"
TARGET = SOURCE / "aio"
MODULES = (
    "transport", "calls", "downloads", "waiting", "watching", "activity", "adapters", "captions", "datasets",
    "generations", "sharing", "steps", "training", "client",
)  # fmt: skip
"""Those with calls in them."""

Kind = Literal["coroutine", "iterator", "context"]
"""What a call of a function gives: to be awaited, or to be used by ``async for`` or ``async with``."""

OUTSIDE: dict[str, Kind] = {
    # Of the libraries, as the source writes them.
    "time.sleep": "coroutine",
    "response.read": "coroutine",
    "self.http.send": "coroutine",
    "self._transport.http.close": "coroutine",
    "response.iter_bytes": "iterator",
    "httpx_sse.EventSource(response).iter_sse": "iterator",
    "contextlib.closing": "context",
    # Parameters and variables that hold calls.
    "call": "coroutine",
    "fetch": "coroutine",
    "source": "iterator",
}
RENAMED = {
    "time.sleep": "asyncio.sleep",
    "response.read": "response.aread",
    "self._transport.http.close": "self._transport.http.aclose",
    "response.iter_bytes": "response.aiter_bytes",
    "httpx_sse.EventSource(response).iter_sse": "httpx_sse.EventSource(response).aiter_sse",
    "contextlib.closing": "contextlib.aclosing",
}
NAMES = {"AtelierClient": "AsyncAtelierClient", "Client": "AsyncClient", "BaseTransport": "AsyncBaseTransport"}
METHODS = {"__enter__": "__aenter__", "__exit__": "__aexit__", "__iter__": "__aiter__"}
TYPES = {
    "Iterator": "AsyncIterator",
    "Generator": "AsyncGenerator",
    "AbstractContextManager": "AbstractAsyncContextManager",
    "contextmanager": "asynccontextmanager",
}
FIRST_PARTY = ("--config", "lint.isort.known-first-party=['atelier_client']")
HEADER = '"""Made from ``atelier_client.{0}`` by ``scripts/make_async_client.py``: change that, and run it again."""\n'
IMPORTS = (
    "import asyncio\nfrom collections.abc import AsyncGenerator, AsyncIterator, Awaitable\n"
    "from contextlib import AbstractAsyncContextManager\n"
)

Function = ast.FunctionDef
Definition = ast.FunctionDef | ast.ClassDef


@dataclass
class Module:
    """A module of the source. ``kinds``: of its functions; methods of all classes share one space of names."""

    name: str
    text: str
    tree: ast.Module
    functions: list[Function] = field(default_factory=list)


def main() -> int:
    """0 if the files are as they should be."""
    made = make_all()
    there = {path.name: path.read_text() for path in TARGET.glob("*.py")} if TARGET.exists() else {}
    if sys.argv[1:] == ["--check"]:
        wrong = sorted(name for name in {*made, *there} if made.get(name) != there.get(name))
        if wrong:
            print(f"{', '.join(wrong)}: run python -m scripts.make_async_client", file=sys.stderr)
        return int(bool(wrong))
    TARGET.mkdir(exist_ok=True)
    for name in {*there} - {*made}:
        (TARGET / name).unlink()
    for name, text in made.items():
        (TARGET / name).write_text(text)
    return 0


def make_all() -> dict[str, str]:
    """File name -> content."""
    modules = [read_module(name) for name in MODULES]
    kinds = classify(modules)
    changed = {module.name: find_changed(module, list(find_edits(module, kinds))) for module in modules}
    names = {name: {node.name for node in nodes} for name, nodes in changed.items()}
    made = {
        f"{module.name}.py": tidy(convert(module, kinds, changed[module.name], names), module.name)
        for module in modules
    }
    return {"__init__.py": '"""The asynchronous client, made from the synchronous one."""\n', **made}


def read_module(name: str) -> Module:
    text = (SOURCE / f"{name}.py").read_text()
    tree = ast.parse(text)
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    return Module(name, text, tree, functions)


def classify(modules: list[Module]) -> dict[str, Kind]:
    """The kinds of all functions that become asynchronous, by name, once nothing more follows from them."""
    kinds: dict[str, Kind] = {}
    while True:
        known = dict(kinds)
        for module in modules:
            for function in module.functions:
                kind = find_kind(function, known)
                if kind is not None:
                    kinds[function.name] = kind
        if kinds == known:
            return kinds


def find_kind(function: Function, kinds: dict[str, Kind]) -> Kind | None:
    if is_asynchronous(function, kinds):
        if any("contextmanager" in ast.unparse(one) for one in function.decorator_list):
            return "context"
        return "iterator" if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own(function)) else "coroutine"
    for node in own(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            kind = kind_of(node.value, kinds)
            if kind in ("iterator", "context"):
                return kind
    return None


def is_asynchronous(function: Function, kinds: dict[str, Kind]) -> bool:
    """Whether it needs ``async def``."""
    if function.name in ("__enter__", "__exit__"):
        return True
    return any(needs_async(node, kinds) for node in own(function))


def needs_async(node: ast.AST, kinds: dict[str, Kind]) -> bool:
    match node:
        case ast.Call():
            return kind_of(node, kinds) == "coroutine"
        case ast.With():
            return any(kind_of(item.context_expr, kinds) == "context" for item in node.items)
        case ast.For(iter=source) | ast.comprehension(iter=source):
            return kind_of(source, kinds) == "iterator"
        case ast.YieldFrom():
            return kind_of(node.value, kinds) == "iterator"
    return False


def own(function: Function) -> Iterator[ast.AST]:
    """The nodes of its body, without those of the functions and lambdas in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def kind_of(node: ast.AST, kinds: dict[str, Kind]) -> Kind | None:
    """Of the value of an expression. Lists and dicts have methods of the same names as the transport."""
    if isinstance(node, ast.Name):
        return "iterator" if node.id == "self" else None
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    if called in OUTSIDE:
        return OUTSIDE[called]
    if isinstance(node.func, ast.Name):
        return kinds.get(called)
    receiver, _, name = called.rpartition(".")
    ours = ("self", "self._transport", "self.transport", "self._client")
    is_ours = receiver in ours or receiver.startswith(("Watch(", "StateWatch("))
    return kinds.get(name) if is_ours else None


# --- below: the text ------------------------------------------------------------------------------------------


def find_changed(module: Module, edits: list["Edit"]) -> list[Definition]:
    """What is written anew, of the definitions of a module: calls of a resource also where none of them waits."""
    return [
        node
        for node in module.tree.body
        if isinstance(node, Definition)
        and (
            any(node.lineno <= edit.line <= (node.end_lineno or 0) for edit in edits)
            or (isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Calls") for base in node.bases))
        )
    ]


def convert(module: Module, kinds: dict[str, Kind], changed: list[Definition], names: dict[str, set[str]]) -> str:
    """What changes, behind the imports; the rest is imported from the source. ``names``: what changes, by module."""
    edits = list(find_edits(module, kinds))
    text = module.text.encode()
    starts = [0]
    for line in module.text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    ends = [starts[node.end_lineno or 0] for node in changed]
    bodies = [text[starts[first_line(node) - 1] : end] for node, end in zip(changed, ends, strict=True)]
    for edit in sorted(edits, key=lambda edit: (edit.line, edit.column, edit.length), reverse=True):
        at = starts[edit.line - 1] + edit.column
        for number, node in enumerate(changed):
            if first_line(node) <= edit.line <= (node.end_lineno or 0):
                place = at - starts[first_line(node) - 1]
                bodies[number] = bodies[number][:place] + edit.text.encode() + bodies[number][place + edit.length :]
    kept = {name for node in module.tree.body if node not in changed for name in list_defined(node)}
    shared = f"from atelier_client.{module.name} import {', '.join(sorted(kept))}\n" if kept else ""
    imports, for_types = list_imports(module, names)
    return HEADER.format(module.name) + imports + IMPORTS + shared + for_types + "\n\n" + b"\n\n".join(bodies).decode()


@dataclass(frozen=True)
class Edit:
    """``length`` bytes from there become ``text``."""

    line: int
    column: int
    length: int
    text: str


def find_edits(module: Module, kinds: dict[str, Kind]) -> Iterator[Edit]:
    for function in module.functions:
        if function.name in kinds or function.name in METHODS:
            yield from edit_signature(function, kinds)
        for node in own(function):
            yield from edit_node(node, function, kinds)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and (new := RENAMED.get(ast.unparse(node.func))) is not None:
            yield replace(node.func, new)
        elif isinstance(node, ast.Name | ast.Attribute | ast.Constant):
            yield from rename(node)
        elif isinstance(node, ast.ClassDef) and node.name in NAMES:
            yield Edit(node.lineno, node.col_offset + len("class "), len(node.name), NAMES[node.name])


def edit_signature(function: Function, kinds: dict[str, Kind]) -> Iterator[Edit]:
    if is_asynchronous(function, kinds):
        yield Edit(function.lineno, function.col_offset, 0, "async ")
    if (name := METHODS.get(function.name)) is not None:
        yield Edit(function.lineno, function.col_offset + len("def "), len(function.name), name)
    places: list[ast.AST | None] = [function.returns, *function.decorator_list]
    places += [node.annotation for node in own(function) if isinstance(node, ast.AnnAssign)]
    for place in filter(None, places):
        yield from rename_types(place)
    for argument in function.args.args:
        if argument.arg in ("call", "fetch") and isinstance(argument.annotation, ast.Subscript):
            returned = argument.annotation.slice.elts[-1]  # type: ignore[attr-defined]  # of Callable[[...], returned]
            yield replace(returned, f"Awaitable[{ast.unparse(returned)}]")
        elif argument.arg == "source" and argument.annotation is not None:
            yield from rename_types(argument.annotation)


def rename_types(place: ast.AST) -> Iterator[Edit]:
    for node in ast.walk(place):
        if isinstance(node, ast.Name) and node.id in TYPES:
            yield replace(node, TYPES[node.id])
        elif isinstance(node, ast.Attribute) and node.attr in TYPES:
            yield replace(node, f"{ast.unparse(node.value)}.{TYPES[node.attr]}")


def edit_node(node: ast.AST, function: Function, kinds: dict[str, Kind]) -> Iterator[Edit]:
    if isinstance(node, ast.YieldFrom):
        statement = node.parent  # type: ignore[attr-defined]
        word = "async for" if kind_of(node.value, kinds) == "iterator" else "for"
        if is_asynchronous(function, kinds):
            indent = " " * (statement.col_offset + 4)
            yield Edit(node.lineno, node.col_offset, len("yield from"), f"{word} one in")
            yield Edit(node.end_lineno or 0, node.end_col_offset or 0, 0, f":\n{indent}yield one")
        return
    if not needs_async(node, kinds):
        return
    if isinstance(node, ast.Call):
        is_inner = isinstance(node.parent, ast.Attribute | ast.Subscript)  # type: ignore[attr-defined]
        yield Edit(node.lineno, node.col_offset, 0, "(await " if is_inner else "await ")
        if is_inner:
            yield Edit(node.end_lineno or 0, node.end_col_offset or 0, 0, ")")
    elif isinstance(node, ast.comprehension):
        yield Edit(node.target.lineno, node.target.col_offset - len("for "), 0, "async ")
    elif isinstance(node, ast.With | ast.For):
        yield Edit(node.lineno, node.col_offset, 0, "async ")


def rename(node: ast.Name | ast.Attribute | ast.Constant) -> Iterator[Edit]:
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield replace(node, NAMES[node.id])
    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "httpx" and node.attr in NAMES:
        yield replace(node, f"httpx.{NAMES[node.attr]}")
    elif isinstance(node, ast.Constant) and node.value in NAMES:
        yield replace(node, f'"{NAMES[node.value]}"')


def replace(node: ast.expr, text: str) -> Edit:
    assert node.lineno == node.end_lineno, ast.unparse(node)
    return Edit(node.lineno, node.col_offset, (node.end_col_offset or 0) - node.col_offset, text)


def first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def list_defined(node: ast.stmt) -> Iterator[str]:
    """Of one statement of a module."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def list_imports(module: Module, names: dict[str, set[str]]) -> tuple[str, str]:
    """As they are, except that what is converted comes from here; and those for type checkers alone."""
    found, for_types = list[str](), ""
    for node in module.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(convert_import(node, names))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            inner = [convert_import(one, names) for one in node.body if isinstance(one, ast.ImportFrom)]
            for_types = "\nif TYPE_CHECKING:\n    " + "    ".join(inner)
    return "".join(found), for_types


def convert_import(node: ast.Import | ast.ImportFrom, names: dict[str, set[str]]) -> str:
    package, _, name = (getattr(node, "module", None) or "").rpartition(".")
    if package != "atelier_client" or name not in MODULES:
        return ast.unparse(node) + "\n"
    assert isinstance(node, ast.ImportFrom)
    ours = [NAMES.get(alias.name, alias.name) for alias in node.names if alias.name in names[name]]
    theirs = [alias.name for alias in node.names if alias.name not in names[name]]
    lines = [f"from atelier_client.aio.{name} import {', '.join(ours)}\n"] if ours else []
    return "".join([*lines, f"from atelier_client.{name} import {', '.join(theirs)}\n"] if theirs else lines)


def tidy(text: str, name: str) -> str:
    """Sorted imports without the unused ones, and the house's format."""
    file = f"clients/python/atelier_client/aio/{name}.py"
    fix = ["check", "--fix", "--quiet", "--select", "F401,I,RUF100", "--exit-zero", *FIRST_PARTY]
    for command in (fix, ["format", "--quiet"]):
        done = subprocess.run(
            [find_ruff(), *command, "--stdin-filename", file, "-"],
            input=text, capture_output=True, text=True, cwd=ROOT, check=True,
        )  # fmt: skip
        text = done.stdout
    return text


def find_ruff() -> str:
    """That of this environment, or else on the path."""
    beside = Path(sys.executable).with_name("ruff")
    return str(beside) if beside.exists() else "ruff"


if __name__ == "__main__":
    sys.exit(main())
