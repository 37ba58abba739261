"""What the double's SageMaker knows: one record a resource, and a table of kinds read off botocore's service model.

A kind is whatever the model has a `Describe…` for: its key, its ARN, the shape of its summaries in `List…s`. So kinds
that nothing here has heard of (experiments, tracking servers) are created, described, listed, tagged and deleted too.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from hosted.checks import service_model

ACCOUNT = "123456789012"
"""The account that moto answers for."""


class Refusal(Exception):
    """An error that AWS answers with."""

    def __init__(
        self, code: str, message: str, status: int = 400, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.more = code, message, status, more or {}


def invalid(message: str) -> Refusal:
    """The code that SageMaker uses for most."""
    return Refusal("ValidationException", message)


_PATHS = {
    "PipelineExecution": "pipeline",
    "Trial": "experiment-trial",
    "TrialComponent": "experiment-trial-component",
}


@dataclass(frozen=True)
class Kind:
    """`TrainingJob`, `Endpoint`, …"""

    name: str

    @cached_property
    def key(self) -> str:
        """The member of requests that names one."""
        shape = _model().operation_model(f"Describe{self.name}").input_shape
        return str(next(iter(shape.required_members), f"{self.name}Name"))

    @cached_property
    def arn(self) -> str:
        """The member that holds the ARN: its own or its first, `TrainingJobArn`, `TrackingServerArn`."""
        own = f"{self.name}Arn"
        return own if own in self.described else next(one for one in self.described if one.endswith("Arn"))

    @cached_property
    def path(self) -> str:
        """`training-job`, as it stands in ARNs."""
        return _PATHS.get(self.name) or re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()

    @cached_property
    def described(self) -> Any:
        """Members of what Describe answers."""
        return _model().operation_model(f"Describe{self.name}").output_shape.members

    @cached_property
    def status(self) -> str:
        """The member that holds the status."""
        stem = self.key.removesuffix("Name").removesuffix("Arn")
        found = (one for one in (f"{self.name}Status", f"{stem}Status") if one in self.described)
        return next(found, "Status")

    @cached_property
    def first_status(self) -> str | None:
        """The status of a kind that is there at once."""
        shape = self.described.get(self.status)
        good = ("InService", "Completed", "Created", "Active", "Ready")
        return next((one for one in good if one in (shape.enum if shape else ())), None)


@dataclass
class Record:
    """One resource: what was asked for, and what became of it."""

    kind: Kind
    name: str
    region: str
    request: dict[str, Any]
    tags: dict[str, str]
    state: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    @cached_property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{self.kind.path}/{self.name}"

    @property
    def status(self) -> str:
        """Its status, or an empty string."""
        return str(self.state.get(self.kind.status, ""))

    @property
    def everything(self) -> dict[str, Any]:
        """All that Describe and List choose from."""
        common = {
            "CreationTime": self.created,
            "LastModifiedTime": self.created,
            self.kind.arn: self.arn,
        }
        return {**common, **self.request, **self.state}

    def set(self, **state: Any) -> None:
        """Change the state, at a time."""
        self.state = {**self.state, **state, "LastModifiedTime": time.time()}


class Store:
    """Records by region, kind and name."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._records: dict[tuple[str, str, str], Record] = {}

    def add(self, record: Record) -> Record:
        """Keep it; raises what AWS answers where the name is taken."""
        place = (record.region, record.kind.name, record.name)
        with self.lock:
            if place in self._records:
                raise taken(self._records[place])
            self._records[place] = record
        return record

    def get(self, region: str, kind: str, name: str) -> Record:
        """The record of a name or an ARN; raises what AWS answers where there is none."""
        short = name.partition(f":{kind_of(kind).path}/")[2] or name
        found = self._records.get((region, kind, short))
        if found is None:
            raise missing(kind_of(kind), region, short)
        return found

    def remove(self, record: Record) -> None:
        """Forget it."""
        with self.lock:
            self._records.pop((record.region, record.kind.name, record.name), None)

    def all(self, region: str | None = None, kind: str | None = None) -> list[Record]:
        """Oldest first."""
        with self.lock:
            found = list(self._records.values())
        return [r for r in found if region in (None, r.region) and kind in (None, r.kind.name)]

    def by_arn(self, arn: str) -> Record:
        """Raises `ResourceNotFound`."""
        for record in self.all():
            if record.arn == arn:
                return record
        raise Refusal("ResourceNotFound", f"Resource {arn} does not exist.")


@cache
def kind_of(name: str) -> Kind:
    """The kind of that name; raises KeyError where the model has none."""
    if f"Describe{name}" not in _model().operation_names:
        raise KeyError(name)
    return Kind(name)


_SAID = {
    "TrainingJob": "Requested resource not found.",
    "Endpoint": 'Could not find endpoint "{arn}".',
    "EndpointConfig": 'Could not find endpoint configuration "{arn}".',
    "Model": 'Could not find model "{arn}".',
    "ProcessingJob": "Could not find requested job with name: {name}",
    "TransformJob": "Could not find requested job with name: {name}",
    "ModelPackage": "ModelPackage {arn} does not exist.",
    "ModelPackageGroup": "ModelPackageGroup {arn} does not exist.",
}
_UNIQUE_JOBS = ("TrainingJob", "HyperParameterTuningJob", "ProcessingJob", "TransformJob")


def missing(kind: Kind, region: str, name: str) -> Refusal:
    """AWS's words for what is not there: ValidationException for the older kinds, ResourceNotFound for the others."""
    arn = f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind.path}/{name}"
    if kind.name in _SAID:
        return invalid(_SAID[kind.name].format(arn=arn, name=name))
    return Refusal("ResourceNotFound", f"{kind.name} '{arn}' does not exist.")


def taken(record: Record) -> Refusal:
    """AWS's words for a name that is in use."""
    kind = record.kind
    if kind.name in _UNIQUE_JOBS:
        what = "Job name must be unique within an AWS account and region, and a job with this name already exists"
        return Refusal("ResourceInUse", f"{what} ({record.arn})")
    words = {"EndpointConfig": "endpoint configuration"}.get(kind.name, kind.path.replace("-", " "))
    return invalid(f'Cannot create already existing {words} "{record.arn}".')


def _model() -> Any:
    return service_model("sagemaker")
