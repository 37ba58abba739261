"""Local mode without containers: the programs of the steps run on this machine, in this process, at once."""

from __future__ import annotations

from pathlib import Path

from hosted.inline import Inline, Spec
from ncf.sagemaker.aws_errors import Guarded
from ncf.sagemaker.local.client import LocalMachine, local_client
from ncf.sagemaker.local.plane import ControlPlane
from ncf.sagemaker.local.state import StateRecord, Store
from ncf.sagemaker.session import Session, Settings
from pipeline_aws import container

REGION = "us-east-1"


class Host(LocalMachine):
    """Local mode's surroundings, in which a call ends when what it started has ended."""

    pause = 0.01

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.plane = ControlPlane(Store(home, REGION), self, Inline(self._run))
        self.broken: set[str] = set()
        """Words in the names of jobs that shall fail."""
        self.stop = False
        """Whether executions are asked to stop."""

    @property
    def ran(self) -> list[str]:
        """The steps whose jobs were started."""
        records = self.plane.store.all()
        return [record.name.split("-")[2] for record in records if record.kind.name.endswith("Job")]

    def launch(self, plane: ControlPlane, record: StateRecord, task: str) -> None:
        if self.stop:
            record.set(**{record.kind.status: "Stopping"})
        plane.run(record, task)

    def _run(self, spec: Spec) -> int:
        if any(f"-{word}-" in spec.name for word in self.broken):
            return 1
        return container(spec)


def session_on(host: Host, **settings: str) -> Session:
    """A local session whose SageMaker is the host."""
    home = host.plane.store.home
    session = Session(Settings(local=True, home=home, **settings))  # type: ignore[arg-type]
    session._clients["sagemaker"] = Guarded(local_client("sagemaker", home, REGION, host.plane), "sagemaker")
    return session
