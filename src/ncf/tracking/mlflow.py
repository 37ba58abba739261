"""Runs in MLflow, addressed as follows.

| address | what it is |
| --- | --- |
| `sqlite:///mlflow.db` (the default), a folder | a database file, with artifacts in `mlartifacts/` there |
| `http://…`, `https://…` | an MLflow server |
| `arn:aws:sagemaker:…` | a server managed by AWS, reached through the plug-in `sagemaker-mlflow` |

In: figures under our names. Out: figures in MLflow, which does not allow "@" in a name: `ndcg@10` becomes
`ndcg_at_10` there, and `ndcg@10` again when it is read. Every error of MLflow and its libraries becomes one
`TrackingError`. Only this module imports MLflow, when the first run is recorded, and it switches MLflow's
telemetry off.
"""

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

from ncf.errors import ConfigError, NcfError, TrackingError, need

DEFAULT_ADDRESS = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "ncf"
_ARN = re.compile(r"arn:aws[\w-]*:sagemaker:[\w-]+:\d{12}:mlflow-(tracking-server|app)/[\w-]+")
# By default MLflow retries for four minutes, while training stands still. Standard output is for our answers.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Record:
    """A run as MLflow stores it; `metrics` are the last value of each name, under our names."""

    run_id: str
    name: str
    experiment: str
    status: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    artifacts: str
    """The address of the run's artifact folder."""

    @property
    def parent(self) -> str | None:
        """The id of the run that contains this one, for a half of a pre-trained NeuMF."""
        return self.tags.get("mlflow.parentRunId")


def resolve(address: str | None) -> str:
    """Translate an address as a user writes it into one that MLflow understands.

    `address` is a database, a folder, a server's URL or an ARN; None is `sqlite:///mlflow.db`. Raises
    `ConfigError` for an address that cannot work on this machine.
    """
    address = address or DEFAULT_ADDRESS
    need("mlflow", "mlflow", hint=", in an image: make image EXTRAS=mlflow")
    if remote(address):
        if address.startswith("arn:"):
            need("mlflow", "sagemaker_mlflow")
        return address
    scheme, separator, _ = address.partition("://")
    if separator and scheme != "sqlite":
        raise ConfigError(
            f"{shown(address)} is not a tracking address: give sqlite:///FILE, a folder, http(s)://SERVER "
            "or the ARN of an MLflow tracking server."
        )
    if separator:
        return f"sqlite:///{Path(address.removeprefix('sqlite:///')).resolve()}"
    folder = Path(address)
    if folder.is_file():
        raise ConfigError(f"{folder} is a file: write sqlite:///{folder} for a database, or give a folder.")
    if any(folder.glob("*/meta.yaml")):
        raise ConfigError(
            f"{folder} holds text files of MLflow 2, which MLflow 3 no longer reads: convert them with "
            f"'mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db', or give another "
            "folder."
        )
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def remote(address: str) -> bool:
    """Whether other machines can reach `address` too (a URL or an ARN). Raises `ConfigError` for a malformed
    ARN."""
    if address.startswith("arn:") and not _ARN.fullmatch(address):
        raise ConfigError(
            f"{address} is not the ARN of a tracking server, which has the form "
            "arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME."
        )
    return address.startswith(("arn:", "http://", "https://"))


def shown(address: str) -> str:
    """`address` without its password, for messages."""
    return re.sub(r"(//[^/@:]+):[^/@]*@", r"\1:…@", address)


class MLflowStore:
    """One experiment of MLflow at one address. Every method may raise `TrackingError`."""

    def __init__(self, address: str, experiment: str) -> None:
        """Connect to `address` (see `resolve`); `experiment` is created when its first run begins."""
        self.address, self.experiment = address, experiment
        self._root = (
            Path(address.removeprefix("sqlite:///")).parent if address.startswith("sqlite:") else None
        )
        with self._translated():
            self._client = self._connect()

    def begin(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, str]) -> str:
        """Create a run called `name` and return its id."""
        with self._translated():
            run = self._client.create_run(self._experiment_id(), tags=dict(tags), run_name=name)
        self.add_parameters(run.info.run_id, parameters)
        return str(run.info.run_id)

    def add_parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        """Add those of the `parameters` that the run does not have yet: the store never changes one."""
        from mlflow.entities import Param

        with self._translated():
            known = self._client.get_run(run_id).data.params
            pairs = [Param(key, value) for key, value in parameters.items() if key not in known]
            for start in range(0, len(pairs), 100):  # MLflow takes at most 100 parameters in one request
                self._client.log_batch(run_id, params=pairs[start : start + 100])

    def resume(self, run_id: str) -> set[int] | None:
        """Mark a run as running again. Returns the epochs that it already has, or None if there is no such
        run."""
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                history = self._client.get_metric_history(run_id, "loss")
                self._client.update_run(run_id, status="RUNNING")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        return {metric.step for metric in history}

    def log_metrics(self, run_id: str, figures: Mapping[str, float], step: int, seconds: float) -> None:
        """Add `figures` as the metrics of one `step`, at the time `seconds` since 1970."""
        from mlflow.entities import Metric

        with self._translated():
            when = int(seconds * 1000)
            metrics = [Metric(outward(name), float(value), when, step) for name, value in figures.items()]
            self._client.log_batch(run_id, metrics=metrics)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Set one tag, cut off at the 5,000 characters that MLflow accepts."""
        with self._translated():
            self._client.set_tag(run_id, name, value[:5000])

    def upload(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Upload the file or folder at `path` into the run's artifacts, below `folder` there."""
        with self._translated():
            send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            send(run_id, str(path), folder)

    def end(self, run_id: str, status: Status) -> None:
        """Mark a run as over, with `status`."""
        with self._translated():
            self._client.set_terminated(run_id, status)

    def runs(self, tags: Mapping[str, str] | None = None) -> list[Record]:
        """The runs of every experiment, oldest first; with `tags`, only those that have all of them."""
        with self._translated():
            names = {str(e.experiment_id): str(e.name) for e in self._client.search_experiments()}
            query = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in (tags or {}).items())
            rows = self._client.search_runs(
                list(names), filter_string=query, order_by=["attributes.start_time ASC"]
            )
        return [_record(row, names[str(row.info.experiment_id)]) for row in rows]

    def _connect(self) -> Any:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.tracking import MlflowClient

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        # The plug-in for ARNs signs requests for the process's address, not for the client's.
        mlflow.set_tracking_uri(self.address)
        if self._root is None:
            return MlflowClient(tracking_uri=self.address)
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(self._root / ".mlflow.lock"):  # otherwise two processes would both create the tables
            return MlflowClient(tracking_uri=self.address)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self.experiment)
        if experiment is None:
            folder = self._root and (self._root / "mlartifacts" / self.experiment).resolve().as_uri()
            try:
                return str(self._client.create_experiment(self.experiment, artifact_location=folder))
            except MlflowException:
                # Another process may have created it in the meantime.
                experiment = self._client.get_experiment_by_name(self.experiment)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn whatever MLflow raises into a `TrackingError`, and keep its libraries' warnings from the
        user."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except NcfError:
            raise
        except Exception as error:
            raise TrackingError(f"MLflow at {shown(self.address)} failed ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """The innermost cause, in at most 200 characters."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    text = shown(" ".join((str(error) or type(error).__name__).split()))
    return text if len(text) <= 200 else f"{text[:200]}…"


def outward(name: str) -> str:
    """The name of a figure as MLflow allows it."""
    return name.replace("@", "_at_")


def inward(name: str) -> str:
    """The name of a figure as we write it, from the one in MLflow."""
    return name.replace("_at_", "@")


def _record(run: Any, experiment: str) -> Record:
    info, data = run.info, run.data
    metrics = {inward(name): float(value) for name, value in data.metrics.items()}
    return Record(
        str(info.run_id), str(info.run_name), experiment, str(info.status),
        dict(data.params), metrics, dict(data.tags), str(info.artifact_uri),
    )  # fmt: skip
