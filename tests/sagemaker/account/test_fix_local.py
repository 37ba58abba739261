"""The script that mends local mode, on systems that are made up; nothing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ncf.cli import app
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.account import docker_checks
from ncf.sagemaker.account.checks import Finding

TOOLS = ("sh", "cat", "echo", "env", "grep", "mkdir", "sleep", "touch")
DOWN = "case $1 in info) echo 'Cannot connect' >&2; exit 1 ;; compose) exit 0 ;; esac"
FORBIDDEN = "case $1 in info) echo 'permission denied' >&2; exit 1 ;; esac"


class System:
    """A PATH with nothing but some tools, and what a test puts into it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        for tool in TOOLS:
            (self.folder / tool).symlink_to(str(shutil.which(tool)))
        self.systemd = folder / "systemd"
        self.systemd.mkdir()
        self.log = folder / "log"
        monkeypatch.setenv("PATH", str(self.folder))
        monkeypatch.setenv("NCF_SYSTEMD", str(self.systemd))
        monkeypatch.setenv("LOG", str(self.log))
        self.user("root")
        self.program("uname", "echo x86_64")

    def program(self, name: str, script: str = 'echo "$(echo $0 | grep -o [^/]*$) $*" >> "$LOG"') -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    def user(self, name: str) -> None:
        self.program("id", f"case $1 in -u) echo {0 if name == 'root' else 1000} ;; *) echo {name} ;; esac")
        if name != "root":
            self.program("sudo", '"$@"')

    def amazon(self) -> System:
        self.user("ann")
        self.program("dnf")
        return self

    def debian(self) -> System:
        self.program("apt-get")
        return self


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def test_where_all_is_well_nothing_is_run(system: System) -> None:
    system.debian().program("docker", "exit 0")
    assert docker_checks.plan() == []


def test_debian_from_nothing(system: System) -> None:
    update, install, start = system.debian() and docker_checks.plan()
    assert update == "apt-get update -qq"
    assert install.startswith("env DEBIAN_FRONTEND=noninteractive apt-get install -y")
    assert install.endswith("docker.io docker-cli docker-buildx iptables docker-compose-v2")
    assert start == "systemctl enable --now docker"
    assert not system.log.exists()


def test_the_packages_that_exist_are_installed(system: System) -> None:
    """The script is run, with an apt that knows three names; the engine answers once it was started."""
    system.debian().program(
        "apt-cache", 'case "$2" in docker.io|docker-compose|iptables) ;; *) exit 100 ;; esac'
    )
    system.program("systemctl", 'echo "systemctl $*" >> "$LOG"; echo "#!/bin/sh" > "$BIN/docker"')
    os.environ["BIN"] = str(system.folder)
    (system.folder / "docker").touch(0o755)
    system.program("docker", "exit 1")
    docker_checks.set_up()
    assert system.log.read_text().splitlines() == [
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends docker.io iptables docker-compose",
        "systemctl enable --now docker",
    ]


def test_amazon_linux_from_nothing_as_a_user(system: System) -> None:
    commands = system.amazon() and docker_checks.plan()
    assert all(command.startswith("sudo ") for command in commands)
    assert commands[0].endswith("dnf install -y -q docker")
    assert any("docker-compose-linux-x86_64" in command for command in commands)
    assert commands[-2:] == ["sudo systemctl enable --now docker", "sudo usermod -aG docker ann"]


def test_an_engine_that_is_only_down_is_only_started(system: System) -> None:
    system.debian().program("docker", DOWN)
    system.program("dockerd")
    assert docker_checks.plan() == ["systemctl enable --now docker"]


def test_without_systemd_the_engine_is_started_by_itself(system: System) -> None:
    system.systemd.rmdir()
    system.debian().program("docker", DOWN)
    system.program("dockerd")
    _, start = docker_checks.plan()
    assert "setsid nohup dockerd" in start
    assert start.endswith("/var/lib/ncf-docker")


def test_a_user_who_may_not_use_the_engine_joins_the_group(system: System) -> None:
    system.amazon().program("docker", FORBIDDEN)
    assert docker_checks.plan() == ["sudo usermod -aG docker ann"]
    docker_checks.set_up(["sh", str(docker_checks.SCRIPT), "plan"])
    with pytest.raises(CloudError, match="exit code 1"):
        docker_checks.set_up(["sh", str(docker_checks.SCRIPT), "start"])


def test_only_compose_is_missing(system: System) -> None:
    system.debian().program("docker", "case $1 in compose) exit 1 ;; esac")
    update, install = docker_checks.plan()
    assert update.startswith("apt-get update")
    assert install.endswith("--no-install-recommends docker-compose-v2")


def test_other_systems_are_told_what_to_install(system: System) -> None:
    with pytest.raises(ConfigError, match=r"neither apt-get nor dnf here: install .*Docker Compose"):
        docker_checks.plan()
    system.debian().user("ann")
    (system.folder / "sudo").unlink()
    with pytest.raises(ConfigError, match="needs root: run it as root, or install sudo"):
        docker_checks.plan()


def test_a_command_that_fails_ends_it(system: System, capfd: pytest.CaptureFixture[str]) -> None:
    system.program("apt-get", "exit 3")
    with pytest.raises(CloudError, match="exit code 1"):
        docker_checks.set_up()
    assert "$ apt-get update -qq" in capfd.readouterr().err
    assert not system.log.exists()


def test_a_checkout_runs_the_same_script() -> None:
    script = Path(__file__).parents[3] / "scripts" / "docker-engine"
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "docker-engine: usage: docker-engine start | stop | plan | fix\n",
    )  # fmt: skip


@pytest.mark.parametrize("answer", ["n\n", "\n", None])
def test_nothing_is_run_without_a_yes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str | None
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setattr(docker_checks, "plan", lambda: [f"touch {mark}"])
    monkeypatch.setattr(docker_checks, "set_up", mark.touch)
    result = CliRunner().invoke(app, ["doctor", "--fix-local-mode"], input=answer)
    assert "Nothing was changed" in str(result.exception)
    assert f"touch {mark}" in result.output
    assert not mark.exists()


def test_with_a_yes_it_is_run_and_checked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ncf.sagemaker.account import doctor

    mark = tmp_path / "mark"
    monkeypatch.setattr(docker_checks, "plan", lambda: ["touch mark"])
    monkeypatch.setattr(docker_checks, "set_up", mark.touch)
    monkeypatch.setattr(
        doctor, "examine", lambda session: [Finding("ok", f"local: {session.local}", name="Docker")]
    )
    result = CliRunner().invoke(app, ["doctor", "--fix-local-mode", "--yes"])
    assert result.exit_code == 0
    assert mark.exists()
    assert "local: True" in result.output
