"""Recording a training job in MLflow: where the job's environment names a server, its run is recorded there.

`NCF_TRACK` or `MLFLOW_TRACKING_URI` is the address, `NCF_EXPERIMENT` or `MLFLOW_EXPERIMENT_NAME` the experiment. The one
decision worth knowing: an address that cannot work, or an image without MLflow, is a line in the log and not the end of
a job that is paid for by the hour; the run's folder can be sent later.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ncf.errors import ConfigError
from ncf.training.tracking import Tracker, Trackers


@contextmanager
def tracked(tracker: Tracker) -> Iterator[Tracker]:
    """`tracker`, with MLflow beside it where the environment asks for it."""
    from ncf.training.mlflow import DEFAULT_EXPERIMENT, open_tracker

    address = _first("NCF_TRACK", "MLFLOW_TRACKING_URI")
    if address is None:
        yield tracker
        return
    experiment = _first("NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    try:
        recorder = open_tracker(address, experiment, tracker.say)
    except ConfigError as error:
        tracker.say(f"Warning: this run is not recorded in MLflow: {error}")
        yield tracker
        return
    with recorder:
        yield Trackers([tracker, recorder])


def _first(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
