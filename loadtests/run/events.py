"""Events: which of Locust's events means what to a run.

Here lives the wiring for the three roles that a Locust process can have: alone, master, worker. Never here: what is done.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from flask import request

from loadtests import CannotRun
from loadtests.run.director import EXIT_CANNOT_RUN, Director
from loadtests.run.locust_shapes import shape_of
from loadtests.run.options import add_options
from loadtests.run.worker import BEGUN, CONCLUDE, CONCLUDED, WorkerSide

__all__ = ["register"]

_STOP_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)


def register(events: Any) -> None:
    """Listen to the events of a locustfile."""
    events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser))
    events.init.add_listener(_on_init)


def _on_init(environment: Any, **_: Any) -> None:
    # A user is asked to end, and killed only after this long: killed in the middle of a write it would leave it in doubt.
    environment.stop_timeout = environment.stop_timeout or _STOP_SECONDS
    runner = type(environment.runner).__name__
    if runner == "WorkerRunner":
        _be_worker(environment)
        return
    director = Director(environment)
    environment.events.quitting.add_listener(lambda **_: director.close())
    try:
        director.open()
    except CannotRun as error:
        director.close()
        print(f"loadtest: {error}", file=sys.stderr)
        sys.exit(EXIT_CANNOT_RUN)
    if environment.web_ui is not None:
        environment.web_ui.app.before_request(lambda: _follow_form(environment))
    if runner == "MasterRunner":
        _be_master(environment, director)
    else:
        _be_alone(environment, director)


def _follow_form(environment: Any) -> None:
    """Take the shape from the form when Start is pressed: Locust looks for it before it tells anybody of the new options."""
    if request.method == "POST" and request.path.endswith("/swarm"):
        # Without an end there is no shape; that is said when the run's options are checked.
        shape = shape_of(request.form.get("shape", "")) if request.form.get("run_time") else None
        if shape is not None:
            shape.runner = environment.runner
        environment.shape_class = shape


def _be_worker(environment: Any) -> None:
    side = WorkerSide(environment)
    environment.events.test_start.add_listener(side.on_start)
    environment.events.report_to_master.add_listener(side.on_report)
    environment.events.quitting.add_listener(lambda **_: side.release())
    environment.runner.register_message(CONCLUDE, side.on_conclude, concurrent=True)


def _be_master(environment: Any, director: Director) -> None:
    def begun(**_: Any) -> None:
        if director.outcome is None or director.outcome.ended:
            director.begin()  # at the first worker that has written its keys

    events = environment.events
    events.worker_report.add_listener(director.on_worker_report)
    events.test_stopping.add_listener(lambda **_: director.conclude_workers())
    events.test_stop.add_listener(lambda **_: director.end())
    environment.runner.register_message(BEGUN, begun)
    environment.runner.register_message(CONCLUDED, director.on_concluded)


def _be_alone(environment: Any, director: Director) -> None:
    side = WorkerSide(environment)

    def begin(**_: Any) -> None:
        try:
            side.begin()
        except CannotRun as error:
            _log.error("%s", error)  # one line says it; a traceback would hide it
            environment.process_exit_code = EXIT_CANNOT_RUN
            environment.runner.quit()
        else:
            director.begin()

    def stopping(**_: Any) -> None:
        director.gather(side.conclude())

    events = environment.events
    events.test_start.add_listener(begin)
    events.test_stopping.add_listener(stopping)
    events.test_stop.add_listener(lambda **_: director.end())
    events.quitting.add_listener(lambda **_: side.release())
