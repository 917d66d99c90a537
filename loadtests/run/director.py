"""The side of a run that directs it: one process alone, or the master of workers.

Here lives starting the cluster and the faults, gathering records, and the end: verdict, report, exit code. Never here: users.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from loadtests import CannotRun
from loadtests.adapters import CacheAdapter, open_adapter
from loadtests.faults.host import ClusterHost, ClusterOrder
from loadtests.faults.plays import Happening
from loadtests.faults.schedule import Fault, load_faults
from loadtests.report.run_report import check_place, write_report
from loadtests.run.locust_shapes import shape_of
from loadtests.run.messages import REPORT_KEY
from loadtests.run.options import LoadOptions, check_cluster_options, options_for, options_of, settings_of
from loadtests.run.outcome import Outcome
from loadtests.run.recording import Recording
from loadtests.run.slo import judge
from loadtests.run.watch import every, sample_nodes
from loadtests.run.workers import Workers

__all__ = ["EXIT_CANNOT_RUN", "EXIT_SLO", "Director"]

EXIT_SLO: Final = 1
EXIT_CANNOT_RUN: Final = 2
_WATCH_SECONDS: Final = 1.0
_CONCLUDE_SECONDS: Final = 20.0
_log = logging.getLogger(__name__)


class Director:
    """Directs the runs of one Locust environment. ``open()`` raises ``CannotRun`` with the one line to show."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._host: ClusterHost | None = None
        self._faults: list[Fault] = []
        self._watching: CacheAdapter | None = None
        self._stop_watching: Callable[[], None] = lambda: None
        self._workers = Workers(environment.runner, self._trouble)
        self._ending = threading.Lock()
        self._expecting = False
        self._judged: Outcome | None = None
        self.outcome: Outcome | None = None

    def open(self) -> None:
        """Check the options, start the cluster if that was asked for, and see that it answers."""
        environment = self._environment
        parsed = environment.parsed_options
        options = self.check()
        if parsed.start_cluster:
            check_cluster_options(parsed)
        self._faults = self._read_faults(options, parsed)
        if parsed.start_cluster:
            proxied = any(fault.proxied for fault in self._faults)
            order = ClusterOrder(parsed.nodes, parsed.replicas, parsed.node_memory, proxied)
            self._host = ClusterHost(order, self._happened)
            environment.host = parsed.host = self._host.wait_ready()
        environment.host = environment.host or options.host
        self._watching = open_adapter(options.cache, environment.host, options.timeout)
        environment.shape_class = shape_of(options.shape)
        if environment.shape_class is not None:
            environment.shape_class.runner = environment.runner

    def check(self, parsed: Any = None, users: Any = None) -> LoadOptions:
        """Check the options, as told on the command line or in the web form. Raises ``CannotRun``."""
        environment = self._environment
        options = options_for(parsed or environment.parsed_options, users or environment.user_classes)
        if options.report:
            check_place(options.report)
        return options

    def expect(self) -> None:
        """A run was asked for: its keys are written now."""
        self._expecting = True
        self._environment.process_exit_code = None

    def begin(self) -> None:
        """A run begins: its keys are written, its users come."""
        self._expecting = False
        options = options_of(self._environment.parsed_options)
        classes = ", ".join(it.__name__ for it in self._environment.user_classes)
        self.outcome = Outcome(
            f"Load test of {options.cache}: {classes}",
            settings_of(options, self._environment.parsed_options),
            time.time(),
            rate=options.rate,
        )
        self._workers.begin()
        _log.info("The users begin")
        self._stop_watching = every(_WATCH_SECONDS, self._watch)
        if self._host is not None:
            self._host.play(self._faults)

    def gather(self, record: Recording) -> None:
        """Add a part of the record."""
        if self.outcome is not None:
            self.outcome.recording.add(record)

    def stop_clock(self) -> None:
        """The users are held: what comes from here on is no part of the run's time. Safe to call again."""
        if self.outcome is not None and not self.outcome.ended:
            self.outcome.ended = time.time()
            self._stop_watching()

    @property
    def running(self) -> bool:
        """Whether there is a run that was not judged yet."""
        return self.outcome is not None and self.outcome is not self._judged

    def end(self) -> None:
        """The run is over and all records are in: judge it, write the report, say how Locust is to exit.

        Two may call it at once, as when Ctrl-C meets the end of the run: the second returns when all is done.
        """
        with self._ending:
            if self._expecting and self._environment.process_exit_code is None:
                _log.error("The run has ended before its users began: nothing was measured")
                self._environment.process_exit_code = EXIT_CANNOT_RUN
            self._expecting = False
            outcome = self.outcome
            if outcome is not None and self.running:
                self._judged = outcome
                self.stop_clock()
                self._judge(outcome)
                if self._host is not None:
                    self._host.calm()

    def _judge(self, outcome: Outcome) -> None:
        options = options_of(self._environment.parsed_options)
        outcome.recording.facts["workers lost"] += self._workers.unheard
        outcome.judgements = judge(options.slo, outcome.recording, outcome.seconds)
        _add_notes(outcome)
        for note in outcome.notes:
            _log.warning("%s", note)
        for judgement in outcome.judgements:
            _log.log(logging.INFO if judgement.held else logging.ERROR, "SLO %s", judgement)
        if options.slo:
            self._environment.process_exit_code = 0 if outcome.held else EXIT_SLO
        if options.report:
            self._report(outcome, options.report)

    def _report(self, outcome: Outcome, path: str) -> None:
        try:
            write_report(outcome, path)
        except OSError as error:  # it could be written when the run began
            _log.error("--report %r can't be written: %s", path, error)
            self._environment.process_exit_code = EXIT_CANNOT_RUN
        else:
            _log.info("Report: %s", path)

    def close(self) -> None:
        """Stop what was started. Safe to call again."""
        self._stop_watching()
        watching, self._watching, host, self._host = self._watching, None, self._host, None
        if watching is not None:
            watching.close()
        if host is not None:
            host.stop()

    # As the master of workers

    def on_worker_connect(self, client_id: str, **_: Any) -> None:
        """A worker is here: for the next run, or for the one that is under way."""
        if self.running:
            self._workers.joined(client_id)

    def on_worker_report(self, client_id: str, data: dict[str, Any]) -> None:
        """A worker's report, every three seconds."""
        if REPORT_KEY in data:
            self.gather(Recording.from_bytes(data[REPORT_KEY]))

    def on_concluded(self, environment: Any, msg: Any, **_: Any) -> None:
        """A worker's last record."""
        self.gather(Recording.from_bytes(msg.data["record"]))
        if self.running:
            self._workers.concluded(msg.node_id)

    def conclude_workers(self) -> None:
        """Have all workers look for what they wrote, and wait for their last records."""
        self.stop_clock()
        self._workers.conclude(_CONCLUDE_SECONDS)

    def _watch(self) -> None:
        self._workers.look()
        if self.outcome is not None and self._watching is not None:
            self.outcome.samples.extend(sample_nodes(self._watching))

    def _trouble(self, text: str) -> None:
        self._happened(Happening(time.time(), "problem", text))

    def _happened(self, happening: Happening) -> None:
        _log.log(logging.WARNING if happening.kind == "problem" else logging.INFO, "%s", happening.text)
        if self.outcome is not None and self.running:
            self.outcome.happenings.append(happening)

    def _read_faults(self, options: LoadOptions, parsed: Any) -> list[Fault]:
        if not parsed.faults:
            return []
        if not parsed.start_cluster:
            raise CannotRun("--faults breaks only a cluster that the run has started itself: give --start-cluster too")
        try:
            faults = load_faults(parsed.faults, options.run_time)
        except ValueError as error:
            raise CannotRun(f"--faults: {error}") from error
        most = parsed.nodes + sum(fault.do == "add" for fault in faults)
        known = {f"n{number}" for number in range(1, most + 1)}
        for fault in faults:
            if fault.node and fault.node not in known:
                raise CannotRun(f"--faults: {fault.text}: there is no such node; there is: {', '.join(sorted(known))}")
        return faults

    def __repr__(self) -> str:
        return f"<Director {self._host!r} {self.outcome and self.outcome.recording!r}>"


def _add_notes(outcome: Outcome) -> None:
    facts = outcome.recording.facts
    outcome.notes += [it.text for it in outcome.happenings if it.kind == "problem"]
    texts = {
        "not begun": "operations were due and no user had come to them by the end: their waits so far count as latencies",
        "damaged lines": "lines of the trace were damaged and left out",
        "cut traces": "trace ends in the middle: what came before that was replayed",
        "foreign": "times another run was seen to write the same keys: what was old or lost may be its doing",
        "unreadable": "keys could not be read at the end, and so not be judged",
        "unchecked": "keys were not looked for at the end, for want of time",
        "unexplained": "misses were evicted or lost: the nodes did not tell which",
    }
    outcome.notes += [f"{facts[fact]:,} {text}" for fact, text in texts.items() if facts[fact]]
