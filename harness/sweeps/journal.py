"""A study in a journal file whose workers show that they live, as Optuna's databases have it."""

from __future__ import annotations

import time
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages._heartbeat import BaseHeartbeat  # as RDBStorage has it; Optuna has no public name for it
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState


class Journal(JournalStorage, BaseHeartbeat):
    """A journal file and, beside it, a folder with an empty file for each running trial, touched at each beat."""

    def __init__(self, path: Path, *, heartbeat: int) -> None:
        super().__init__(JournalFileBackend(str(path)))
        self.beats, self.heartbeat = path.with_suffix(".beats"), heartbeat

    def record_heartbeat(self, trial_id: int) -> None:
        """Show that the trial's worker lives."""
        self.beats.mkdir(exist_ok=True)
        (self.beats / str(trial_id)).touch()

    def get_heartbeat_interval(self) -> int:
        """Seconds between two beats."""
        return self.heartbeat

    def get_heartbeat_stale_trial_callback(self) -> None:
        """Nothing beyond its failing follows for a trial whose worker is gone: `study.tidy` sees to the rest."""

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [trial._trial_id for trial in running if self._silence(trial) > 2 * self.heartbeat]

    def _silence(self, trial: FrozenTrial) -> float:
        """Seconds since the last beat; of a trial that never had one, since it was begun."""
        try:
            last = (self.beats / str(trial._trial_id)).stat().st_mtime
        except FileNotFoundError:
            last = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - last
