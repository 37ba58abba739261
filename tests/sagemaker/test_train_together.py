"""The training program as the containers of one job: real processes on addresses of the loopback, one for
each host."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import support
from ncf.sagemaker.container import train
from processes import free_port, wait_until

SMALL = {
    "name": "small",
    "model.kind": "neumf",
    "model.factors": "4",
    "model.embedding": "4",
    "model.tower": "[8, 4]",
    "train.epochs": "2",
    "train.threads": "1",
    "train.batch_size": "64",
    "train.precision": "float32",
    "train.init": "random",
    "evaluation.cutoffs": "[10]",
    "evaluation.bootstrap": "0",
}
LONG = {"train.epochs": "100000"}
HOSTS = ("127.0.0.1", "127.0.0.2")
_PROGRAM = (
    "import sys; from pathlib import Path; from ncf.sagemaker.container import launcher, rendezvous, train; "
    "rendezvous.PORT, launcher.PORT = int(sys.argv[2]), int(sys.argv[3]); "
    "sys.exit(train.main(Path(sys.argv[1])))"
)
PATIENCE = 150
Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    support.planted(users=60, items=50).save(folder)
    return folder


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/ml after one process has trained."""
    root = opt_ml(tmp_path_factory.mktemp("alone"), data)
    assert train.main(root) == 0
    return root


def opt_ml(root: Path, data: Path, host: int = 0, hosts: int = 1, **settings: str) -> Path:
    """One host's /opt/ml."""
    config, names = root / "input" / "config", HOSTS[:hosts]
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(SMALL | settings))
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": names[host], "hosts": names}))
    (root / "input" / "data").mkdir()
    (root / "input" / "data" / "train").symlink_to(data)
    return root


@contextmanager
def running(roots: list[Path], **variables: str) -> Iterator[list[Process]]:
    """The training program of each host."""
    ports = [str(free_port()), str(free_port())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(root), *ports],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for root in roots
    ]
    try:
        yield hosts
    finally:
        for host in hosts:
            if host.poll() is None:
                os.killpg(host.pid, signal.SIGKILL)
            host.communicate()


def logs_of(hosts: list[Process], code: int = 0) -> list[str]:
    """What each printed, once all have ended."""
    logs = [host.communicate(timeout=PATIENCE)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [code] * len(hosts), "\n".join(logs)
    return logs


def failure_of(root: Path) -> str:
    return (root / "output" / "failure").read_text("utf-8")


def same_weights(a: Path, b: Path) -> None:
    first, second = (load_file(root / "model" / "model.safetensors") for root in (a, b))
    assert first.keys() == second.keys()
    for name, weights in first.items():
        assert weights == pytest.approx(second[name], abs=1e-5), name


@pytest.mark.parametrize(("hosts", "each"), [(2, 1), (2, 2)])
def test_hosts_and_processes_train_the_model_that_one_process_trains(
    data: Path, alone: Path, tmp_path: Path, hosts: int, each: int
) -> None:
    roots = [opt_ml(tmp_path / str(host), data, host, hosts) for host in range(hosts)]
    with running(roots, NCF_PROCESSES=str(each)) as started:
        logs = logs_of(started)
    same_weights(roots[0], alone)
    judged = [json.loads((root / "model" / "metrics.json").read_text())["test"] for root in (roots[0], alone)]
    assert judged[0]["metrics"] == pytest.approx(judged[1]["metrics"])
    assert sum("epoch=2 " in log for log in logs) == 1
    assert not any((root / "model").exists() for root in roots[1:])


def test_a_stop_while_hosts_wait_for_each_other_is_heard(data: Path, tmp_path: Path) -> None:
    for host in range(2):
        root = opt_ml(tmp_path / str(host), data, host, 2)
        with running([root]) as (started,):
            wait_until(lambda process=started: catches_sigterm(process))  # type: ignore[misc]
            time.sleep(1.0)
            started.terminate()
            assert f"{HOSTS[host]} was stopped before all hosts had started" in logs_of([started])[0]
        assert not (root / "output" / "failure").exists()


def catches_sigterm(process: Process) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def trains(root: Path) -> bool:
    return any((root / "checkpoints" / "run" / "checkpoints").glob("epoch-*"))


def test_a_stopped_host_of_several_processes_has_saved_a_checkpoint(data: Path, tmp_path: Path) -> None:
    root = opt_ml(tmp_path, data, **LONG)
    with running([root], NCF_PROCESSES="2") as (started,):
        wait_until(lambda: trains(root), PATIENCE)
        started.terminate()
        assert "Stopped after" in logs_of([started])[0]
    assert not (root / "output" / "failure").exists()


def test_a_mistake_is_said_once_for_all_processes(data: Path, tmp_path: Path) -> None:
    root = opt_ml(tmp_path, data, **{"train.learning_rate": "1e30", "train.optimizer": "dense"})
    with running([root], NCF_PROCESSES="2") as started:
        log = logs_of(started, code=1)[0]
    assert failure_of(root).startswith("The loss is no longer a number"), log


def test_a_killed_process_ends_the_job_with_its_name(data: Path, tmp_path: Path) -> None:
    root = opt_ml(tmp_path, data, **LONG)
    with running([root], NCF_PROCESSES="2", NCF_TIMEOUT="20") as (started,):
        wait_until(lambda: trains(root), PATIENCE)
        os.kill(child_of(started, rank=1), signal.SIGKILL)
        logs_of([started], code=1)
    assert "rocess 1" in failure_of(root)


def child_of(parent: Process, rank: int) -> int:
    """The process of this rank under torchrun's agent."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    ranks = {
        variables["RANK"]: int(child) for child in children if "RANK" in (variables := environment_of(child))
    }
    return ranks[str(rank)]


def environment_of(pid: str) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def test_processes_that_somebody_has_started_start_none(
    data: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under the SDK's drivers, or AWS's toolkit."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setenv("NCF_PROCESSES", "4")
    root = opt_ml(tmp_path, data)
    assert train.main(root) == 0
    same_weights(root, alone)
