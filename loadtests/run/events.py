"""Events: which of Locust's events means what to a run.

Here lives the wiring for the three roles that a Locust process can have: alone, master, worker. Never here: what is done.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from flask import request
from locust.util.timespan import parse_timespan

from loadtests import CannotRun
from loadtests.run.director import EXIT_CANNOT_RUN, Director
from loadtests.run.locust_shapes import shape_of
from loadtests.run.messages import BEGUN, CONCLUDE, CONCLUDED
from loadtests.run.options import add_options, typed_options
from loadtests.run.worker import WorkerSide

__all__ = ["register"]

_STOP_SECONDS: Final = 2.0
_UNDER_WAY: Final = frozenset({"spawning", "running"})
"""States of a runner in which a run is on."""

_log = logging.getLogger(__name__)


def register(events: Any) -> None:
    """Listen to the events of a locustfile."""
    start = _Start()
    events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser))
    events.init.add_listener(start.on_init)
    events.test_start.add_listener(start.on_test_start)


class _Start:
    """What this process does when a run begins, which is known once Locust has told of its role.

    A worker that joins a run under way is told to begin before that: it waits here, and its users with it.
    """

    def __init__(self) -> None:
        self._begin: Callable[[], None] = lambda: None
        self._known = threading.Event()

    def on_init(self, environment: Any, **_: Any) -> None:
        self._begin = _take_role(environment)
        self._known.set()

    def on_test_start(self, **_: Any) -> None:
        self._known.wait()
        self._begin()


def _take_role(environment: Any) -> Callable[[], None]:
    """Listen to what this process's role is about; returns what begins a run."""
    # A user is asked to end, and killed only after this long: killed in the middle of a write it would leave it in doubt.
    environment.stop_timeout = environment.stop_timeout or _STOP_SECONDS
    # Python would interrupt whoever is at work, perhaps a user in the middle of a write; Locust means it for its main greenlet.
    gevent.signal_handler(signal.SIGINT, gevent.get_hub().handle_system_error, KeyboardInterrupt, KeyboardInterrupt())
    runner = type(environment.runner).__name__
    if runner == "WorkerRunner":
        return _be_worker(environment)
    director = Director(environment)
    try:
        director.open()
    except CannotRun as error:
        director.close()
        print(f"loadtest: {error}", file=sys.stderr)
        sys.exit(EXIT_CANNOT_RUN)
    if environment.web_ui is not None:
        environment.web_ui.app.before_request(lambda: _follow_form(environment, director))
    environment.events.test_stop.add_listener(lambda **_: director.end())
    return _be_master(environment, director) if runner == "MasterRunner" else _be_alone(environment, director)


def _follow_form(environment: Any, director: Director) -> dict[str, Any] | None:
    """See what was typed when Start is pressed, before Locust does; returns the answer where that makes no sense.

    Locust looks for the shape before it tells anybody of the new options, and for an empty run time keeps the one before.
    """
    if request.method != "POST" or not request.path.endswith("/swarm") or environment.runner.state in _UNDER_WAY:
        return None
    form = request.form
    try:
        parsed = typed_options(environment.parsed_options, form, _run_time(form.get("run_time", "")))
        director.check(parsed, _chosen(environment, form.getlist("user_classes")))
    except CannotRun as error:
        _log.error("%s", error)
        return {"success": False, "message": str(error), "host": environment.host}
    environment.parsed_options.run_time = parsed.run_time
    environment.shape_class = shape_of(parsed.shape)
    if environment.shape_class is not None:
        environment.shape_class.runner = environment.runner
    return None


def _run_time(text: str) -> int | None:
    try:
        return parse_timespan(text) if text else None
    except ValueError as error:
        raise CannotRun(f"--run-time {text!r}: {error}") from error


def _chosen(environment: Any, names: Sequence[str]) -> list[type]:
    """Return the user classes of the run; where they can be picked on the page, those of these names, none for all."""
    if not environment.web_ui.userclass_picker_is_active:
        return list(environment.user_classes)
    return [it for name, it in environment.available_user_classes.items() if name in names or not names]


def _be_worker(environment: Any) -> Callable[[], None]:
    side = WorkerSide(environment)
    environment.events.report_to_master.add_listener(side.on_report)
    environment.events.quitting.add_listener(lambda **_: side.quit())
    environment.runner.register_message(CONCLUDE, side.on_conclude, concurrent=True)
    return side.start


def _be_master(environment: Any, director: Director) -> Callable[[], None]:
    runner, events = environment.runner, environment.events

    def begun(**_: Any) -> None:
        if runner.state in _UNDER_WAY and not director.running:
            director.begin()  # at the first worker that has written its keys

    def quitting(**_: Any) -> None:
        try:
            runner.stop(send_stop_to_client=False)  # as Locust's quit, which comes after this, does it
        finally:
            director.end()
            director.close()

    events.worker_connect.add_listener(director.on_worker_connect)
    events.worker_report.add_listener(director.on_worker_report)
    events.test_stopping.add_listener(lambda **_: director.conclude_workers())
    events.quitting.add_listener(quitting)
    runner.register_message(BEGUN, begun)
    runner.register_message(CONCLUDED, director.on_concluded)
    return director.expect


def _be_alone(environment: Any, director: Director) -> Callable[[], None]:
    side = WorkerSide(environment)

    def begin() -> None:
        director.expect()
        try:
            director.check()
            side.begin()
        except CannotRun as error:
            _log.error("%s", error)  # one line says it; a traceback would hide it
            environment.process_exit_code = EXIT_CANNOT_RUN
            runner = environment.runner
            # Both would end the greenlet that we are in, and so themselves half-way: the run would go on, without users.
            gevent.spawn(runner.quit if environment.parsed_options.headless else runner.stop)
            raise gevent.GreenletExit from error
        else:
            director.begin()

    def stopping(**_: Any) -> None:
        director.stop_clock()
        director.gather(side.conclude())

    def quitting(**_: Any) -> None:
        try:
            # Ctrl-C and SIGTERM come here first: the run must end in order, and while there is a cluster to ask. Locust takes
            # its exit code right after this.
            environment.runner.stop()
        finally:  # there is something left to do only after a second Ctrl-C
            director.gather(side.take())
            director.end()
            side.release()
            director.close()

    environment.events.test_stopping.add_listener(stopping)
    environment.events.quitting.add_listener(quitting)
    return begin
