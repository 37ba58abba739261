"""SageMaker's automatic model tuning over a space file, the same that `ncf tune` searches on this machine.

In: a `Space` and the options of a training job. Out: CreateHyperParameterTuningJob, and `TunerTrial`s as they end. The one
decision worth knowing: a range with steps becomes a choice among its values, since SageMaker's ranges have none.
Trials keep no checkpoints, which they would share; a spot instance that is taken away begins its trial again.

Source: CreateHyperParameterTuningJob and "How Hyperparameter Tuning Works", SageMaker Developer Guide.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ncf.config import Experiment
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker import names
from ncf.sagemaker.container.hyperparameters import to_hyperparameters
from ncf.sagemaker.container.metric_lines import OBJECTIVE
from ncf.sagemaker.jobs import training as jobs
from ncf.sagemaker.jobs.requests import TrainingOptions, job_definition, script_hyperparameters
from ncf.sagemaker.jobs.training import OVER, JobFailed
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import Session
from ncf.tuning.space import Parameter, Space

Strategy = Literal["Bayesian", "Random", "Hyperband"]
_LONGEST_PROJECT = 12
"""A tuning job's name has 32 characters at most, 20 of which are the time: its training jobs add to it."""
_MOST_VALUES = 30
_MOST_RANGES = 30
_POLL = 15.0


@dataclass(frozen=True)
class TunerOptions:
    """How to search."""

    trials: int = 20
    parallel: int = 2
    strategy: Strategy = "Bayesian"
    early_stopping: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ConfigError(
                f"--strategy takes one of {', '.join(get_args(Strategy))}, and not {self.strategy!r}."
            )
        if self.trials < 1 or self.parallel < 1:
            raise ConfigError("--trials and --parallel must be 1 or more.")
        if self.strategy == "Hyperband" and self.early_stopping:
            raise ConfigError("Hyperband stops trials early by itself: leave out --early-stopping.")


@dataclass(frozen=True)
class TunerTrial:
    """One training job of a tuner."""

    job: str
    status: str
    values: Mapping[str, str]
    """The hyperparameters that were tuned."""
    objective: float | None
    seconds: float | None


def parameter_ranges(space: Space) -> dict[str, list[dict[str, Any]]]:
    """`ParameterRanges`; raises `ConfigError` for more ranges or values than SageMaker takes."""
    ranges: dict[str, list[dict[str, Any]]] = {}
    for parameter in space:
        kind, entry = _range(parameter)
        ranges.setdefault(kind, []).append(entry)
    if sum(map(len, ranges.values())) > _MOST_RANGES:
        raise ConfigError(
            f"SageMaker tunes at most {_MOST_RANGES} hyperparameters: leave some out of the space."
        )
    return ranges


def tuning_request(
    session: Session, experiment: Experiment, space: Space, training: TrainingOptions, options: TunerOptions
) -> dict[str, Any]:
    """The request of one tuning job, named `training.name`; what is tuned overrides the recipe."""
    space.check(experiment)
    tuned = {parameter.name for parameter in space}
    fixed = {name: text for name, text in to_hyperparameters(experiment).items() if name not in tuned}
    config: dict[str, Any] = {
        "Strategy": options.strategy,
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": OBJECTIVE},
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": options.trials,
            "MaxParallelTrainingJobs": min(options.parallel, options.trials),
        },
        "ParameterRanges": parameter_ranges(space),
        "TrainingJobEarlyStoppingType": "Auto" if options.early_stopping else "Off",
        "RandomSeed": experiment.train.seed,
    }
    if options.strategy == "Hyperband":
        config["StrategyConfig"] = {"HyperbandStrategyConfig": _resources(experiment, space)}
    definition = job_definition(session, training)
    if "KeepAlivePeriodInSeconds" in definition["ResourceConfig"]:
        raise ConfigError("Jobs of a tuner cannot keep instances warm: leave out --keep-alive.")
    definition["StaticHyperParameters"] = {**fixed, **script_hyperparameters(session, training)}
    return {
        "HyperParameterTuningJobName": training.name,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": definition,
        "Tags": session.tags(),
    }


def new_name(session: Session) -> str:
    """A name that is short enough."""
    return names.new_name(session.project[:_LONGEST_PROJECT])


def start(session: Session, request: Mapping[str, Any]) -> str:
    """Start the tuner and return its name."""
    session.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    return str(request["HyperParameterTuningJobName"])


def wait(
    session: Session,
    name: str,
    on_trials: Callable[[list[TunerTrial]], None] = lambda _: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[TunerTrial]:
    """Follow a tuner to its end; raises `JobFailed` where it failed without one good trial."""
    client = session.client("sagemaker")
    while True:
        described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        found = trials(session, name)
        on_trials(found)
        if described["HyperParameterTuningJobStatus"] in OVER:
            break
        sleep(_POLL)
    if best(found) is None:
        status = described["HyperParameterTuningJobStatus"]
        reason = _first_reason(session, found) or described.get("FailureReason", "no trial was run.")
        raise JobFailed(f"The tuning job {name} has no trial with a result ({status}): {reason}", status, ())
    return found


def trials(session: Session, name: str) -> list[TunerTrial]:
    """The tuner's training jobs so far, the best first."""
    jobs_of = session.client("sagemaker").list_training_jobs_for_hyper_parameter_tuning_job
    summaries = entries(jobs_of, "TrainingJobSummaries", HyperParameterTuningJobName=name, MaxResults=100)
    found = [_trial(one) for one in summaries]
    return sorted(found, key=lambda one: (one.objective is None, -(one.objective or 0.0)))


def best(found: list[TunerTrial]) -> TunerTrial | None:
    """The completed trial with the largest objective."""
    done = [one for one in found if one.objective is not None and one.status == "Completed"]
    return max(done, key=lambda one: one.objective or 0.0, default=None)


def stop(session: Session, name: str) -> None:
    """Stop the tuner and its jobs."""
    session.client("sagemaker").stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def _range(parameter: Parameter) -> tuple[str, dict[str, Any]]:
    values = list(parameter.values)
    if parameter.step is not None and parameter.low is not None and parameter.high is not None:
        count = round((parameter.high - parameter.low) / parameter.step) + 1
        values = [parameter.low + parameter.step * number for number in range(count)]
    if values:
        if len(values) > _MOST_VALUES:
            raise ConfigError(
                f"{parameter.name}: SageMaker takes {_MOST_VALUES} values and this has {len(values)}: take a larger step."
            )
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        return "CategoricalParameterRanges", {"Name": parameter.name, "Values": texts}
    entry = {
        "Name": parameter.name,
        "MinValue": repr(parameter.low),
        "MaxValue": repr(parameter.high),
        "ScalingType": "Logarithmic" if parameter.log else "Auto",
    }
    kind = "Integer" if parameter.kind == "integer" else "Continuous"
    return f"{kind}ParameterRanges", entry


def _resources(experiment: Experiment, space: Space) -> dict[str, int]:
    """Hyperband's resource is the epoch."""
    if any(parameter.name == "train.epochs" for parameter in space):
        raise ConfigError("Hyperband chooses the epochs itself: leave train.epochs out of the space.")
    return {"MinResource": 1, "MaxResource": experiment.train.epochs}


def _trial(summary: Mapping[str, Any]) -> TunerTrial:
    start, end = summary.get("TrainingStartTime"), summary.get("TrainingEndTime")
    final = summary.get("FinalHyperParameterTuningJobObjectiveMetric")
    return TunerTrial(
        job=summary["TrainingJobName"],
        status=summary["TrainingJobStatus"],
        values=dict(summary.get("TunedHyperParameters", {})),
        objective=float(final["Value"]) if final else None,
        seconds=(end - start).total_seconds() if start and end else None,
    )


def _first_reason(session: Session, found: list[TunerTrial]) -> str:
    """Why the first trial that failed did; empty where none has."""
    failed = next((one for one in found if one.status == "Failed"), None)
    try:
        return jobs.describe(session, failed.job).reason if failed else ""
    except CloudError as error:
        return str(error)
