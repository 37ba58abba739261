"""Tuning jobs: trials one after the other through the training path, drawn at random or off the grid.

Bayesian and Hyperband draw at random here: what is proved is the request, the hyperparameters that a trial receives and
the objective that is read from its log.
Sources: API reference, CreateHyperParameterTuningJob; Developer Guide, "Define hyperparameter ranges".
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from hosted.context import Context
from hosted.service import Answer, listing
from hosted.service import record_of as new_record
from hosted.store import Record, invalid, kind_of
from hosted.training import Training

_FAILED_AFTER = 5


class Tuning:
    """CreateHyperParameterTuningJob, StopHyperParameterTuningJob, ListTrainingJobsForHyperParameterTuningJob."""

    def __init__(self, context: Context, training: Training) -> None:
        self.context, self.training = context, training
        self.stops: dict[str, threading.Event] = {}

    def CreateHyperParameterTuningJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        definition, config = (
            parameters.get("TrainingJobDefinition"),
            parameters["HyperParameterTuningJobConfig"],
        )
        if not definition:
            raise invalid("The double runs one TrainingJobDefinition.")
        self.context.role(definition["RoleArn"])
        for channel in definition.get("InputDataConfig", ()):
            self.context.data(channel["DataSource"]["S3DataSource"]["S3Uri"], region, definition["RoleArn"])
        _check(config, definition)
        record = self.context.store.add(new_record(kind_of("HyperParameterTuningJob"), region, parameters))
        record.set(HyperParameterTuningJobStatus="InProgress", **_counters([]))
        self.stops[record.arn] = threading.Event()
        self.context.spawn(lambda: self._run(record, config, definition), record.name)
        return {"HyperParameterTuningJobArn": record.arn}

    def StopHyperParameterTuningJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(
            region, "HyperParameterTuningJob", parameters["HyperParameterTuningJobName"]
        )
        if record.status != "InProgress":
            raise invalid(f"The tuning job is in status {record.status} and cannot be stopped.")
        record.set(HyperParameterTuningJobStatus="Stopping")
        self.stops[record.arn].set()
        return {}

    def ListTrainingJobsForHyperParameterTuningJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        self.context.store.get(region, "HyperParameterTuningJob", parameters["HyperParameterTuningJobName"])
        trials = self._trials(region, parameters["HyperParameterTuningJobName"])
        by_value = parameters.get("SortBy") == "FinalObjectiveMetricValue"
        asked = {"SortOrder": "Ascending"} | parameters
        if by_value:
            trials.sort(key=_value)
            for place, trial in enumerate(trials):
                trial.state["place"] = place
        return listing(
            "ListTrainingJobsForHyperParameterTuningJob", trials, asked, "place" if by_value else None
        )

    def _trials(self, region: str, name: str) -> list[Record]:
        return [
            r for r in self.context.store.all(region, "TrainingJob") if r.state.get("TuningJobName") == name
        ]

    def _run(self, record: Record, config: dict[str, Any], definition: dict[str, Any]) -> None:
        limits, target = config["ResourceLimits"], config.get("TuningJobCompletionCriteria", {})
        most = limits.get("MaxNumberOfTrainingJobs", 500)
        for number, values in enumerate(itertools.islice(draws(config, record.name), most), start=1):
            if self.stops[record.arn].is_set() or self.context.closing.is_set():
                break
            trial = self._trial(record, config, definition, number, values)
            while trial.status not in ("Completed", "Failed", "Stopped"):
                if self.stops[record.arn].is_set():
                    self.training.jobs[trial.arn].stop.set()
                time.sleep(self.context.pause)
            self._judge(record, config, trial)
            trials = self._trials(record.region, record.name)
            if len(trials) >= _FAILED_AFTER and all(one.status == "Failed" for one in trials):
                break
            if _reached(record, config, target.get("TargetObjectiveMetricValue")):
                break
        self._end(record)

    def _trial(
        self,
        record: Record,
        config: dict[str, Any],
        definition: dict[str, Any],
        number: int,
        values: dict[str, str],
    ) -> Record:
        objective = config["HyperParameterTuningJobObjective"]["MetricName"]
        request = {
            name: value for name, value in definition.items() if name in kind_of("TrainingJob").described
        }
        request |= {
            "TrainingJobName": f"{record.name}-{number:03}-{uuid.uuid4().hex[:8]}",
            "HyperParameters": definition.get("StaticHyperParameters", {}) | values | {"_tuning_objective_metric": objective},
            "Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()],
        }  # fmt: skip
        trial = self.context.store.add(new_record(kind_of("TrainingJob"), record.region, request))
        trial.set(
            TuningJobArn=record.arn,
            TuningJobName=record.name,
            TunedHyperParameters=values,
            ObjectiveStatus="Pending",
        )
        self.training.start(trial)
        return trial

    def _judge(self, record: Record, config: dict[str, Any], trial: Record) -> None:
        objective = config["HyperParameterTuningJobObjective"]
        found = [
            one["Value"]
            for one in trial.state.get("FinalMetricDataList", ())
            if one["MetricName"] == objective["MetricName"]
        ]
        if trial.status == "Completed" and found:
            final = {"MetricName": objective["MetricName"], "Value": found[0], "Type": objective["Type"]}
            trial.set(ObjectiveStatus="Succeeded", FinalHyperParameterTuningJobObjectiveMetric=final)
        else:
            trial.set(ObjectiveStatus="Failed")
        trials = self._trials(record.region, record.name)
        good = sorted((t for t in trials if t.state["ObjectiveStatus"] == "Succeeded"), key=_value)
        best = good and good[-1 if objective["Type"] == "Maximize" else 0]
        members = kind_of("HyperParameterTuningJob").described["BestTrainingJob"].members
        known = {n: v for n, v in best.everything.items() if n in members} if best else None
        record.set(BestTrainingJob=known, **_counters(trials))

    def _end(self, record: Record) -> None:
        status, more = "Completed", {}
        if self.stops[record.arn].is_set():
            status = "Stopped"
        elif not record.state.get("BestTrainingJob"):
            status = "Failed"
            more = {"FailureReason": "No training job succeeded. For additional details, please take a look at the training "
                    "job failures by listing training jobs for the hyperparameter tuning job."}  # fmt: skip
        record.set(HyperParameterTuningEndTime=time.time(), HyperParameterTuningJobStatus=status, **more)


def draws(config: dict[str, Any], seed: str) -> Iterator[dict[str, str]]:
    """Values for trial after trial, as text."""
    ranges = config.get("ParameterRanges", {})
    choices = ranges.get("CategoricalParameterRanges", [])
    if config["Strategy"] == "Grid":
        names = [one["Name"] for one in choices]
        for values in itertools.product(*(one["Values"] for one in choices)):
            yield dict(zip(names, values, strict=True))
        return
    source = random.Random(config.get("RandomSeed", seed))
    while True:
        values = {one["Name"]: source.choice(one["Values"]) for one in choices}
        for one in ranges.get("ContinuousParameterRanges", ()):
            values[one["Name"]] = repr(
                _between(source.random(), float(one["MinValue"]), float(one["MaxValue"]), one)
            )
        for one in ranges.get("IntegerParameterRanges", ()):
            low, high = int(one["MinValue"]), int(one["MaxValue"])
            values[one["Name"]] = str(min(high, max(low, round(_between(source.random(), low, high, one)))))
        yield values


def _between(share: float, low: float, high: float, one: dict[str, Any]) -> float:
    scale = one.get("ScalingType", "Auto")
    if scale == "Logarithmic":
        return min(high, max(low, math.exp(math.log(low) + share * (math.log(high) - math.log(low)))))
    if scale == "ReverseLogarithmic":
        return 1 - math.exp(math.log(1 - low) + share * (math.log(1 - high) - math.log(1 - low)))
    return low + share * (high - low)


def _check(config: dict[str, Any], definition: dict[str, Any]) -> None:
    ranges = config.get("ParameterRanges", {})
    numbers = [*ranges.get("IntegerParameterRanges", ()), *ranges.get("ContinuousParameterRanges", ())]
    names = [one["Name"] for one in (*numbers, *ranges.get("CategoricalParameterRanges", ()))]
    both = set(names) & set(definition.get("StaticHyperParameters", {}))
    if both or len(set(names)) != len(names):
        raise invalid(
            f"Hyperparameters must not be both static and tuned, nor tuned twice: {sorted(both or names)}"
        )
    for one in numbers:
        low, high = float(one["MinValue"]), float(one["MaxValue"])
        if low >= high or (one.get("ScalingType") == "Logarithmic" and low <= 0):
            raise invalid(
                f"The range of {one['Name']} is not valid: [{low}, {high}] {one.get('ScalingType', 'Auto')}"
            )
        if one.get("ScalingType") == "ReverseLogarithmic" and not 0 <= low < high < 1:
            raise invalid(f"ReverseLogarithmic needs a range within [0, 1): {one['Name']}")
    if config["Strategy"] == "Grid" and numbers:
        raise invalid("Grid search takes categorical parameter ranges only.")
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    if metric not in {
        one["Name"] for one in definition["AlgorithmSpecification"].get("MetricDefinitions", ())
    }:
        raise invalid(
            f"The objective metric {metric} is not among the metric definitions of the training job."
        )
    if config["ResourceLimits"]["MaxParallelTrainingJobs"] > config["ResourceLimits"].get(
        "MaxNumberOfTrainingJobs", 500
    ):
        raise invalid("MaxParallelTrainingJobs must not be larger than MaxNumberOfTrainingJobs.")


def _counters(trials: list[Record]) -> dict[str, Any]:
    statuses = [trial.status for trial in trials]
    judged = [trial.state["ObjectiveStatus"] for trial in trials]
    jobs = {name: statuses.count(name) for name in ("Completed", "InProgress", "Stopped")}
    jobs |= {"RetryableError": 0, "NonRetryableError": statuses.count("Failed")}
    return {
        "TrainingJobStatusCounters": jobs,
        "ObjectiveStatusCounters": {name: judged.count(name) for name in ("Succeeded", "Pending", "Failed")},
    }


def _value(trial: Record) -> float:
    found = trial.state.get("FinalHyperParameterTuningJobObjectiveMetric")
    return float(found["Value"]) if found else -math.inf


def _reached(record: Record, config: dict[str, Any], target: float | None) -> bool:
    best = record.state.get("BestTrainingJob")
    if target is None or not best:
        return False
    value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    if config["HyperParameterTuningJobObjective"]["Type"] == "Maximize":
        return bool(value >= target)
    return bool(value <= target)
