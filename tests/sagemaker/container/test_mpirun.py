"""The first host's part of a Horovod job, with a shell in the place of mpirun;
tests/container/test_horovod.py has the real one."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ncf.errors import ConfigError, NcfError
from ncf.sagemaker.container import mpirun as mpi
from ncf.sagemaker.container import rendezvous
from ncf.sagemaker.container.mpirun import Host, lead, main, mpirun, read_host
from processes import free_port, wait_until

HOSTS = ("127.0.0.1", "algo-2")


def never() -> bool:
    return False


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def configured(root: Path, **more: str) -> Path:
    folder = root / "input" / "config"
    folder.mkdir(parents=True)
    given = {"current_host": "algo-2", "hosts": ["algo-2", "algo-1"], **more}
    (folder / "resourceconfig.json").write_text(json.dumps(given))
    return root


def test_hosts_are_in_the_order_of_ranks(tmp_path: Path) -> None:
    assert read_host(configured(tmp_path)) == Host("algo-2", ("algo-1", "algo-2"), "")


@pytest.mark.parametrize(("given", "read"), [("lo", "lo"), ("ethwe", "")])
def test_an_interface_that_is_not_there_is_not_asked_for(tmp_path: Path, given: str, read: str) -> None:
    assert read_host(configured(tmp_path, network_interface_name=given)).interface == read


def test_a_folder_without_a_description_of_the_hosts_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resourceconfig\.json cannot be read .*SageMaker writes it"):
        read_host(tmp_path)


def test_the_command_starts_so_many_processes_on_each_host() -> None:
    command = mpirun(Host("a", ("a", "b"), "eth0"), 3)
    assert command[:7] == ["mpirun", "--allow-run-as-root", "--bind-to", "none", "--host", "a:3,b:3", "-np"]
    assert command[7] == "6"
    assert command[command.index("oob_tcp_if_include") + 1] == "eth0"
    assert not any("if_include" in word for word in mpirun(Host("a", ("a",), ""), 1))


def test_an_image_without_horovod_says_how_to_build_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(configured(tmp_path)) == 1
    assert "--build-arg HOROVOD=1" in (tmp_path / "output" / "failure").read_text()
    assert "--build-arg HOROVOD=1" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 7])
def test_the_code_is_that_of_the_command(tmp_path: Path, code: int) -> None:
    failure = tmp_path / "failure"
    assert lead(["127.0.0.1"], shell(f"exit {code}"), never, failure) == code
    assert failure.exists() == bool(code)
    assert not code or "exited with code 7 and no error message" in failure.read_text()


def test_what_was_said_first_is_the_reason(tmp_path: Path) -> None:
    port = free_port()
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.write_text("The disk is full.")
    os.utime(theirs, (time.time() - 60,) * 2)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(rendezvous.follow, "algo-2", HOSTS, never, theirs, port=port)
        assert (
            lead(
                ["127.0.0.1", "algo-2"],
                shell(f"echo Process 0 lost another. > {ours}; exit 1"),
                never,
                ours,
                port,
            )
            == 1
        )
        assert other.result(10) == 1
    assert ours.read_text() == "The disk is full."


def test_a_stop_reaches_the_processes_and_is_no_failure(tmp_path: Path) -> None:
    stopping, told = threading.Event(), tmp_path / "told"
    script = (
        f"trap 'echo saved > {told}; exit 5' USR1; touch {tmp_path / 'ready'}; while true; do sleep .05; done"
    )
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lead, ["127.0.0.1"], shell(script), stopping.is_set, tmp_path / "failure")
        wait_until(lambda: (tmp_path / "ready").exists())
        stopping.set()
        assert ended.result(20) == 0
    assert told.read_text() == "saved\n"
    assert not (tmp_path / "failure").exists()


def test_a_failure_while_stopping_is_a_failure(tmp_path: Path) -> None:
    failure, ready = tmp_path / "failure", tmp_path / "ready"
    script = f"trap '' USR1; touch {ready}; sleep 1; echo The disk is full. > {failure}; exit 1"
    assert lead(["127.0.0.1"], shell(script), ready.exists, failure)
    assert failure.read_text() == "The disk is full.\n"


def test_a_host_that_goes_away_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpi, "GRACE", 0.5)
    port = free_port()
    script = f"trap '' TERM; echo $$ > {tmp_path / 'pid'}; while true; do sleep .05; done"
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lead, ["127.0.0.1", "algo-2"], shell(script), never, tmp_path / "failure", port)
        with rendezvous._joined("algo-2", HOSTS, never, port=port, patience=10):
            wait_until(lambda: (tmp_path / "pid").exists())
        with pytest.raises(NcfError, match="algo-2 went away during training"):
            ended.result(20)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
