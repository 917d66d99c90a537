"""Effects: what a plan may ask of the body that drives it.

Here lives the vocabulary between plans and bodies. Never here: what a plan wants to achieve, or how a body does it.

A plan is a generator. It yields an effect, is sent the outcome, and returns its result::

    Ask      (node, request)              one request to one node        -> Outcome
    Round    [(node, request), ...]       all at once                    -> list[Outcome], in the same order
    Within   (round, seconds)             a round with less or more time than an attempt      -> list[Outcome]
    Pause    (seconds)                    wait                           -> None
    REFRESH                               learn the newest topology      -> None (it may not have changed)

An outcome is the reply as it was read, or the error that took its place; a body never raises one into a plan. Ask and
Round are a bare tuple and a bare list because every get and set makes one: a class of their own costs 0.2 us.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.verbs import Message, Request

__all__ = ["REFRESH", "Ask", "Effect", "Outcome", "Pause", "Plan", "Refresh", "Round", "Within"]

T = TypeVar("T")

Ask: TypeAlias = tuple[str, Request]
Round: TypeAlias = list[Ask]
Outcome: TypeAlias = Message | KvCacheError


class Within(NamedTuple):
    """A round whose requests are given up after ``seconds``."""

    round: Round
    seconds: float


class Pause(NamedTuple):
    """Wait for ``seconds``."""

    seconds: float


class Refresh(NamedTuple):
    """Learn the newest topology that any node knows."""


REFRESH: Final = Refresh()

Effect: TypeAlias = Ask | Round | Within | Pause | Refresh
# What is sent back depends on what was yielded, which a Generator's type can't say.
Plan: TypeAlias = Generator[Effect, Any, T]
