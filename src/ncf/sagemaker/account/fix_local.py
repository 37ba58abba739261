"""Installs and starts what local mode needs: Docker's engine, compose, and this user's right to use them.

In: what this system is. Out: the commands as they will be run, one after another; then they run, with their output on
standard error. Debian, Ubuntu and Amazon Linux are known; others are told what to install. The commands are those of
scripts/docker-engine, which a checkout has and an installed package has not.
"""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.account import docker_checks
from ncf.sagemaker.account.checks import Finding

STATE = Path("/var/lib/ncf-docker")
_COMPOSE = "https://github.com/docker/compose/releases/latest/download/docker-compose-linux-"
_PLUGINS = "/usr/local/lib/docker/cli-plugins"
_AWAIT = 30.0
_STDERR = 2
_DAEMON = (
    'mkdir -p "$1" && setsid nohup dockerd --data-root "$1/data" --exec-root /run/ncf-docker -p "$1/dockerd.pid" '
    '> "$1/log" 2>&1 < /dev/null &'
)


@dataclass(frozen=True)
class System:
    """What decides how things are installed."""

    family: str
    """`debian`, `amazon` or something that is not known."""
    name: str
    root: bool
    sudo: bool
    systemd: bool
    machine: str
    user: str

    @classmethod
    def here(cls, release: Path = Path("/etc/os-release")) -> System:
        """This one."""
        known = _release(release)
        kin = {known.get("ID", ""), *known.get("ID_LIKE", "").split()}
        family = (
            "debian"
            if kin & {"debian", "ubuntu"}
            else "amazon"
            if "amzn" in kin
            else known.get("ID", sys.platform)
        )
        return cls(
            family, known.get("PRETTY_NAME", platform.system()), os.geteuid() == 0, shutil.which("sudo") is not None,
            Path("/run/systemd/system").is_dir(), platform.machine(), getpass.getuser(),
        )  # fmt: skip

    def as_root(self, *command: str) -> list[str]:
        """The command with `sudo` where that is needed."""
        return [*command] if self.root else ["sudo", *command]


def missing(system: System) -> list[list[str]]:
    """The commands for what is missing now, which may be none; raises `ConfigError` where ncf cannot help."""
    found = {
        one.name: one for one in (docker_checks.client(), docker_checks.engine(), docker_checks.compose())
    }
    commands = commands_for(system, found, installed=shutil.which("dockerd") is not None)
    if commands and system.family not in ("debian", "amazon"):
        raise ConfigError(
            f"ncf does not know how to install Docker on {system.name}: install Docker Engine (or Docker Desktop) and "
            "Docker Compose as https://docs.docker.com/get-docker/ says, start it, and run 'ncf doctor --local'."
        )
    if commands and not (system.root or system.sudo):
        raise ConfigError(
            "This needs root, and there is no sudo here: run 'ncf doctor --fix-local-mode' as root."
        )
    return commands


def commands_for(system: System, found: Mapping[str, Finding], installed: bool) -> list[list[str]]:
    """What to run for what was found; `installed` tells whether there is an engine that could be started."""
    engine, forbidden = found["Docker engine"], "may not use" in found["Docker engine"].said
    runs = engine.state == "ok" or forbidden
    wants_engine = found["Docker"].state != "ok" or not (installed or runs)
    wants_compose = found["compose"].state != "ok"
    commands: list[list[str]] = []
    if wants_engine or wants_compose:
        install = _apt if system.family == "debian" else _dnf
        commands += install(system, wants_engine, wants_compose)
    if not runs:
        commands.append(_start(system))
    if not system.root and (forbidden or not runs):
        commands.append(system.as_root("usermod", "-aG", "docker", system.user))
    return commands


def run(commands: Iterable[Sequence[str]], log: Callable[[str], None]) -> None:
    """Run them, their output on standard error; raises `CloudError` at the first that fails."""
    for command in commands:
        log(f"$ {shlex.join(command)}")
        try:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=_STDERR, check=False).returncode
        except OSError as error:
            raise CloudError(f"{command[0]} could not be run: {error.strerror}.") from error
        if code != 0:
            raise CloudError(
                f"'{shlex.join(command)}' ended with {code}: what it said stands above; mend that and try again."
            )


def await_engine(seconds: float = _AWAIT) -> Finding:
    """Wait until the engine answers, or refuses this user; what it is after that time."""
    end = time.monotonic() + seconds
    while True:
        found = docker_checks.engine()
        if found.state == "ok" or "may not use" in found.said or time.monotonic() > end:
            return found
        time.sleep(0.5)


def _apt(system: System, engine: bool, compose: bool) -> list[list[str]]:
    """Some packages exist in some releases only; the shell asks which, once the lists are new."""
    names = ["docker.io", "docker-cli", "docker-buildx", "iptables"] if engine else []
    chosen = (
        f'for name in {" ".join(names)}; do apt-cache show $name > /dev/null 2>&1 && set -- "$@" $name; done; '
        if names
        else ""
    )
    if compose:
        chosen += 'for name in docker-compose-v2 docker-compose; do apt-cache show $name > /dev/null 2>&1 && set -- "$@" $name && break; done; '
    install = f'{chosen}DEBIAN_FRONTEND=noninteractive exec apt-get install -y --no-install-recommends "$@"'
    return [system.as_root("apt-get", "update"), system.as_root("sh", "-c", install, "sh")]


def _dnf(system: System, engine: bool, compose: bool) -> list[list[str]]:
    """Amazon Linux has no package of compose: the plug-in of Docker's own releases is fetched."""
    tool = "dnf" if shutil.which("dnf") else "yum"
    commands = [system.as_root(tool, "install", "-y", "docker")] if engine else []
    if compose:
        target = f"{_PLUGINS}/docker-compose"
        commands += [
            system.as_root("mkdir", "-p", _PLUGINS),
            system.as_root("curl", "-fsSL", "-o", target, f"{_COMPOSE}{system.machine}"),
            system.as_root("chmod", "+x", target),
        ]
    return commands


def _start(system: System) -> list[str]:
    if system.systemd:
        return system.as_root("systemctl", "enable", "--now", "docker")
    return system.as_root("sh", "-c", _DAEMON, "sh", str(STATE))


def _release(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text("utf-8").splitlines())
    return {name: value.strip("\"'") for name, equals, value in pairs if equals}
