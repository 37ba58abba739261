"""What is around a control plane, where local mode and the double differ; and what its parts see of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ncf.sagemaker.local.answers import Answer
from ncf.sagemaker.local.docker import Runner
from ncf.sagemaker.local.state import StateRecord, Store
from ncf.sagemaker.local.storage import Storage


class Plane(Protocol):
    """The control plane, as its parts and its surroundings use it."""

    store: Store
    around: Surroundings
    runner: Runner
    jobs: Any
    endpoints: Any

    @property
    def storage(self) -> Storage:
        """Where data lies."""

    def call(self, operation: str, parameters: Answer) -> Answer:
        """Answer one call."""

    def launch(self, record: StateRecord, task: str = ...) -> None:
        """Start the worker of a record."""

    def settle(self, record: StateRecord) -> None:
        """Wait until nothing changes the record any more."""

    def run(self, record: StateRecord, task: str) -> None:
        """What a worker does."""

    def died(self, record: StateRecord, task: str) -> None:
        """Clean up after a worker that is gone."""

    def log_file(self, group: str, stream: str) -> Path:
        """The file of a log stream."""


class Surroundings(Protocol):
    """What is around the control plane, and where local mode and the double differ."""

    storage: Storage
    local: bool
    """Local mode: `file://` addresses pass, and reasons are written for who runs the containers, without
    AWS's words.
    """
    pause: float
    """Seconds between two looks at containers and records."""
    patience: float
    """The longest that a server may take until it is healthy, whatever the request says."""

    def launch(self, plane: Plane, record: StateRecord, task: str) -> None:
        """Let `plane.run(record, task)` go on by itself, in a process or a thread."""

    def before_call(self, plane: Plane) -> None:
        """Clean up after workers that died."""

    def check_role(self, arn: str) -> None:
        """Raise AWS's error for a role that is not there."""

    def environment(self, region: str, request: Answer, /) -> dict[str, str]:
        """The variables that every container gets besides those of its request."""

    def ship_log(self, path: Path, group: str, stream: str) -> None:
        """Bring new lines of a log file to where `logs` reads them."""

    def ringing(self, alarms: list[str], /) -> list[str]:
        """Which of these alarms of CloudWatch are in the state ALARM."""

    @property
    def closing(self) -> bool:
        """Whether everything is to end."""
