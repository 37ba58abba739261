"""SageMaker's control plane on this machine: `ControlPlane.call(operation, parameters)` answers as AWS
answers.

In: the name of an operation and its parameters. Out: the answer, or a `Refusal`. Every request is checked
against botocore's model. A method of a part, named as boto3 names the operation (`create_training_job`),
answers it; any other Create, Describe, List or Delete is answered off the table of kinds, so also kinds that
nothing here runs can be kept.

Local mode and the double of hosted SageMaker are this same object. They differ in `Surroundings`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ncf.errors import NcfError
from ncf.sagemaker.local import logs
from ncf.sagemaker.local.answers import Answer, description, listing, matches, stripped, tag_list
from ncf.sagemaker.local.docker import Runner
from ncf.sagemaker.local.endpoints import EndpointCalls
from ncf.sagemaker.local.jobs import Jobs
from ncf.sagemaker.local.pipelines import Pipelines
from ncf.sagemaker.local.registry import Registry
from ncf.sagemaker.local.requests import Refusal, refusal
from ncf.sagemaker.local.state import ENDED, MOVING, StateRecord, Store, kind_of
from ncf.sagemaker.local.storage import Storage
from ncf.sagemaker.local.surroundings import Surroundings
from ncf.sagemaker.local.transform import Transforms
from ncf.sagemaker.local.tuning import Tuning

DEFAULT_TASK = "run"
DIED = (
    "The process that ran this here died (it was killed, or the machine restarted) and its containers were "
    "removed: "
    "start it again, a job resumes from its checkpoints."
)


class ControlPlane:
    """All calls of SageMaker for one region."""

    def __init__(self, store: Store, around: Surroundings, runner: Runner) -> None:

        self.store, self.around, self.runner = store, around, runner
        self.endpoints, self.jobs, self.pipelines = EndpointCalls(self), Jobs(self), Pipelines(self)
        transforms, tuning = Transforms(self), Tuning(self)
        self._parts = (self.jobs, self.endpoints, transforms, tuning, Registry(self), self.pipelines, self)
        self._tasks: dict[str, Callable[[StateRecord, str], None]] = {
            "TrainingJob": self.jobs.run_training, "ProcessingJob": self.jobs.run_processing,
            "TransformJob": transforms.run, "Endpoint": self.endpoints.run,
            "HyperParameterTuningJob": tuning.run, "PipelineExecution": self.pipelines.run,
        }  # fmt: skip

    @property
    def storage(self) -> Storage:
        """Where data lies."""
        return self.around.storage

    def call(self, operation: str, parameters: Answer) -> Answer:
        """Answer one call; raises `Refusal` as AWS refuses, `CloudError` for what Docker lacks."""
        message = refusal("sagemaker", operation, parameters, self.around.local)
        if message:
            raise Refusal("ValidationException", message)
        self.around.before_call(self)
        answer: Answer = stripped(self._handler(operation)(parameters))
        return answer

    def launch(self, record: StateRecord, task: str = DEFAULT_TASK) -> None:
        """Start the worker of a record; where runs are over at once, return when this one is."""
        self.around.launch(self, record, task)
        if self.runner.at_once:
            self.settle(record)

    def settle(self, record: StateRecord) -> None:
        """Wait until nothing changes the record any more."""
        while (
            record.reload()
            and record.status in MOVING
            and record.state.get("tasks")
            and not self.around.closing
        ):
            time.sleep(0.002)

    def run(self, record: StateRecord, task: str) -> None:
        """What a worker does: run the record to its end; whatever goes wrong becomes its FailureReason."""
        try:
            self._tasks[record.kind.name](record, task)
        except (NcfError, Refusal) as error:
            self.failed(record, task, str(error))
        except Exception as error:
            self.failed(record, task, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.runner.clean(record.folder / task)
            if record.kind.name == "Endpoint":
                shutil.rmtree(record.folder / task, ignore_errors=True)

    def failed(self, record: StateRecord, task: str, reason: str) -> None:
        """End a record whose worker cannot go on, unless it has ended already."""
        with self.store.locked():
            if not record.reload():
                return
            if record.kind.name == "Endpoint":
                self.endpoints.failed(record, task, reason)
            elif record.kind.name == "PipelineExecution":
                self.pipelines.ended(record, "Failed", reason)
            elif record.status not in ENDED:
                self.jobs.end(record, "Stopped" if record.status == "Stopping" else "Failed", reason=reason)

    def died(self, record: StateRecord, task: str) -> None:
        """Clean up after a worker that is gone."""
        self.runner.clean(record.folder / task)
        if record.kind.name == "PipelineExecution":
            self.pipelines.stop_jobs(record)
        self.failed(record, task, DIED)

    def log_file(self, group: str, stream: str) -> Path:
        """The file of a log stream."""
        return self.store.home / "logs" / group.removeprefix(logs.ROOT) / f"{stream}.log"

    def add_tags(self, request: Answer) -> Answer:
        record = self.store.by_arn(request["ResourceArn"])
        with self.store.locked():
            record.reload()
            record.tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
            record.write()
        return {"Tags": tag_list(record.tags)}

    def list_tags(self, request: Answer) -> Answer:
        return {"Tags": tag_list(self.store.by_arn(request["ResourceArn"]).tags)}

    def delete_tags(self, request: Answer) -> Answer:
        record = self.store.by_arn(request["ResourceArn"])
        with self.store.locked():
            record.reload()
            for key in request["TagKeys"]:
                record.tags.pop(key, None)
            record.write()
        return {}

    def search(self, request: Answer) -> Answer:
        kind = request["Resource"]
        records = [record for record in self.store.all(kind) if matches(record, request)]
        return {
            "Results": [{kind: description(record) | {"Tags": tag_list(record.tags)}} for record in records]
        }

    def delete(self, kind: str, name: str) -> Answer:
        """Remove a record that nothing works on."""
        record = self.store.get(kind, name)
        if record.status in MOVING:
            raise Refusal("ResourceInUse", f"The job is {record.status}: stop it first.")
        self.store.remove(record)
        return {record.kind.arn: record.arn}

    def _handler(self, operation: str) -> Callable[[Answer], Answer]:
        from botocore import xform_name

        for part in self._parts:
            if handler := getattr(part, xform_name(operation), None):
                return handler  # type: ignore[no-any-return]
        for verb in ("Create", "Describe", "Delete", "List"):
            noun = operation.removeprefix(verb)
            if noun != operation:
                return self._generic(verb, noun.removesuffix("s") if verb == "List" else noun)
        raise Refusal("InternalFailure", f"There is no {operation} here.", 501)

    def _generic(self, verb: str, noun: str) -> Callable[[Answer], Answer]:
        """The four calls of a kind that needs nothing but to be kept."""
        try:
            kind = kind_of(noun)
        except KeyError:
            raise Refusal("InternalFailure", f"There is no {verb}{noun} here.", 501) from None
        store = self.store

        def create(request: Answer) -> Answer:
            status = {kind.status: kind.first_status} if kind.first_status else {}
            return {kind.arn: store.add(kind.name, request[kind.key], request, **status).arn}

        return {
            "Create": create,
            "Describe": lambda request: description(store.get(kind.name, request[kind.key])),
            "Delete": lambda request: self.delete(kind.name, request[kind.key]),
            "List": lambda request: listing(f"List{noun}s", store.all(kind.name), request),
        }[verb]
