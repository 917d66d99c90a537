"""The rules of the house that a reader relies on, checked on the source itself.

``pyproject.toml`` says who may import whom (import-linter); here are the rules that it can't express.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
import io
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {
    *("kvcache", "client", "deploy", "tests", "loadtests"),
    *("pyproject.toml", "README.md", "SECURITY.md", "LICENSE", "Makefile", ".gitignore", ".ci"),
}
SOURCES = sorted(
    path for folder in ("kvcache", "client", "loadtests", "deploy") for path in (ROOT / folder).rglob("*.py")
)
PURE = ("client/kvcache_client/core", "client/kvcache_client/placement", "client/kvcache_client/protocol")
PURE_SOURCES = [
    path
    for path in SOURCES
    if path.relative_to(ROOT).as_posix().startswith((*PURE, "kvcache/store", "kvcache/service"))
]

FILE_LINES = 400
BODY_LINES = 50
LONG_BODIES: dict[str, str] = {}
"""``path::function`` -> why it may be longer than the budget: a table, or one exhaustive match."""

IMPURE_MODULES = {
    *("asyncio", "uvloop", "concurrent", "threading", "multiprocessing", "queue", "sched", "signal"),
    *("socket", "ssl", "select", "selectors", "http", "urllib", "subprocess"),
    *("time", "random", "secrets", "os", "pathlib", "shutil", "tempfile"),
}
UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
UNSAFE_IMPORTERS = {"client/kvcache_client/protocol/signed_pickle.py": "unpickles only what it finds signed"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
PROMISES = ("TODO", "FIXME", "XXX", "HACK")
AWAITING = ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "base", "lib"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module of a file, also those imported inside functions, with its line."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def imported_from(paths: list[Path], modules: set[str]) -> list[str]:
    return [
        f"{name_of(path)}:{line} {module}"
        for path in paths
        for line, module in imports(path)
        if module.partition(".")[0] in modules
    ]


def found_in(paths: list[Path], wrong: Callable[[ast.AST], bool]) -> list[str]:
    """Where there is a node that ``wrong`` says is wrong."""
    return [
        f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        for path in paths
        for node in ast.walk(parsed(path))
        if wrong(node)
    ]


def calls(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def caught(handler: ast.ExceptHandler) -> set[str]:
    """The names in an except clause; a bare one catches BaseException."""
    if handler.type is None:
        return {"BaseException"}
    return {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(handler.type)
        if isinstance(node, ast.Attribute | ast.Name)
    }


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20
    assert len(PURE_SOURCES) > 10


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("try: f()\nexcept: log()", True),
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept (ValueError, Exception): ...", True),
        ("try: f()\nexcept asyncio.CancelledError: log()", True),
        ("try: f()\nexcept BaseException: clean()", True),
        ("with contextlib.suppress(Exception): f()", True),
        ("try: f()\nexcept Exception as error: log(error)", False),
        ("try: f()\nexcept BaseException:\n    clean()\n    raise", False),
        ("try: f()\nexcept KeyError: pass", False),
        ("with contextlib.suppress(KeyError): f()", False),
    ],
)
def test_the_rule_about_swallowed_errors_tells_good_from_bad(code: str, wrong: bool) -> None:
    assert any(swallows(node) for node in ast.walk(ast.parse(code))) is wrong


def test_the_other_rules_find_what_they_look_for() -> None:
    assert any(reads_the_date(node) for node in ast.walk(ast.parse("datetime.now(UTC)")))
    assert any(calls(node, UNSAFE_CALLS) for node in ast.walk(ast.parse("x = eval(text)")))
    (function,) = ast.parse("def f():\n    'A docstring.'\n\n    a = 1\n\n    return a").body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 3


def test_imports_go_the_way_that_pyproject_says() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_the_compiled_part_knows_nothing_of_ours() -> None:
    compiled = [path for path in SOURCES if path.is_relative_to(ROOT / "kvcache" / "compiled")]
    assert compiled
    ours = [
        f"{name_of(path)}:{line} {name}"
        for path in compiled
        for line, name in imports(path)
        if name.partition(".")[0] in ("kvcache", "kvcache_client")
    ]
    assert [place for place in ours if " kvcache.compiled" not in place] == []


def test_the_top_level_is_the_fixed_one() -> None:
    unexpected = top_level() - TOP_LEVEL
    assert not unexpected, f"nothing else belongs at the top of the repository: {sorted(unexpected)}"


def top_level() -> set[str]:
    """Names at the top that git would keep; without git, those that .gitignore does not name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        run = None
    if run is not None and run.returncode == 0 and run.stdout:
        return {line.strip('"').partition("/")[0] for line in run.stdout.splitlines()}
    patterns = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()]
    return {
        path.name
        for path in ROOT.iterdir()
        if path.name != ".git" and not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
    }


def test_every_module_says_what_it_is() -> None:
    assert [name_of(path) for path in SOURCES if len(ast.get_docstring(parsed(path)) or "") < 20] == []


def test_every_module_says_what_it_offers() -> None:
    assert [name_of(path) for path in SOURCES if "__all__" not in assigned(parsed(path))] == []


def assigned(tree: ast.Module) -> set[str]:
    """Names that are assigned at the top of a module."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def test_no_two_test_files_have_one_name() -> None:
    """pytest takes them for one module, and collects neither."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name, count in names.items() if count > 1} == set()


def test_c_sources_keep_to_their_budget() -> None:
    sources = [path for ending in ("*.c", "*.h") for path in (ROOT / "kvcache").rglob(ending)]
    assert sources
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}
    assert all(path.read_text(encoding="utf-8").startswith(("/*", "#include", "#define")) for path in sources)


def test_every_module_keeps_to_its_budget() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_every_function_keeps_to_its_budget() -> None:
    assert {name: lines for name, lines in long_bodies().items() if name not in LONG_BODIES} == {}


def test_every_exemption_from_a_budget_is_still_needed_and_has_a_reason() -> None:
    assert set(LONG_BODIES) <= set(long_bodies())
    assert all(LONG_BODIES.values())


def long_bodies() -> dict[str, int]:
    return {
        f"{name_of(path)}::{node.name}": body_lines(node)
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > BODY_LINES
    }


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def test_nothing_is_decided_by_an_assert_that_may_be_switched_off() -> None:
    assert found_in(SOURCES, lambda node: isinstance(node, ast.Assert)) == []


def test_no_error_is_swallowed() -> None:
    """A broad except logs, answers or raises; a cancellation that is caught goes on."""
    assert found_in(SOURCES, swallows) == []


def swallows(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return bool({ast.unparse(argument) for argument in node.args} & {"Exception", "BaseException"})
    if not isinstance(node, ast.ExceptHandler):
        return False
    inside = [inner for line in node.body for inner in ast.walk(line)]
    raises = any(isinstance(inner, ast.Raise) for inner in inside)
    acts = raises or any(isinstance(inner, ast.Call | ast.Assign | ast.Return) for inner in inside)
    names = caught(node)
    return (
        node.type is None
        or ("Exception" in names and not acts)
        or (bool(names & {"BaseException", "CancelledError"}) and not raises)
    )


def test_no_data_is_run_as_code() -> None:
    assert {place.partition(":")[0] for place in imported_from(SOURCES, UNSAFE_MODULES)} == set(UNSAFE_IMPORTERS)
    assert found_in(SOURCES, lambda node: calls(node, UNSAFE_CALLS)) == []


def test_nothing_is_left_for_later() -> None:
    assert [f"{name_of(path)}:{line}" for path in SOURCES for line in left_for_later(path)] == []


def left_for_later(path: Path) -> Iterator[int]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        promise = token.type == tokenize.COMMENT and any(word in token.string for word in PROMISES)
        if promise or (token.type == tokenize.NAME and token.string == "NotImplementedError"):
            yield token.start[0]


def test_the_brain_has_no_clock_socket_randomness_or_loop_of_its_own() -> None:
    assert imported_from(PURE_SOURCES, IMPURE_MODULES) == []


def test_the_brain_awaits_nothing_reads_no_clock_and_touches_no_file() -> None:
    assert found_in(PURE_SOURCES, lambda node: isinstance(node, AWAITING)) == []
    assert found_in(PURE_SOURCES, lambda node: calls(node, {"open", "input", "print"})) == []
    assert found_in(PURE_SOURCES, reads_the_date) == []


def reads_the_date(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) in {
        f"{owner}.{name}"
        for owner in ("datetime", "datetime.datetime", "date", "datetime.date")
        for name in ("now", "utcnow", "today")
    }


def packages() -> list[str]:
    """Import names of every module of the two packages."""
    names = []
    for path in SOURCES:
        base = ROOT / "client" if path.is_relative_to(ROOT / "client") else ROOT
        parts = path.relative_to(base).with_suffix("").parts
        if parts[0] in ("kvcache", "kvcache_client") and parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_every_module_can_be_imported_and_offers_what_it_says_each_thing_once() -> None:
    for name in packages():
        module = importlib.import_module(name)
        assert len(module.__all__) == len(set(module.__all__)), name
        assert [thing for thing in module.__all__ if not hasattr(module, thing)] == [], name


def test_the_client_can_be_imported_without_anything_but_msgpack_and_mmh3() -> None:
    program = (
        "import sys, kvcache_client\n"
        "real = {name.partition('.')[0] for name, module in sys.modules.items() if getattr(module, '__file__', None)}\n"
        "print(*sorted(real - set(sys.stdlib_module_names) - {'kvcache_client', 'msgpack', 'mmh3'}))\n"
    )
    command = [sys.executable, "-I", "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    # An editable install may bring import hooks of its own, by underscore names.
    assert [name for name in run.stdout.split() if not name.startswith("_")] == []
