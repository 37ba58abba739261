"""Training and processing jobs: /opt/ml laid out around containers, their results kept, AWS's statuses on the
way.

Sources: Developer Guide, "How Amazon SageMaker Provides Training Information", "… Processes Training Output"
and "Build Your Own Processing Container"; API reference, DescribeTrainingJob and DescribeProcessingJob;
"Managed Spot Training".
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncf.sagemaker.local import docker, logs
from ncf.sagemaker.local.answers import Answer
from ncf.sagemaker.local.docker import Container, Spec
from ncf.sagemaker.local.requests import invalid
from ncf.sagemaker.local.state import ENDED, StateRecord
from ncf.sagemaker.local.surroundings import Plane
from ncf.serving.archive import pack

GRACE = 120
"""Seconds between SIGTERM and the end, as on AWS (StopTrainingJob)."""
LONGEST = 1024
"""Characters of FailureReason and ExitMessage."""
_DAY = 86_400
_SPOT_SHARE = 0.3
"""The part of the seconds that is billed on spot instances."""
_NO_MODEL = (
    "The container ended well but left no model in /opt/ml/model: read the job's log, and check that its "
    "command is 'train'."
)
_ML = "/opt/ml/"
_MESSAGES = {
    "Starting": "Preparing the instances for training", "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "Training job was interrupted by a spot instance reclamation.",
    "Uploading": "Uploading generated training model",
}  # fmt: skip


class Jobs:
    """The calls that create and stop training and processing jobs, and what their workers do."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane

    def create_training_job(self, request: Answer) -> Answer:
        """Check a request as AWS does and start the job."""
        self.plane.around.check_role(request["RoleArn"])
        _check_times(request)
        for channel in request.get("InputDataConfig", ()):
            if source := _source(channel):
                self._check(source["S3Uri"], f"The channel {channel['ChannelName']!r}")
        self._check_image(request["AlgorithmSpecification"].get("TrainingImage", ""))
        return {"TrainingJobArn": self.start_training(request).arn}

    def start_training(self, request: Answer, **state: Any) -> StateRecord:
        """Write a checked job down and start it; `state` is what else Describe is to answer."""
        state |= {
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "SecondaryStatusTransitions": [],
        }
        record = self.plane.store.add("TrainingJob", request["TrainingJobName"], request, **state)
        self.plane.launch(record)
        return record

    def stop_training_job(self, request: Answer) -> Answer:
        """Ask a job to stop: its containers get SIGTERM and two minutes, as on AWS."""
        return self.stop(self.plane.store.get("TrainingJob", request["TrainingJobName"]))

    def update_training_job(self, request: Answer) -> Answer:
        """End a warm pool."""
        record = self.plane.store.get("TrainingJob", request["TrainingJobName"])
        if request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds") == 0:
            record.set(WarmPoolStatus={"Status": "Terminated"})
        return {"TrainingJobArn": record.arn}

    def create_processing_job(self, request: Answer) -> Answer:
        """Check a request as AWS does and start the job."""
        plane = self.plane
        plane.around.check_role(request["RoleArn"])
        for entry in request.get("ProcessingInputs", ()):
            self._check(entry["S3Input"]["S3Uri"], f"The input {entry['InputName']!r}")
        self._check_image(request["AppSpecification"]["ImageUri"])
        name = request["ProcessingJobName"]
        record = plane.store.add("ProcessingJob", name, request, ProcessingJobStatus="InProgress")
        plane.launch(record)
        return {"ProcessingJobArn": record.arn}

    def stop_processing_job(self, request: Answer) -> Answer:
        """Ask a job to stop."""
        return self.stop(self.plane.store.get("ProcessingJob", request["ProcessingJobName"]))

    def stop(self, record: StateRecord) -> Answer:
        """Ask the worker of a job to stop it; raises AWS's error for one that has ended."""
        with self.plane.store.locked():
            record.reload()
            if record.status in ENDED:
                what = record.kind.path.replace("-", " ")
                raise invalid(f"The request was rejected because the {what} is in status {record.status}.")
            record.set(**{record.kind.status: "Stopping"})
        return {}

    def run_training(self, record: StateRecord, task: str) -> None:
        """From Starting to Completed, Failed or Stopped, with new containers after each spot interruption."""
        TrainingRun(self.plane, record, record.folder / task).run()

    def run_processing(self, record: StateRecord, task: str) -> None:
        """From InProgress to Completed, Failed or Stopped; outputs are kept whatever the exit code."""
        plane, request, root = self.plane, record.request, record.folder / task / "algo-1"
        mounts: dict[str, Path] = {}
        for entry in request.get("ProcessingInputs", ()):
            inside = entry["S3Input"]["LocalPath"]
            path = plane.storage.fetch(entry["S3Input"]["S3Uri"], inner(root, inside))
            mounts[_mount_point(inside, path)] = path
        outputs = list(request.get("ProcessingOutputConfig", {}).get("Outputs", ()))
        for entry in outputs:
            inside = entry["S3Output"]["LocalPath"]
            mounts[inside] = inner(root, inside)
            mounts[inside].mkdir(parents=True, exist_ok=True)
        resources = {"current_host": "algo-1", "hosts": ["algo-1"]}
        lay_out(root, processingjobconfig=request, resourceconfig=resources)
        record.set(ProcessingStartTime=time.time())
        program = request["AppSpecification"]
        own = {"PROCESSING_JOB_NAME": record.name, "PROCESSING_JOB_ARN": record.arn}
        group, stream = "/aws/sagemaker/ProcessingJobs", f"{record.name}/algo-1-{time.time_ns()}"
        spec = Spec(
            name=unique_name(record, "algo-1"), kind="process", image=program["ImageUri"], root=root,
            log_file=plane.log_file(group, stream), folder=record.folder / task,
            entrypoint=program.get("ContainerEntrypoint", ()), command=program.get("ContainerArguments", ()),
            environment=plane.around.environment(record.region, request) | own | request.get("Environment",
            {}),
            mounts=without_root(mounts, root),
        )  # fmt: skip
        watch = JobContainers(plane, record, {stream: spec}, group)
        (code,) = watch.run(request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DAY))
        own_again(plane, [root], spec.image)
        message = root / "output" / "message"
        state = (
            {"ExitMessage": message.read_text("utf-8", "replace").strip()[:LONGEST]}
            if message.is_file()
            else {}
        )
        if watch.stopped or watch.late:
            return self.end(record, "Stopped", **state)
        for entry in outputs:
            plane.storage.send(mounts[entry["S3Output"]["LocalPath"]], entry["S3Output"]["S3Uri"])
        if not code:
            return self.end(record, "Completed", **state)
        reason = f"AlgorithmError: See job logs for more information, exit code: {code}"
        if plane.around.local:
            reason = state.get("ExitMessage") or ended_with(code, [spec.log_file])
        return self.end(record, "Failed", reason=reason, **state)

    def end(
        self, record: StateRecord, status: str, secondary: str = "", reason: str = "", **state: Any
    ) -> None:
        """Write down how a job ended."""
        stem = record.kind.name.removesuffix("Job")
        if record.kind.name == "TrainingJob":
            transition(record, secondary or status, reason or f"Training job {(secondary or status).lower()}")
        state |= {"FailureReason": reason[:LONGEST]} if reason else {}
        record.set(**{f"{stem}EndTime": time.time(), record.kind.status: status, "tasks": [], **state})

    def _check(self, uri: str, what: str) -> None:
        self.plane.storage.check(uri, what)

    def _check_image(self, image: str) -> None:
        """Local mode says at once that an image is missing; on AWS the job fails."""
        if self.plane.around.local:
            if not image:
                raise invalid("Local mode needs a TrainingImage.")
            self.plane.runner.check(image)


class JobContainers:
    """The containers of one job, watched until all have ended."""

    def __init__(self, plane: Plane, record: StateRecord, specs: dict[str, Spec], group: str) -> None:
        self.plane, self.record, self.specs, self.group = plane, record, specs, group
        self.stopped = self.late = self.interrupted = False

    def run(self, seconds: float, tick: Callable[[], None] = lambda: None) -> list[int]:
        """Start them and watch until the end; returns their exit codes.

        A stop, a spot interruption, a container that fails and the end of the time stop them all. `tick` is
        called at each look.
        """
        if self._asked_to_stop():
            return [0] * len(self.specs)
        running: list[Container] = []
        try:
            running = [self.plane.runner.start(spec) for spec in self.specs.values()]
            return self._watch(running, time.time() + seconds, tick)
        finally:
            for container in running:
                container.end()
            self._ship()

    def _watch(self, running: list[Container], deadline: float, tick: Callable[[], None]) -> list[int]:
        stopping: list[threading.Thread] = []
        while True:
            codes = [container.poll() for container in running]
            self._ship()
            tick()
            if all(code is not None for code in codes):
                return [code or 0 for code in codes]
            self.late = self.late or (time.time() > deadline and not stopping)
            if not stopping and (self._asked_to_stop() or self.late or self.interrupted or any(codes)):
                # Each in a thread, since a container may take its two minutes.
                stopping = [threading.Thread(target=one.stop, args=(GRACE,)) for one in running]
                for thread in stopping:
                    thread.start()
            time.sleep(self.plane.around.pause)

    def _asked_to_stop(self) -> bool:
        gone = not self.record.reload()
        self.interrupted = bool(self.record.state.get("interrupt"))
        self.stopped = self.stopped or gone or self.record.status == "Stopping" or self.plane.around.closing
        return self.stopped

    def _ship(self) -> None:
        for stream, spec in self.specs.items():
            self.plane.around.ship_log(spec.log_file, self.group, stream)


class TrainingRun:
    """One training job on its way through the statuses."""

    group = "/aws/sagemaker/TrainingJobs"

    def __init__(self, plane: Plane, record: StateRecord, folder: Path) -> None:
        self.plane, self.record, self.request, self.folder = plane, record, record.request, folder
        self.resources = self.request.get("ResourceConfig", {})
        self.hosts = [f"algo-{n + 1}" for n in range(self.resources.get("InstanceCount", 1))]
        self.network = f"ncf-{uuid.uuid4().hex[:8]}" if len(self.hosts) > 1 else None
        self.log_files: list[Path] = []
        self.log_size = -1
        self.seconds = 0.0
        self.kept: Path | None = None
        """The folder of the checkpoints."""

    def run(self) -> None:
        """From Starting to the end."""
        if self.network:
            self.plane.runner.network(self.network, self.folder)
        while self._attempt():
            transition(self.record, "Interrupted")
            self.record.set(interrupt=False)

    def _attempt(self) -> bool:
        """Run one set of containers; True where it was interrupted and has to start again."""
        plane, storage = self.plane, self.plane.storage
        transition(self.record, "Starting")
        shutil.rmtree(self.folder / "ml", ignore_errors=True)
        roots = {host: self.folder / "ml" / host for host in self.hosts}
        transition(self.record, "Downloading")
        if config := self.request.get("CheckpointConfig"):
            self.kept = storage.checkpoints(config["S3Uri"], self.folder / "ml" / "checkpoints")
        specs = {
            f"{self.record.name}/{host}-{time.time_ns()}": self._spec(roots[host], host)
            for host in self.hosts
        }
        for stream, spec in specs.items():
            spec.log_file = plane.log_file(self.group, stream)
        self.log_files += [spec.log_file for spec in specs.values()]
        transition(self.record, "Training")
        started = time.time()
        self.record.set(TrainingStartTime=self.record.state.get("TrainingStartTime", started))
        containers = JobContainers(plane, self.record, specs, self.group)
        codes = containers.run(self.request["StoppingCondition"].get("MaxRuntimeInSeconds", _DAY), self._tick)
        self._tick()
        self.seconds += time.time() - started
        own_again(
            plane, [*roots.values(), *([self.kept] if self.kept else [])], specs[next(iter(specs))].image
        )
        if containers.interrupted and not containers.stopped:
            return True
        self._finish(list(roots.values()), codes, containers)
        return False

    def _spec(self, root: Path, host: str) -> Spec:
        """The container of a host, with its folders laid out."""
        number, channels = self.hosts.index(host), self.request.get("InputDataConfig", [])
        resources = {
            "current_host": host, "hosts": self.hosts, "network_interface_name": "eth0",
            "current_instance_type": self.resources.get("InstanceType"),
            "current_group_name": "homogeneousCluster",
        }  # fmt: skip
        described = {
            channel["ChannelName"]: {
                "TrainingInputMode": "File", "RecordWrapperType": "None",
                "S3DistributionType": _source(channel).get("S3DataDistributionType", "FullyReplicated"),
            }
            for channel in channels
        }  # fmt: skip
        parameters = self.request.get("HyperParameters", {})
        lay_out(root, hyperparameters=parameters, resourceconfig=resources, inputdataconfig=described)
        mounts: dict[str, Path] = {}
        for channel in channels:
            source, inside = _source(channel), f"{_ML}input/data/{channel['ChannelName']}"
            sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
            share = (number, len(self.hosts)) if sharded else (0, 1)
            path = self.plane.storage.fetch(source["S3Uri"], inner(root, inside), share)
            mounts[_mount_point(inside, path)] = path
        if config := self.request.get("CheckpointConfig"):
            assert self.kept
            mounts[config.get("LocalPath", f"{_ML}checkpoints").rstrip("/")] = self.kept
        program = self.request["AlgorithmSpecification"]
        own = {"TRAINING_JOB_NAME": self.record.name, "TRAINING_JOB_ARN": self.record.arn}
        entrypoint = program.get("ContainerEntrypoint", ())
        return Spec(
            name=unique_name(self.record, host), kind="train", image=program.get("TrainingImage", ""),
            root=root,
            log_file=Path(), folder=self.folder, entrypoint=entrypoint,
            command=program.get("ContainerArguments", ()) if entrypoint else ["train"],
            environment=self.plane.around.environment(self.record.region,
            self.request) | own | self.request.get("Environment", {}),
            network=self.network, host=host, mounts=without_root(mounts, root),
            gpus=self.resources.get("InstanceType") == "local_gpu",
        )  # fmt: skip

    def _tick(self) -> None:
        """Keep the metrics and the checkpoints of now."""
        size = sum(path.stat().st_size for path in self.log_files if path.is_file())
        if size != self.log_size:
            self.log_size = size
            definitions = self.request["AlgorithmSpecification"].get("MetricDefinitions", ())
            files = [path for path in self.log_files if path.is_file()]
            self.record.set(FinalMetricDataList=logs.metrics(files, definitions))
        if self.kept and (config := self.request.get("CheckpointConfig")):
            self.plane.storage.sync(self.kept, config["S3Uri"])

    def _finish(self, roots: list[Path], codes: list[int], containers: JobContainers) -> None:
        if any(codes) and not containers.stopped and not containers.late:
            return self._end("Failed", reason=self._reason(roots, codes))
        transition(self.record, "Uploading")
        target = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.record.name}/output"
        found = self._pack(roots, "model", target, "model.tar.gz")
        self._pack(roots, "output/data", target, "output.tar.gz")
        state: dict[str, Any] = (
            {"ModelArtifacts": {"S3ModelArtifacts": f"{target}/model.tar.gz"}} if found else {}
        )
        if containers.late:
            return self._end("Stopped", "MaxRuntimeExceeded", **state)
        if containers.stopped:
            return self._end("Stopped", **state)
        if self.plane.around.local and not found:
            return self._end("Failed", reason=_NO_MODEL)
        return self._end("Completed", **state)

    def _pack(self, roots: list[Path], part: str, target: str, name: str) -> bool:
        """Pack what all hosts left in a folder into one archive, where they left something."""
        contents: dict[str, Path | bytes] = {}
        for folder in (root / part for root in reversed(roots)):
            contents |= {
                file.relative_to(folder).as_posix(): file
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            }
        if contents:
            packed = self.folder / "ml" / "packed"
            packed.mkdir(exist_ok=True)
            pack(dict(sorted(contents.items())), packed / name)
            self.plane.storage.send(packed, target)
            (packed / name).unlink()
        return bool(contents)

    def _reason(self, roots: list[Path], codes: list[int]) -> str:
        """FailureReason; of several hosts that failed the first one counts, as the others only missed it."""
        files = [file for root in roots if (file := root / "output" / "failure").is_file()]
        files.sort(key=lambda file: file.stat().st_mtime_ns)
        sentence = files[0].read_text("utf-8", "replace").strip() if files else ""
        code = next(code for code in codes if code)
        if self.plane.around.local:
            return sentence or ended_with(code, self.log_files)
        return f"AlgorithmError: {sentence}, exit code: {code}"

    def _end(self, status: str, secondary: str = "", reason: str = "", **state: Any) -> None:
        seconds = max(1, round(self.seconds))
        billed = (
            max(1, round(seconds * _SPOT_SHARE)) if self.request.get("EnableManagedSpotTraining") else seconds
        )
        if self.resources.get("KeepAlivePeriodInSeconds") and status == "Completed":
            state["WarmPoolStatus"] = {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}
        state |= {
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": 0 if self.plane.around.local else billed,
        }
        self.plane.jobs.end(self.record, status, secondary, reason, **state)
        shutil.rmtree(self.folder / "ml", ignore_errors=True)


def transition(record: StateRecord, secondary: str, message: str = "") -> None:
    """Go on to the next secondary status."""
    now = time.time()
    with record.store.locked():
        record.reload()
        done = [{"EndTime": now, **entry} for entry in record.state.get("SecondaryStatusTransitions", ())]
        new = {"Status": secondary, "StartTime": now, "StatusMessage": message or _MESSAGES[secondary]}
        record.set(SecondaryStatus=secondary, SecondaryStatusTransitions=[*done, new])


def lay_out(root: Path, **configs: Any) -> None:
    """Make the folders of /opt/ml and write its configuration files; the container's user may write
    everywhere.
    """
    for folder in ("input/config", "input/data", "model", "output/data", "checkpoints", "config"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in configs.items():
        # Processing jobs have their configuration in another folder.
        for folder in ("config",) if "processingjobconfig" in configs else ("input/config",):
            (root / folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o777)


def inner(root: Path, inside: str) -> Path:
    """The folder of this machine for a folder of the container."""
    return root / (inside.removeprefix(_ML) if inside.startswith(_ML) else f"mounts{inside}")


def without_root(mounts: dict[str, Path], root: Path) -> dict[str, Path]:
    """The mounts that are not below /opt/ml already."""
    return {
        inside: path
        for inside, path in mounts.items()
        if not inside.startswith(_ML) or path != inner(root, inside)
    }


def _mount_point(inside: str, path: Path) -> str:
    """Where a file or folder of this machine appears in a container: in the folder `inside`."""
    return inside if path.is_dir() else f"{inside}/{path.name}"


def unique_name(record: StateRecord, host: str) -> str:
    """A name for a container."""
    return f"ncf-{record.name[:40].replace('/', '-')}-{host}-{uuid.uuid4().hex[:6]}"


def own_again(plane: Plane, folders: list[Path], image: str) -> None:
    """Make this user the owner of what a container wrote as root."""
    if not plane.runner.at_once and hasattr(plane.runner, "images"):
        docker.take_over(folders, plane.runner.check(image))


def ended_with(code: int, log_files: list[Path]) -> str:
    """The reason for a container that ended badly and left no word of its own."""
    killed = " (killed, perhaps for want of memory)" if code == 137 else ""
    return f"The container ended with exit code {code}{killed}: {logs.tail(log_files) or 'it wrote nothing'}"


def _source(channel: Answer) -> dict[str, Any]:
    source: dict[str, Any] = channel["DataSource"].get("S3DataSource", {})
    return source


def _check_times(request: Answer) -> None:
    times = request["StoppingCondition"]
    run, wait = times.get("MaxRuntimeInSeconds", _DAY), times.get("MaxWaitTimeInSeconds")
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < run:
            raise invalid(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                "MaxRuntimeInSeconds"
            )
    elif wait is not None:
        raise invalid(
            "MaxWaitTimeInSeconds above 0 is not supported when EnableManagedSpotTraining is not enabled."
        )
