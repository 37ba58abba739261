"""Tuning jobs: trials one after the other, each a training job, drawn at random or off the grid.

Bayesian and Hyperband draw at random here: what this shows is the request, the hyperparameters that a trial
receives, and the objective that is read from its log. Sources: API reference, CreateHyperParameterTuningJob;
Developer Guide, "Define hyperparameter ranges".
"""

from __future__ import annotations

import itertools
import math
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

from ncf.sagemaker.local.answers import Answer, listing
from ncf.sagemaker.local.requests import invalid
from ncf.sagemaker.local.state import ENDED, StateRecord, kind_of
from ncf.sagemaker.local.surroundings import Plane

KIND = "HyperParameterTuningJob"
_FAILED_AFTER = 5
"""Trials that fail before a job gives up."""


class Tuning:
    """The calls of tuning jobs, and what their worker does."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.store = plane, plane.store

    def create_hyper_parameter_tuning_job(self, request: Answer) -> Answer:
        """Check a search as AWS does and start it."""
        definition, config = request.get("TrainingJobDefinition"), request["HyperParameterTuningJobConfig"]
        if not definition:
            raise invalid("SageMaker on this machine runs one TrainingJobDefinition.")
        self.plane.around.check_role(definition["RoleArn"])
        for channel in definition.get("InputDataConfig", ()):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            self.plane.storage.check(uri, f"The channel {channel['ChannelName']!r}")
        _check(config, definition)
        state = {"HyperParameterTuningJobStatus": "InProgress", **_counters([])}
        record = self.store.add(KIND, request[f"{KIND}Name"], request, **state)
        self.plane.launch(record)
        return {f"{KIND}Arn": record.arn}

    def stop_hyper_parameter_tuning_job(self, request: Answer) -> Answer:
        """Ask a search to stop, and its trial with it."""
        record = self.store.get(KIND, request[f"{KIND}Name"])
        if record.status != "InProgress":
            raise invalid(f"The tuning job is in status {record.status} and cannot be stopped.")
        record.set(HyperParameterTuningJobStatus="Stopping")
        return {}

    def list_training_jobs_for_hyper_parameter_tuning_job(self, request: Answer) -> Answer:
        """The trials of a search."""
        name = self.store.get(KIND, request[f"{KIND}Name"]).name
        trials, by = self._trials(name), None
        if request.get("SortBy") == "FinalObjectiveMetricValue":
            by = "place"
            for place, trial in enumerate(sorted(trials, key=_value)):
                trial.state[by] = place
        return listing(
            "ListTrainingJobsForHyperParameterTuningJob", trials, {"SortOrder": "Ascending"} | request, by
        )

    def run(self, record: StateRecord, _task: str) -> None:
        """Trial after trial, until their number, the target, a stop or too many failures."""
        config = record.request["HyperParameterTuningJobConfig"]
        definition = record.request["TrainingJobDefinition"]
        target = config.get("TuningJobCompletionCriteria", {}).get("TargetObjectiveMetricValue")
        most = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 500)
        for number, values in enumerate(itertools.islice(draws(config, record.name), most), start=1):
            if self._stopped(record):
                break
            trial = self._trial(record, config, definition, number, values)
            while trial.status not in ENDED:
                if self._stopped(record) and trial.status == "InProgress":
                    self.plane.jobs.stop(trial)
                time.sleep(self.plane.around.pause)
                trial.reload()
            self._read_objective(record, config, trial)
            trials = self._trials(record.name)
            if len(trials) >= _FAILED_AFTER and all(one.status == "Failed" for one in trials):
                break
            if target is not None and _reached(record, config, target):
                break
        status, reason = "Stopped" if self._stopped(record) else "Completed", ""
        if status == "Completed" and not record.state.get("BestTrainingJob"):
            status = "Failed"
            reason = (
                "No training job succeeded. For additional details, please take a look at the training job "
                "failures by "
                "listing training jobs for the hyperparameter tuning job."
            )
        more = {"FailureReason": reason} if reason else {}
        record.set(HyperParameterTuningEndTime=time.time(), **{f"{KIND}Status": status}, tasks=[], **more)

    def _stopped(self, record: StateRecord) -> bool:
        return not record.reload() or record.status == "Stopping" or self.plane.around.closing

    def _trials(self, name: str) -> list[StateRecord]:
        return [job for job in self.store.all("TrainingJob") if job.state.get("TuningJobName") == name]

    def _trial(
        self, record: StateRecord, config: Answer, definition: Answer, number: int, values: dict[str, str]
    ) -> StateRecord:
        """Start the training job of a trial."""
        objective = config["HyperParameterTuningJobObjective"]["MetricName"]
        members = kind_of("TrainingJob").described
        static = definition.get("StaticHyperParameters", {})
        request = {name: value for name, value in definition.items() if name in members}
        request |= {
            "TrainingJobName": f"{record.name}-{number:03}-{uuid.uuid4().hex[:8]}",
            "HyperParameters": static | values | {"_tuning_objective_metric": objective},
            "Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()],
        }
        trial: StateRecord = self.plane.jobs.start_training(
            request,
            TuningJobArn=record.arn,
            TuningJobName=record.name,
            TunedHyperParameters=values,
            ObjectiveStatus="Pending",
        )
        return trial

    def _read_objective(self, record: StateRecord, config: Answer, trial: StateRecord) -> None:
        """Note the objective of a trial that has ended, and the best trial so far."""
        objective = config["HyperParameterTuningJobObjective"]
        metrics = {
            entry["MetricName"]: entry["Value"] for entry in trial.state.get("FinalMetricDataList", ())
        }
        value = metrics.get(objective["MetricName"])
        if trial.status == "Completed" and value is not None:
            final = {"MetricName": objective["MetricName"], "Value": value, "Type": objective["Type"]}
            trial.set(ObjectiveStatus="Succeeded", FinalHyperParameterTuningJobObjectiveMetric=final)
        else:
            trial.set(ObjectiveStatus="Failed")
        trials = self._trials(record.name)
        good = sorted((one for one in trials if one.state["ObjectiveStatus"] == "Succeeded"), key=_value)
        best = good[-1 if objective["Type"] == "Maximize" else 0] if good else None
        members = kind_of(KIND).described["BestTrainingJob"].members
        known = {name: value for name, value in best.everything.items() if name in members} if best else None
        record.set(BestTrainingJob=known, **_counters(trials))


def draws(config: Answer, seed: str) -> Iterator[dict[str, str]]:
    """Values for trial after trial, as text; `seed` is taken where the configuration has none."""
    ranges = config.get("ParameterRanges", {})
    choices = ranges.get("CategoricalParameterRanges", [])
    if config["Strategy"] == "Grid":
        names = [entry["Name"] for entry in choices]
        for combination in itertools.product(*(entry["Values"] for entry in choices)):
            yield dict(zip(names, combination, strict=True))
        return
    source = random.Random(config.get("RandomSeed", seed))
    while True:
        values = {entry["Name"]: source.choice(entry["Values"]) for entry in choices}
        for entry in ranges.get("ContinuousParameterRanges", ()):
            low, high = float(entry["MinValue"]), float(entry["MaxValue"])
            values[entry["Name"]] = repr(_between(source.random(), low, high, entry))
        for entry in ranges.get("IntegerParameterRanges", ()):
            low, high = int(entry["MinValue"]), int(entry["MaxValue"])
            drawn = round(_between(source.random(), low, high, entry))
            values[entry["Name"]] = str(min(high, max(low, drawn)))
        yield values


def _between(share: float, low: float, high: float, entry: Answer) -> float:
    """The value at a share of the way through a range on its scale."""
    scale = entry.get("ScalingType", "Auto")
    if scale == "Logarithmic":
        return min(high, max(low, math.exp(math.log(low) + share * (math.log(high) - math.log(low)))))
    if scale == "ReverseLogarithmic":
        return 1 - math.exp(math.log(1 - low) + share * (math.log(1 - high) - math.log(1 - low)))
    return low + share * (high - low)


def _check(config: Answer, definition: Answer) -> None:
    """Raise what AWS answers for a search that cannot be."""
    ranges, limits = config.get("ParameterRanges", {}), config["ResourceLimits"]
    numbers = [*ranges.get("IntegerParameterRanges", ()), *ranges.get("ContinuousParameterRanges", ())]
    names = [entry["Name"] for entry in (*numbers, *ranges.get("CategoricalParameterRanges", ()))]
    both = set(names) & set(definition.get("StaticHyperParameters", {}))
    if both or len(set(names)) != len(names):
        raise invalid(
            f"Hyperparameters must not be both static and tuned, nor tuned twice: {sorted(both or names)}"
        )
    for entry in numbers:
        low, high, scale = (
            float(entry["MinValue"]),
            float(entry["MaxValue"]),
            entry.get("ScalingType", "Auto"),
        )
        if low >= high or (scale == "Logarithmic" and low <= 0):
            raise invalid(f"The range of {entry['Name']} is not valid: [{low}, {high}] {scale}")
        if scale == "ReverseLogarithmic" and not 0 <= low < high < 1:
            raise invalid(f"ReverseLogarithmic needs a range within [0, 1): {entry['Name']}")
    if config["Strategy"] == "Grid" and numbers:
        raise invalid("Grid search takes categorical parameter ranges only.")
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    if metric not in {
        entry["Name"] for entry in definition["AlgorithmSpecification"].get("MetricDefinitions", ())
    }:
        raise invalid(
            f"The objective metric {metric} is not among the metric definitions of the training job."
        )
    if limits["MaxParallelTrainingJobs"] > limits.get("MaxNumberOfTrainingJobs", 500):
        raise invalid("MaxParallelTrainingJobs must not be larger than MaxNumberOfTrainingJobs.")


def _counters(trials: list[StateRecord]) -> dict[str, Any]:
    statuses = [trial.status for trial in trials]
    objectives = [trial.state["ObjectiveStatus"] for trial in trials]
    jobs = {name: statuses.count(name) for name in ("Completed", "InProgress", "Stopped")}
    jobs |= {"RetryableError": 0, "NonRetryableError": statuses.count("Failed")}
    return {
        "TrainingJobStatusCounters": jobs,
        "ObjectiveStatusCounters": {
            name: objectives.count(name) for name in ("Succeeded", "Pending", "Failed")
        },
    }


def _value(trial: StateRecord) -> float:
    metric = trial.state.get("FinalHyperParameterTuningJobObjectiveMetric")
    return float(metric["Value"]) if metric else -math.inf


def _reached(record: StateRecord, config: Answer, target: float) -> bool:
    best = record.state.get("BestTrainingJob")
    if not best:
        return False
    value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return bool(
        value >= target
        if config["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
        else value <= target
    )
