"""Optuna studies on which any number of processes work at once: one schema, one budget, no trial lost."""

import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
import psutil

from mien import servers
from mien.config.params import Tune
from mien.errors import MienError
from mien.learning.slots import Runner

STORAGE_VARIABLE = "OPTUNA_STORAGE"

HEARTBEAT = 20.0
"""Seconds between two signs of life of a trial."""

LOST_AFTER = 180
"""Seconds without a sign of life after which a trial counts as lost; longer than a restart of the database."""

RETRIES = 2
"""How often the values of a trial that was lost or interrupted are tried again, in case they are what kills it."""

POLL = 5.0
"""Seconds between two looks at trials of other processes."""

WORKER = "worker"
"""Attribute of a trial: machine and process that work on it, set after its first heartbeat."""

RUNNING, FAIL = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL
FINISHED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

Result = TypeVar("Result")


class Study:
    """One study in a journal (one process at a time) or a database, opened or made."""

    def __init__(self, name: str, budget: Tune, seed: int, starts: Sequence[dict[str, Any]]) -> None:
        """Open the study; a new one begins with the values of `starts`."""
        self.name = name
        self._address, self._budget, self._seed = address(budget), budget, seed
        with one_at_a_time(budget, "study"):
            self._storage = open_storage(self._address)
            with _answering(self._address):
                self._study = opened(name, self._storage)
                for start in starts:
                    self._study.enqueue_trial(start, skip_if_exists=True)
                # A journal is used by one process at a time, so its running trials were killed.
                if self._address.startswith("journal:"):
                    self._retry(self.trials(RUNNING))
        # Half of the trials end half-way, none sooner: until the learning rate falls, scores say little of the end.
        self._study.pruner = optuna.pruners.SuccessiveHalvingPruner(max(1, budget.epochs // 2), reduction_factor=2)
        self._seeded = False

    def trials(self, *states: optuna.trial.TrialState) -> list[optuna.trial.FrozenTrial]:
        """The trials of all processes; with `states`, those in one of them."""
        return self._study.get_trials(deepcopy=False, states=states or None)

    def knows_enough(self) -> bool:
        """Whether as many trials as start the search are finished; retries of lost ones have higher numbers."""
        return len(self.trials(*FINISHED)) >= self._budget.startup_trials

    def next_trial(self, runner: Runner) -> optuna.Trial | None:
        """The next trial; None once the budget is spent and nobody works on a trial any more.

        It waits for a place of the runner, and in the end for the trials of others, because one that is lost is tried
        again here.
        """
        waited = False
        while True:
            runner.take()
            trial, running, mine = None, 0, runner.running
            try:
                trial, running = self.patiently(self._claim)
            finally:
                if not trial:
                    runner.leave()
            if trial or not running:
                return trial
            others = running - mine
            if others > 0 and not waited:
                print(f"waiting for {others} trials of other processes", flush=True)
                waited = True
            runner.wait(POLL)

    def tell(self, trial: optuna.Trial, score: float | None) -> None:
        """Finish a trial with its score; without one it was pruned."""
        state = optuna.trial.TrialState.PRUNED if score is None else None
        # Another process has finished it where this one gave no sign of life for too long.
        self.patiently(lambda: self._study.tell(trial, score, state=state, skip_if_finished=True))

    def interrupt(self, trial: optuna.Trial) -> None:
        """Mark a trial as failed, its values to be tried again; if the database is gone, others will notice later."""
        with suppress(MienError), _answering(self._address):
            self._retry_one(trial)

    def fail(self, trial: optuna.Trial) -> None:
        """Mark a trial as failed, its values to be tried again."""
        self.patiently(lambda: self._retry_one(trial))

    def patiently(self, act: Callable[[], Result]) -> Result:
        """The result of `act`, repeated while the database does not answer."""

        def once() -> Result:
            with _answering(self._address):
                return act()

        return servers.patiently(once)

    @contextmanager
    def heartbeat(self, trial: optuna.Trial) -> Iterator[None]:
        """Give signs of life of a trial; unlike Optuna's own thread, this one outlives faults of the database."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT):
                with suppress(MienError), _answering(self._address):
                    self._beat(trial)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _claim(self) -> tuple[optuna.Trial | None, int]:
        """The next trial, if the budget allows one more than those finished and running, and how many run elsewhere."""
        with one_at_a_time(self._budget, "trials"):
            self._retry_lost()
            # Of one moment: others finish trials meanwhile.
            known = self.trials()
            finished = [trial for trial in known if trial.state in FINISHED]
            running = sum(trial.state is RUNNING for trial in known)
            seconds = sum(trial.duration.total_seconds() for trial in finished if trial.duration)
            if len(finished) + running >= self._budget.trials or seconds >= self._budget.minutes * 60:
                return None, running
            return self._take(), running

    def _take(self) -> optuna.Trial:
        self._seed_sampler()
        with _quiet():
            trial = self._study.ask()
        self._beat(trial)
        trial.set_user_attr(WORKER, [_machine(), os.getpid()])
        return trial

    def _seed_sampler(self) -> None:
        """Seed by the first trial's number, so that neither a resumed search nor another process repeats draws."""
        if not self._seeded:
            waiting = self.trials(optuna.trial.TrialState.WAITING)
            number = waiting[0].number if waiting else len(self.trials())
            self._study.sampler = optuna.samplers.TPESampler(
                seed=self._seed + number, n_startup_trials=self._budget.startup_trials
            )
            self._seeded = True

    def _retry_lost(self) -> None:
        with _quiet():
            optuna.storages.fail_stale_trials(self._study)
        self._retry([trial for trial in self.trials(RUNNING) if self._is_lost(trial)])

    def _is_lost(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a trial's process has ended here, or died elsewhere before the trial's first heartbeat."""
        if WORKER not in trial.user_attrs:
            # Taking a trial and its first heartbeat are under one lock, where there is one.
            return servers.is_postgresql(self._address)
        machine, process = trial.user_attrs[WORKER]
        return bool(machine == _machine() and not _runs(process))

    def _retry_one(self, trial: optuna.Trial) -> None:
        self._retry([one for one in self.trials(RUNNING) if one.number == trial.number])

    def _retry(self, trials: list[optuna.trial.FrozenTrial]) -> None:
        for trial in trials:
            self._study.tell(trial.number, state=FAIL, skip_if_finished=True)
            # Read again: it may have drawn its values after `trials` were read, and died then.
            _retry_values()(self._study, self._storage.get_trial(trial._trial_id))

    def _beat(self, trial: optuna.Trial) -> None:
        if isinstance(self._storage, optuna.storages.RDBStorage):
            self._storage.record_heartbeat(trial._trial_id)


def trials(name: str, budget: Tune) -> list[optuna.trial.FrozenTrial]:
    """The trials of a study, which is made if there is none."""
    with one_at_a_time(budget, "study"), _answering(address(budget)):
        return opened(name, open_storage(address(budget))).get_trials()


def add(name: str, trial: optuna.trial.FrozenTrial, unique: str, budget: Tune) -> int | None:
    """Add a finished trial; returns its number, None where one has the same attribute `unique`."""
    with one_at_a_time(budget, "study"), _answering(address(budget)):
        study = opened(name, open_storage(address(budget)))
        if _numbers(study, trial, unique):
            return None
        study.add_trial(trial)
        return _numbers(study, trial, unique)[0]


def _numbers(study: optuna.Study, trial: optuna.trial.FrozenTrial, unique: str) -> list[int]:
    """Of the study's trials with the same attribute `unique`."""
    known = study.get_trials(deepcopy=False)
    return [one.number for one in known if one.user_attrs.get(unique) == trial.user_attrs[unique]]


def opened(name: str, storage: optuna.storages.BaseStorage | None) -> optuna.Study:
    """A study in a storage, in memory where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)


def address(budget: Tune) -> str:
    """OPTUNA_STORAGE, else tune.storage."""
    return os.environ.get(STORAGE_VARIABLE) or budget.storage


@contextmanager
def one_at_a_time(budget: Tune, subject: str) -> Iterator[None]:
    """Let one process of all that use the storage do what is within."""
    with servers.one_at_a_time(address(budget), f"optuna {subject}"):
        yield


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """A journal file (`journal:PATH`) or any database that SQLAlchemy knows by URL."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.pool import NullPool

    if address.startswith("journal:"):
        return JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
    # Without a pool: a worker that trains holds none of the database's connections, nor one that a restart has broken.
    engine = {"poolclass": NullPool, "connect_args": servers.CONNECTING} if servers.is_postgresql(address) else {}
    try:
        with _quiet():
            return RDBStorage(
                address,
                engine,
                heartbeat_interval=int(HEARTBEAT),
                grace_period=LOST_AFTER,
                heartbeat_stale_trial_callback=_retry_values(),
            )
    except Exception as error:  # SQLAlchemy's and the drivers' own kinds
        raise MienError(
            f"Optuna cannot open the storage {servers.masked(address)!r} ({servers.reason(error)}). Expected "
            "journal:PATH or a database URL such as postgresql://…; set tune.storage in params.yaml or OPTUNA_STORAGE."
        ) from error


def _retry_values() -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    with _quiet():
        return optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)


def _machine() -> str:
    """This machine; containers that share a host's name have processes of their own."""
    processes = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {processes.readlink() if processes.exists() else ''}"


def _runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


_FILTERS = threading.RLock()
"""Python has one list of warning filters for all threads: who changes it holds this."""


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings that heartbeats are experimental, and that Optuna's own loop gives them."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with")
        yield


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Turn a failure of the database within into one MienError, an UnavailableError where it did not answer."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        away = servers.is_outage(address, error)
        kind, what = (servers.UnavailableError, "does not answer") if away else (MienError, "refused")
        raise kind(f"Optuna's storage {servers.masked(address)} {what}: {servers.reason(error)}.") from error
