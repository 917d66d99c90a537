"""The examples in the docstrings of both clients are run, each on real nodes, in a key space of its own."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
from typing import Any

import pytest
from client_faces import CLIENTS

import kvcache_client
from kvcache_client import AsyncClient, Client

SEEDS = "kvcache://127.0.0.1:7700"
"""Where examples say that the cluster is."""

WITHOUT = {"brain", "session", "run", "close"}
"""What needs no example."""


def documented(kind: type[Any]) -> dict[str, str]:
    """The name of a class and of each of its public members -> its docstring."""
    public = (name for name in dir(kind) if not name.startswith("_"))
    members = {name: inspect.getdoc(inspect.getattr_static(kind, name)) or "" for name in public}
    return {kind.__name__: inspect.getdoc(kind) or "", **members}


EXAMPLES = [(kind, name) for kind in CLIENTS.values() for name, text in documented(kind).items() if ">>>" in text]


@pytest.mark.parametrize("kind", CLIENTS.values(), ids=CLIENTS)
def test_everything_public_has_a_docstring_and_an_example(kind: type[Any]) -> None:
    texts = documented(kind)
    assert [name for name, text in texts.items() if len(text) < 20] == []
    assert {name for name, text in texts.items() if ">>>" not in text} <= WITHOUT
    assert "+SKIP" not in "".join(texts.values())


@pytest.mark.parametrize(("kind", "name"), EXAMPLES, ids=lambda it: it if isinstance(it, str) else it.__name__)
async def test_the_examples_do_what_they_show(kind: type[Any], name: str, three_nodes: Any) -> None:
    text = documented(kind)[name].replace(SEEDS, three_nodes.seeds)
    names = {public: getattr(kvcache_client, public) for public in kvcache_client.__all__}
    client = kind(three_nodes.seeds, timeout=5.0, connect_timeout=5.0)
    try:
        cache = client.namespace(f"docs:{kind.__name__}:{name}:")
        for example in doctest.DocTestParser().get_examples(text):
            printed = await run(example.source, {**names, "cache": cache}, names)
            right = doctest.OutputChecker().check_output(example.want, printed, doctest.ELLIPSIS)
            assert right, f"{example.source}printed {printed!r}, not {example.want!r}"
    finally:
        closing = client.close()
        if inspect.isawaitable(closing):
            await closing


async def run(source: str, given: dict[str, Any], kept: dict[str, Any]) -> str:
    """Run an example as the prompt of ``python -m asyncio`` would; returns what it prints. Its names go to ``kept``."""
    code = compile(source, "<example>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        result = eval(code, given)
        if inspect.isawaitable(result):
            await result
    kept.update({name: thing for name, thing in given.items() if name not in ("__builtins__", "cache")})
    return output.getvalue()


def test_both_clients_say_the_same_of_the_same_verb() -> None:
    ours, theirs = documented(AsyncClient), documented(Client)
    for name in ours.keys() & theirs.keys() - {"lock", "get_or_compute", "cached"}:
        plain = ours[name].replace("await ", "").replace("async with", "with")
        assert plain == theirs[name], name
