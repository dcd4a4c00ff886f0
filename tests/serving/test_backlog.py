"""mien.serving.backlog: the expected wait follows what requests took, whatever the detector's speed."""

import pytest

from mien.serving.backlog import UNKNOWN, Backlog, Job
from mien.serving.limits import MIB


class Worker:
    """A backlog whose clock stands still until it is moved."""

    def __init__(self, patience: float = 1.0) -> None:
        self.now = 100.0
        self.backlog = Backlog(frozenset({"/batch"}), patience, lambda: self.now)

    def take(self, path: str = "/one", size: int = 1) -> Job:
        """A request that is there as a whole."""
        job = self.backlog.arrive(path, size)
        self.backlog.complete(job, size)
        return job

    def work(self, job: Job, seconds: float, *, refused: bool = False) -> None:
        """Answer a request after so long."""
        self.now += seconds
        self.backlog.answer(job, refused=refused)

    def taught(self, seconds: float, path: str = "/one", size: int = 1) -> "Worker":
        """The same after a few requests that took so long each."""
        for _ in range(3):
            self.work(self.take(path, size), seconds)
        return self


def test_nobody_waits_for_an_idle_worker() -> None:
    worker = Worker()
    assert worker.backlog.wait() == 0
    assert worker.taught(5.0).backlog.wait() == 0


@pytest.mark.parametrize("seconds", [0.004, 0.06, 2.0])
def test_the_wait_is_what_those_before_take_lately(seconds: float) -> None:
    worker = Worker().taught(seconds)
    for _ in range(10):
        worker.take()
    assert worker.backlog.wait() == pytest.approx(10 * seconds)
    worker.now += seconds / 2
    assert worker.backlog.wait() == pytest.approx(9.5 * seconds)


def test_requests_that_queue_are_not_charged_for_their_waiting() -> None:
    worker = Worker()
    for job in [worker.take() for _ in range(20)]:
        worker.work(job, 0.05)
    assert worker.backlog.cost("/one") == pytest.approx(0.05)


def test_a_slower_detector_is_noticed_within_a_dozen_requests() -> None:
    worker = Worker().taught(0.005)
    for _ in range(12):
        worker.work(worker.take(), 0.06)
    assert worker.backlog.cost("/one") == pytest.approx(0.06, rel=0.1)


def test_slow_first_answers_do_not_count() -> None:
    worker = Worker()
    worker.work(worker.take(), 3.0)
    assert worker.backlog.cost("/one") == UNKNOWN
    worker.taught(0.01)
    assert worker.backlog.cost("/one") == pytest.approx(0.01)


def test_photos_that_take_much_more_than_others_count_by_their_share() -> None:
    worker = Worker()
    for seconds in [0.01, 0.5] * 10:
        worker.work(worker.take(), seconds)
    assert worker.backlog.cost("/one") == pytest.approx(0.255)


def test_many_photos_cost_by_their_size() -> None:
    worker = Worker().taught(0.5, "/batch", MIB).taught(0.05)
    worker.take("/batch", 4 * MIB)
    assert worker.backlog.wait() == pytest.approx(2.0)
    worker.take()
    assert worker.backlog.wait() == pytest.approx(2.05)


def test_one_that_is_late_is_taken_to_need_as_long_again() -> None:
    worker = Worker().taught(0.1)
    worker.take()
    worker.now += 3.1
    assert worker.backlog.wait() == pytest.approx(3.0)


def test_uploads_count_until_they_turn_out_to_be_slow() -> None:
    worker = Worker(patience=1.0).taught(0.1)
    job = worker.backlog.arrive("/one", 1)
    assert worker.backlog.wait() == pytest.approx(0.1)
    worker.now += 2
    assert worker.backlog.wait() == 0
    worker.backlog.complete(job, 1)
    assert worker.backlog.wait() == pytest.approx(0.1)


def test_refusals_and_clients_that_leave_teach_nothing() -> None:
    worker = Worker()
    worker.work(worker.take(), 0.001, refused=True)
    worker.backlog.leave(worker.take())
    assert worker.backlog.measured == {}
    assert worker.backlog.jobs == []
    worker.take()
    assert worker.backlog.wait() == UNKNOWN
