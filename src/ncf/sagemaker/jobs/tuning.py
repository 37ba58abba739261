"""SageMaker's automatic model tuning over a space file, the same that `ncf tune` searches on this machine.

In: a `Space` and the options of a training job. Out: CreateHyperParameterTuningJob, and `TunerTrial`s as they
end. The one decision worth knowing: a range with steps becomes a choice among its values, since SageMaker's
ranges have no steps. Trials keep no checkpoints, because they would share them: a trial whose spot instance
is taken away starts again.

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
from ncf.sagemaker.calls import entries, wait_until
from ncf.sagemaker.container.hyperparameters import to_hyperparameters
from ncf.sagemaker.container.metric_lines import OBJECTIVE
from ncf.sagemaker.jobs import training as jobs
from ncf.sagemaker.jobs.requests import TrainingOptions, job_definition, script_hyperparameters
from ncf.sagemaker.jobs.run import OVER, JobFailed
from ncf.sagemaker.session import Session
from ncf.tuning.space import Parameter, Space

Strategy = Literal["Bayesian", "Random", "Hyperband"]
_LONGEST_PROJECT = 12
"""A tuning job's name has at most 32 characters, since its training jobs add to it; the time takes 20."""
_MOST_VALUES = 30
_MOST_RANGES = 30
_POLL = 15.0


@dataclass(frozen=True)
class TunerOptions:
    """How to search."""

    trials: int = 20
    """Training jobs in all."""
    parallel: int = 2
    """Training jobs at once."""
    strategy: Strategy = "Bayesian"
    early_stopping: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            choices = ", ".join(get_args(Strategy))
            raise ConfigError(f"--strategy takes one of {choices}, and not {self.strategy!r}.")
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
    """The request of one tuning job, named `training.name`.

    `space` says which settings of `experiment` vary, `training` where each trial runs, `options` how to
    search. Raises `ConfigError` where SageMaker would refuse it.
    """
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
    """A new name that is short enough for a tuning job."""
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
    """Follow a tuner to its end and return its trials; raises `JobFailed` where no trial completed.

    `on_trials` receives the trials after each look.
    """
    client = session.client("sagemaker")

    def look() -> tuple[dict[str, Any], list[TunerTrial]]:
        job = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        current = trials(session, name)
        on_trials(current)
        return job, current

    job, ended = wait_until(
        look,
        lambda state: state[0]["HyperParameterTuningJobStatus"] in OVER,
        first=_POLL,
        longest=_POLL,
        sleep=sleep,
    )
    if best(ended) is None:
        status = job["HyperParameterTuningJobStatus"]
        reason = _first_reason(session, ended) or job.get("FailureReason", "no trial was run.")
        raise JobFailed(f"The tuning job {name} has no trial with a result ({status}): {reason}", status, ())
    return ended


def trials(session: Session, name: str) -> list[TunerTrial]:
    """The tuner's training jobs so far, the best first."""
    summaries = entries(
        session.client("sagemaker"), "list_training_jobs_for_hyper_parameter_tuning_job",
        "TrainingJobSummaries",
        HyperParameterTuningJobName=name, MaxResults=100,
    )  # fmt: skip
    every = [_trial(summary) for summary in summaries]
    return sorted(every, key=lambda trial: (trial.objective is None, -(trial.objective or 0.0)))


def best(trials: list[TunerTrial]) -> TunerTrial | None:
    """The completed trial with the largest objective, or None."""
    done = [trial for trial in trials if trial.objective is not None and trial.status == "Completed"]
    return max(done, key=lambda trial: trial.objective or 0.0, default=None)


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
                f"{parameter.name}: SageMaker takes {_MOST_VALUES} values and this has {len(values)}: take a "
                "larger step."
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
    """Hyperband's resource, which is the epoch; raises `ConfigError` where the space varies it too."""
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


def _first_reason(session: Session, trials: list[TunerTrial]) -> str:
    """Why the first failed trial failed; empty where none has."""
    failed = next((trial for trial in trials if trial.status == "Failed"), None)
    try:
        return jobs.describe(session, failed.job).reason if failed else ""
    except CloudError as error:
        return str(error)
