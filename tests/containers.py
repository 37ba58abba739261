"""Real containers: the docker client, and /opt/ml of a SageMaker job as folders of this machine."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import wait_until

REPOSITORY = Path(__file__).parents[1]
Done = subprocess.CompletedProcess[str]


def docker(*arguments: object, check: bool = True, seconds: float = 120) -> Done:
    """`docker …`; what it printed is in the error where it fails."""
    done = subprocess.run(
        ["docker", *map(str, arguments)], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert not check or done.returncode == 0, f"docker {arguments}: {done.stdout}{done.stderr}"
    return done


def script(name: str, *arguments: str, seconds: float = 900) -> None:
    """A script of `scripts/`; what it printed is in the error where it fails."""
    command = [str(REPOSITORY / "scripts" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Container:
    """A container by its name."""

    name: str

    @property
    def running(self) -> bool:
        return self.inspect("{{.State.Running}}") == "true"

    @property
    def log(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def inspect(self, format: str) -> str:
        return docker("inspect", "--format", format, self.name).stdout.strip()

    def signal(self, name: str) -> None:
        docker("kill", "--signal", name, self.name)

    def wait(self, seconds: float = 240) -> int:
        """The exit code, once it ended."""
        return int(docker("wait", self.name, seconds=seconds).stdout)


@contextmanager
def container(image: str, command: tuple[str, ...], *options: object) -> Iterator[Container]:
    """A container in the background, removed whatever happens."""
    name = f"ncf-test-{uuid.uuid4().hex[:10]}"
    docker("run", "--detach", "--name", name, *options, image, *command)
    try:
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass(frozen=True)
class OptMl:
    """One job's folders, which a container sees as /opt/ml."""

    root: Path

    @classmethod
    def make(cls, root: Path, hyperparameters: Mapping[str, str], data: Path | None) -> "OptMl":
        config, train = root / "input" / "config", root / "input" / "data" / "train"
        for folder in (config, train.parent, root / "model", root / "output", root / "checkpoints"):
            folder.mkdir(parents=True, exist_ok=True)
        (config / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters)))
        (config / "resourceconfig.json").write_text(
            json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]})
        )
        (config / "inputdataconfig.json").write_text(json.dumps({"train": {"TrainingInputMode": "File"}}))
        if data is not None:
            train.mkdir()
            for file in data.iterdir():
                os.link(file, train / file.name)
        return cls(root)

    @property
    def mount(self) -> tuple[str, str]:
        return "--volume", f"{self.root}:/opt/ml"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def failure(self) -> str:
        """The sentence that SageMaker would make the FailureReason."""
        return (self.root / "output" / "failure").read_text("utf-8")

    def train(self, image: str, *options: object, command: tuple[str, ...] = ("train",)) -> Done:
        """Run the job to its end; `returncode` is the container's."""
        try:
            with container(image, command, *self.mount, *options) as ran:
                code, log = ran.wait(), docker("logs", ran.name)
            return Done(command, code, log.stdout, log.stderr)
        finally:
            self._own_again(image)

    def _own_again(self, image: str) -> None:
        """Make what root wrote in the container this user's, who must be able to remove it."""
        if os.getuid():
            owner = f"{os.getuid()}:{os.getgid()}"
            docker("run", "--rm", *self.mount, image, "chown", "-R", owner, "/opt/ml")

    def wait_for_checkpoint(self, of: Container, epoch: int) -> None:
        """Until the checkpoint of an epoch is there; an error where the container ends before."""
        folder = self.root / "checkpoints" / "run" / "checkpoints"
        wait_until(lambda: any(folder.glob(f"epoch-{epoch:05d}-*")) or (not of.running and fail_with(of.log)))


def fail_with(log: str) -> bool:
    raise AssertionError(f"the container ended early: {log}")
