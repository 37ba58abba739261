"""Training jobs: the real layout of /opt/ml around whatever the runner runs, with AWS's statuses and words.

Sources: Developer Guide, "How Amazon SageMaker Provides Training Information" and "… Processes Training Output";
API reference, DescribeTrainingJob (SecondaryStatus, FailureReason); "Managed Spot Training".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from hosted.context import Context
from hosted.folders import Log
from hosted.runners import Running, Spec
from hosted.service import Answer, record_of
from hosted.store import Record, invalid, kind_of

GROUP = "/aws/sagemaker/TrainingJobs"
_GRACE = 120
_SPOT_SHARE = 0.3
"""Of the seconds, what is billed on spot instances."""


class Training:
    """CreateTrainingJob, StopTrainingJob, UpdateTrainingJob."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.jobs: dict[str, Job] = {}

    def CreateTrainingJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        self.context.role(parameters["RoleArn"])
        _check_times(parameters)
        self._check_data(region, parameters)
        record = self.context.store.add(record_of(kind_of("TrainingJob"), region, parameters))
        self.start(record)
        return {"TrainingJobArn": record.arn}

    def start(self, record: Record) -> Job:
        """Run a job that is in the store; over already where nothing runs."""
        record.set(TrainingJobStatus="InProgress", SecondaryStatus="Starting", SecondaryStatusTransitions=[])
        job = self.jobs[record.arn] = Job(self.context, record)
        self.context.spawn(job.run, record.name)
        return job

    def StopTrainingJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "TrainingJob", parameters["TrainingJobName"])
        if record.status in ("Completed", "Failed", "Stopped"):
            raise invalid(f"The request was rejected because the training job is in status {record.status}.")
        record.set(TrainingJobStatus="Stopping")
        self.jobs[record.arn].stop.set()
        return {}

    def UpdateTrainingJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "TrainingJob", parameters["TrainingJobName"])
        if parameters.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds") == 0:
            record.set(WarmPoolStatus={"Status": "Terminated"})
        return {"TrainingJobArn": record.arn}

    def _check_data(self, region: str, parameters: dict[str, Any]) -> None:
        for channel in parameters.get("InputDataConfig", ()):
            if source := channel["DataSource"].get("S3DataSource"):
                self.context.data(source["S3Uri"], region, parameters["RoleArn"])


class Job:
    """One job on its way through the statuses."""

    def __init__(self, context: Context, record: Record) -> None:
        self.context, self.record, self.request = context, record, record.request
        self.stop, self.interrupt = threading.Event(), threading.Event()
        self.seconds = 0.0
        self.lines: list[str] = []
        self.sent: dict[Path, tuple[int, int]] = {}
        self.hosts = [f"algo-{n + 1}" for n in range(self.request["ResourceConfig"].get("InstanceCount", 1))]
        self.network = f"double-{uuid.uuid4().hex[:8]}" if len(self.hosts) > 1 else None

    def run(self) -> None:
        """From Starting to the end."""
        if self.network:
            self.context.runner.network(self.network)
        try:
            while self._attempt():
                self._transition(
                    "Interrupted", "Training job was interrupted by a spot instance reclamation."
                )
        except LookupError as missing:
            self._end("Failed", "Failed", f"ClientError: Cannot find the requested image {missing}.")
        except Exception as error:
            self._end("Failed", "Failed", f"InternalServerError: the double: {type(error).__name__}: {error}")

    def _attempt(self) -> bool:
        """One set of containers; True where it was interrupted and has to start again."""
        self._transition("Starting", "Preparing the instances for training")
        roots = [self.context.folder(self.record.name) for _ in self.hosts]
        self._transition("Downloading", "Downloading input data")
        for number, root in enumerate(roots):
            self._lay_out(root, number)
        self._transition("Training", "Training image download completed. Training in progress.")
        started = time.time()
        self.record.set(TrainingStartTime=self.record.state.get("TrainingStartTime", started))
        running = [
            self.context.runner.start(self._spec(root, host))
            for root, host in zip(roots, self.hosts, strict=True)
        ]
        codes = self._watch(running, roots)
        self.seconds += time.time() - started
        for one in running:
            one.end()
        if self.interrupt.is_set() and not self.stop.is_set():
            self.interrupt.clear()
            return True
        self._finish(roots, codes)
        return False

    def _lay_out(self, root: Path, number: int) -> None:
        for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        channels = self.request.get("InputDataConfig", [])
        resources = {
            "current_host": self.hosts[number], "hosts": self.hosts, "network_interface_name": "eth0",
            "current_instance_type": self.request["ResourceConfig"].get("InstanceType"), "current_group_name": "homogeneousCluster",
        }  # fmt: skip
        described = {
            one["ChannelName"]: {"TrainingInputMode": "File", "S3DistributionType": _source(one).get("S3DataDistributionType", "FullyReplicated"), "RecordWrapperType": "None"}
            for one in channels
        }  # fmt: skip
        for name, value in (
            ("hyperparameters", self.request.get("HyperParameters", {})),
            ("resourceconfig", resources),
            ("inputdataconfig", described),
        ):
            (root / "input" / "config" / f"{name}.json").write_text(json.dumps(value), "utf-8")
        for one in channels:
            sharded = _source(one).get("S3DataDistributionType") == "ShardedByS3Key"
            share = (number, len(self.hosts)) if sharded else (0, 1)
            self.context.cloud.fetch(
                _source(one)["S3Uri"], root / "input" / "data" / one["ChannelName"], share
            )
        if kept := self.request.get("CheckpointConfig"):
            self.context.cloud.fetch(kept["S3Uri"].rstrip("/") + "/", root / "checkpoints")

    def _spec(self, root: Path, host: str) -> Spec:
        algorithm = self.request["AlgorithmSpecification"]
        kept = self.request.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints").rstrip("/")
        own = {"TRAINING_JOB_NAME": self.record.name, "TRAINING_JOB_ARN": self.record.arn}
        environment = self.context.environment(self.record.region) | own | self.request.get("Environment", {})
        return Spec(
            name=f"double-{self.record.name[:40]}-{host}-{uuid.uuid4().hex[:6]}",
            image=algorithm.get("TrainingImage", ""), root=root,
            command=algorithm.get("ContainerArguments", []) if algorithm.get("ContainerEntrypoint") else ["train"],
            entrypoint=algorithm.get("ContainerEntrypoint", []), environment=environment, network=self.network, host=host,
            mounts={} if kept == "/opt/ml/checkpoints" else {kept: root / "checkpoints"},
        )  # fmt: skip

    def _watch(self, running: list[Running], roots: list[Path]) -> list[int]:
        """Until all have ended; one that fails ends the others. Checkpoints are copied while it runs."""
        now = int(time.time())
        logs = [
            Log(self.context.cloud, self.record.region, GROUP, f"{self.record.name}/{host}-{now}")
            for host in self.hosts
        ]
        most = time.time() + self.request["StoppingCondition"].get("MaxRuntimeInSeconds", 86400)
        before = list(self.lines)
        while True:
            codes = [one.poll() for one in running]
            for one, log in zip(running, logs, strict=True):
                log.write(one.log())
            self.lines = before + [line for one in running for line in one.log()]
            self.record.set(FinalMetricDataList=_metrics(self.request, self.lines))
            self._keep(roots[0])
            if all(code is not None for code in codes):
                return [code or 0 for code in codes]
            late = time.time() > most and not self.record.state.get("late")
            if late or self.stop.is_set() or self.interrupt.is_set() or any(codes):
                self.record.state["late"] = late
                for one in running:
                    one.stop(_GRACE)
            time.sleep(self.context.pause)

    def _keep(self, root: Path) -> None:
        """Copy the checkpoints to S3 that are new or changed; a file may vanish while it is looked at."""
        if not (kept := self.request.get("CheckpointConfig")):
            return
        walk = os.walk(root / "checkpoints")  # passes over a folder that vanishes, which rglob does not
        for file in [Path(folder, name) for folder, _, names in walk for name in names]:
            with suppress(FileNotFoundError, IsADirectoryError):
                state = (file.stat().st_mtime_ns, file.stat().st_size)
                if file.is_file() and self.sent.get(file) != state:
                    place = file.relative_to(root / "checkpoints").as_posix()
                    self.context.cloud.write(f"{kept['S3Uri'].rstrip('/')}/{place}", file.read_bytes())
                    self.sent[file] = state

    def _finish(self, roots: list[Path], codes: list[int]) -> None:
        bad = [(code, root) for code, root in zip(codes, roots, strict=True) if code]
        if bad and not self.stop.is_set() and not self.record.state.get("late"):
            return self._end("Failed", "Failed", algorithm_error(bad[0][1], bad[0][0]))
        self._transition("Uploading", "Uploading generated training model")
        place = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.record.name}/output"
        for root in roots[1:]:
            shutil.copytree(root / "model", roots[0] / "model", dirs_exist_ok=True)
        self.context.cloud.pack(roots[0] / "model", f"{place}/model.tar.gz")
        if any((roots[0] / "output" / "data").iterdir()):
            self.context.cloud.pack(roots[0] / "output" / "data", f"{place}/output.tar.gz")
        self.record.set(ModelArtifacts={"S3ModelArtifacts": f"{place}/model.tar.gz"})
        if self.record.state.get("late"):
            return self._end("Stopped", "MaxRuntimeExceeded")
        return self._end("Stopped", "Stopped") if self.stop.is_set() else self._end("Completed", "Completed")

    def _transition(self, secondary: str, message: str) -> None:
        now = time.time()
        done = [{"EndTime": now, **one} for one in self.record.state["SecondaryStatusTransitions"]]
        new = {"Status": secondary, "StartTime": now, "StatusMessage": message}
        self.record.set(SecondaryStatus=secondary, SecondaryStatusTransitions=[*done, new])

    def _end(self, status: str, secondary: str, reason: str | None = None) -> None:
        self._transition(secondary, reason or f"Training job {secondary.lower()}")
        seconds = max(1, round(self.seconds))
        spot = self.request.get("EnableManagedSpotTraining")
        more: dict[str, Any] = {"FailureReason": reason} if reason else {}
        if self.request["ResourceConfig"].get("KeepAlivePeriodInSeconds") and status == "Completed":
            more["WarmPoolStatus"] = {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}
        self.record.set(
            TrainingTimeInSeconds=seconds, BillableTimeInSeconds=max(1, round(seconds * _SPOT_SHARE)) if spot else seconds,
            TrainingEndTime=time.time(), TrainingJobStatus=status, **more,
        )  # fmt: skip


def algorithm_error(root: Path, code: int) -> str:
    """FailureReason of a container that exited with a code."""
    file = root / "output" / "failure"
    said = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    return f"AlgorithmError: {said}, exit code: {code}"[:1024]


def _metrics(request: dict[str, Any], lines: list[str]) -> list[dict[str, Any]]:
    """The last value of each definition."""
    found = []
    for one in request["AlgorithmSpecification"].get("MetricDefinitions", ()):
        values = [match[1] for line in lines if (match := re.search(one["Regex"], line))]
        if values:
            found.append({"MetricName": one["Name"], "Value": float(values[-1]), "Timestamp": time.time()})
    return found


def _source(channel: dict[str, Any]) -> dict[str, Any]:
    source: dict[str, Any] = channel["DataSource"].get("S3DataSource", {})
    return source


def _check_times(parameters: dict[str, Any]) -> None:
    times = parameters["StoppingCondition"]
    run, wait = times.get("MaxRuntimeInSeconds", 86400), times.get("MaxWaitTimeInSeconds")
    if parameters.get("EnableManagedSpotTraining") and (wait is None or wait < run):
        raise invalid(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )
    if wait is not None and not parameters.get("EnableManagedSpotTraining"):
        raise invalid(
            "MaxWaitTimeInSeconds above 0 is not supported when EnableManagedSpotTraining is not enabled."
        )
