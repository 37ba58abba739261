"""MLflow: where runs are recorded so that they can be looked up and compared, by address.

| address | what it is |
| --- | --- |
| `sqlite:///mlflow.db` (the default) or a folder | a database file, artifacts beside it; MLflow 3 has retired its folders of text files |
| `http://…`, `https://…` | an MLflow server |
| `arn:aws:sagemaker:…:mlflow-tracking-server/…` or `…:mlflow-app/…` | a server that SageMaker manages, through the plug-in `sagemaker-mlflow` |

In: figures by our names. Out: figures in MLflow, which admits no '@' in a name: `ndcg@10` is called `ndcg_at_10` there and
`ndcg@10` again when it is read. Whatever MLflow and the libraries under it raise becomes one `TrackingError`. MLflow is
imported here alone, when the first run is recorded, and tells its makers nothing (its telemetry is switched off).
"""

import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from ncf.errors import ConfigError, NcfError, TrackingError

JOB_TAG = "ncf.sagemaker_job"
DEFAULT_ADDRESS = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "ncf"
MOST_RUNS = 1000
"""Runs that `runs` reads of each experiment, the newest."""
_ARN = re.compile(r"arn:aws[\w-]*:sagemaker:[\w-]+:\d{12}:mlflow-(tracking-server|app)/[\w-]+")
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
"""MLflow's own patience is four minutes, in which training would stand still; standard output is for our answers."""
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Record:
    """A run as MLflow has it; metrics are the last of each name, under our names. Times are milliseconds of 1970."""

    run_id: str
    name: str
    experiment: str
    status: str
    started: int
    ended: int | None
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    artifacts: str

    @property
    def parent(self) -> str | None:
        """The run that this one is a half of."""
        return self.tags.get("mlflow.parentRunId")


def resolve(address: str | None) -> str:
    """The address as MLflow takes it; raises `ConfigError` where it can never work here."""
    address = address or DEFAULT_ADDRESS
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "Tracking needs the package mlflow: pip install 'ncf[mlflow]', in an image: make image EXTRAS=mlflow."
        )
    if remote(address):
        if address.startswith("arn:") and importlib.util.find_spec("sagemaker_mlflow") is None:
            raise ConfigError(
                "A tracking server of SageMaker needs the package sagemaker-mlflow: pip install 'ncf[mlflow]'."
            )
        return address
    scheme, separator, _ = address.partition("://")
    if separator and scheme == "sqlite":
        return f"sqlite:///{Path(address.removeprefix('sqlite:///')).resolve()}"
    if separator:
        raise ConfigError(
            f"{shown(address)} cannot be tracked to: give sqlite:///FILE, a folder, http(s)://SERVER or the ARN of a "
            "tracking server of SageMaker."
        )
    return _folder(Path(address))


def remote(address: str) -> bool:
    """Whether other machines reach the address too: a server or an ARN, whose form is checked; a database is ours alone."""
    if address.startswith("arn:") and not _ARN.fullmatch(address):
        raise ConfigError(
            f"{address} is not the ARN of a tracking server of SageMaker, which has the form "
            "arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME."
        )
    return address.startswith(("arn:", "http://", "https://"))


def _folder(folder: Path) -> str:
    """A database in a folder; one in which MLflow 2 kept text files is refused with the way out."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file: write sqlite:///{folder} for a database, or give a folder.")
    if any(folder.glob("*/meta.yaml")):
        raise ConfigError(
            f"{folder} holds text files of MLflow 2, which MLflow 3 has retired: take them over with "
            f"'mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db', or give another folder."
        )
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def shown(address: str) -> str:
    """The address without a password."""
    return re.sub(r"(//[^/@:]+):[^/@]*@", r"\1:…@", address)


class MLflowStore:
    """One experiment of MLflow at one address. Every method may raise `TrackingError`."""

    def __init__(self, address: str, experiment: str) -> None:
        self.address, self.experiment = address, experiment
        self._root = (
            Path(address.removeprefix("sqlite:///")).parent if address.startswith("sqlite:") else None
        )
        with self._faults():
            self._client = self._connect()

    def begin(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, str]) -> str:
        """A new run; its id."""
        from mlflow.entities import Param

        with self._faults():
            run_id = str(
                self._client.create_run(self._experiment_id(), tags=dict(tags), run_name=name).info.run_id
            )
            pairs = [Param(key, value) for key, value in parameters.items()]
            for start in range(0, len(pairs), 100):
                self._client.log_batch(run_id, params=pairs[start : start + 100])
        return run_id

    def epochs(self, run_id: str) -> set[int] | None:
        """Go on with a run: the epochs that it has already; None where there is no such run."""
        from mlflow.exceptions import MlflowException

        with self._faults():
            try:
                history = self._client.get_metric_history(run_id, "loss")
                self._client.update_run(run_id, status="RUNNING")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        return {metric.step for metric in history}

    def figures(self, run_id: str, figures: Mapping[str, float], step: int, seconds: float) -> None:
        """Metrics of one step; `seconds` is the time of 1970."""
        from mlflow.entities import Metric

        with self._faults():
            when = int(seconds * 1000)
            metrics = [Metric(outward(name), float(value), when, step) for name, value in figures.items()]
            self._client.log_batch(run_id, metrics=metrics)

    def tag(self, run_id: str, name: str, value: str) -> None:
        """Set one tag; MLflow admits 5,000 characters."""
        with self._faults():
            self._client.set_tag(run_id, name, value[:5000])

    def upload(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """A file, or a folder whole."""
        with self._faults():
            send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            send(run_id, str(path), folder)

    def end(self, run_id: str, status: Status) -> None:
        """The run is over."""
        with self._faults():
            self._client.set_terminated(run_id, status)

    def of_job(self, job: str) -> Record | None:
        """The run of a training job of SageMaker, in whichever experiment: the oldest, and no half of another."""
        with self._faults():
            found = {str(e.experiment_id): str(e.name) for e in self._client.search_experiments()}
            rows = self._client.search_runs(
                list(found),
                filter_string=f"tags.`{JOB_TAG}` = '{job}'",
                order_by=["attributes.start_time ASC"],
            )
        records = [_record(row, found[str(row.info.experiment_id)]) for row in rows]
        return next((record for record in records if record.parent is None), None)

    def runs(self, everywhere: bool = False) -> list[Record]:
        """The runs of the experiment, or of all, newest first; an experiment that is not there is an error."""
        with self._faults():
            found = {str(e.experiment_id): str(e.name) for e in self._client.search_experiments()}
            wanted = {key: name for key, name in found.items() if everywhere or name == self.experiment}
            if not wanted:
                others = ", ".join(sorted(name for name in found.values() if name != "Default")) or "none yet"
                raise ConfigError(
                    f"{shown(self.address)} has no experiment {self.experiment!r}; it has: {others}."
                )
            rows = self._client.search_runs(list(wanted), max_results=MOST_RUNS)
        return [_record(row, wanted[str(row.info.experiment_id)]) for row in rows]

    def _connect(self) -> Any:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.tracking import MlflowClient

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        # The plug-in for SageMaker signs requests for the process's address, not for the client's.
        mlflow.set_tracking_uri(self.address)
        if self._root is None:
            return MlflowClient(tracking_uri=self.address)
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(self._root / ".mlflow.lock"):  # two processes would both make the tables
            return MlflowClient(tracking_uri=self.address)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        place = (
            None if self._root is None else (self._root / "mlartifacts" / self.experiment).resolve().as_uri()
        )
        try:
            return str(self._client.create_experiment(self.experiment, artifact_location=place))
        except MlflowException:
            found = self._client.get_experiment_by_name(self.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of the libraries under MLflow; nothing that a user could mend
                yield
        except NcfError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow at {shown(self.address)} does not answer as it should ({_reason(error)})"
            ) from error


def _reason(error: BaseException) -> str:
    """What was at the bottom of it, in at most 200 characters."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    text = shown(" ".join((str(error) or type(error).__name__).split()))
    return text if len(text) <= 200 else f"{text[:200]}…"


def outward(name: str) -> str:
    """Our name of a figure, as MLflow admits it."""
    return name.replace("@", "_at_")


def inward(name: str) -> str:
    """MLflow's name of a figure, as ours."""
    return name.replace("_at_", "@")


def _record(run: Any, experiment: str) -> Record:
    info, data = run.info, run.data
    metrics = {inward(name): float(value) for name, value in data.metrics.items()}
    return Record(
        str(info.run_id), str(info.run_name), experiment, str(info.status), int(info.start_time), info.end_time,
        dict(data.params), metrics, dict(data.tags), str(info.artifact_uri),
    )  # fmt: skip
