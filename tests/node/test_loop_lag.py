"""How late a loop is, on a clock of the test's own."""

from kvcache.loop_lag import LoopLag


class Loop:
    """Timers that fire when the test says so."""

    def __init__(self):
        self.now = 100.0
        self.due = []

    def call_later(self, seconds, work):
        self.due.append((self.now + seconds, work))
        return self

    def cancel(self):
        self.due.clear()

    def fire(self, late):
        at, work = self.due.pop()
        self.now = at + late
        work()


def test_every_look_counts_and_the_largest_lag_is_kept_for_a_while():
    loop = Loop()
    lag = LoopLag(lambda: loop.now, loop.call_later)
    lag.start()
    loop.fire(late=0.3)
    loop.fire(late=0.0)
    assert (lag.seconds.count, round(lag.largest, 6)) == (2, 0.3)
    for _ in range(100):
        loop.fire(late=0.002)
    assert round(lag.largest, 6) == 0.002
    assert lag.as_dict()["lag_seconds"]["count"] == 102
    lag.stop()
    assert loop.due == []


def test_a_timer_that_comes_early_is_not_late():
    loop = Loop()
    lag = LoopLag(lambda: loop.now, loop.call_later)
    lag.start()
    loop.fire(late=-0.001)
    assert lag.seconds.sum == 0.0
