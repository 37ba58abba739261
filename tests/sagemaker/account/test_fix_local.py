"""What is run to mend local mode, on systems that are made up; nothing is installed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ncf.cli import app
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.account import docker_checks, fix_local
from ncf.sagemaker.account.checks import Finding
from ncf.sagemaker.account.fix_local import System, commands_for, run

DEBIAN = System("debian", "Debian 12", root=True, sudo=False, systemd=True, machine="x86_64", user="ann")
AMAZON = replace(DEBIAN, family="amazon", name="Amazon Linux 2023", root=False, sudo=True)


def found(client: str = "ok", engine: str = "ok", compose: str = "ok", said: str = "") -> dict[str, Finding]:
    return {
        "Docker": Finding("Docker", client, ""),  # type: ignore[arg-type]
        "Docker engine": Finding("Docker engine", engine, said),  # type: ignore[arg-type]
        "compose": Finding("compose", compose, ""),  # type: ignore[arg-type]
    }


NOTHING = found("problem", "not checked", "not checked")


def test_where_all_is_well_nothing_is_run() -> None:
    assert commands_for(DEBIAN, found(), installed=True) == []


def test_debian_from_nothing() -> None:
    update, install, start = commands_for(DEBIAN, NOTHING, installed=False)
    assert update == ["apt-get", "update"]
    assert install[:2] == ["sh", "-c"]
    assert "docker.io" in install[2]
    assert "docker-compose-v2 docker-compose" in install[2]
    assert start == ["systemctl", "enable", "--now", "docker"]


def test_the_install_command_takes_the_packages_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell of the command is run, with an apt that knows three names."""
    for name, script in (
        ("apt-cache", 'case "$2" in docker.io|docker-compose|iptables) ;; *) exit 100 ;; esac'),
        ("apt-get", 'echo "$DEBIAN_FRONTEND $@" > "$OUT"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("OUT", str(tmp_path / "said"))
    run([commands_for(DEBIAN, NOTHING, installed=False)[1]], lambda _: None)
    assert (tmp_path / "said").read_text() == (
        "noninteractive install -y --no-install-recommends docker.io iptables docker-compose\n"
    )


def test_amazon_linux_from_nothing_as_a_user() -> None:
    commands = commands_for(AMAZON, NOTHING, installed=False)
    assert all(command[0] == "sudo" for command in commands)
    words = [" ".join(command[1:]) for command in commands]
    assert words[0].endswith("install -y docker")
    assert any("docker-compose-linux-x86_64" in line for line in words)
    assert words[-2:] == ["systemctl enable --now docker", "usermod -aG docker ann"]


def test_an_engine_that_is_only_down_is_only_started() -> None:
    assert commands_for(DEBIAN, found(engine="problem", said="does not run"), installed=True) == [
        ["systemctl", "enable", "--now", "docker"]
    ]


def test_without_systemd_the_engine_is_started_by_itself() -> None:
    (start,) = commands_for(replace(DEBIAN, systemd=False), found(engine="problem"), installed=True)
    assert "setsid nohup dockerd" in start[2]
    assert start[-1] == "/var/lib/ncf-docker"


def test_a_user_who_may_not_joins_the_group() -> None:
    commands = commands_for(
        AMAZON, found(engine="problem", said="runs, but this user may not use it"), installed=True
    )
    assert commands == [["sudo", "usermod", "-aG", "docker", "ann"]]


def test_only_compose_is_missing() -> None:
    update, install = commands_for(DEBIAN, found(compose="problem"), installed=True)
    assert update == ["apt-get", "update"]
    assert "docker.io" not in install[2]


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12"', "debian"), ("ID=ubuntu\nID_LIKE=debian", "debian"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'", "debian"), ('ID="amzn"\nID_LIKE="fedora"', "amazon"), ("ID=arch", "arch"),
    ],
)  # fmt: skip
def test_systems_are_known_by_their_release_file(tmp_path: Path, release: str, family: str) -> None:
    (tmp_path / "os-release").write_text(release)
    assert System.here(tmp_path / "os-release").family == family


def test_other_systems_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"how to install Docker on Arch.*Docker Compose"):
        fix_local.missing(replace(DEBIAN, family="arch", name="Arch"))
    with pytest.raises(ConfigError, match="needs root, and there is no sudo"):
        fix_local.missing(replace(DEBIAN, root=False))


def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(CloudError, match=r"'sh -c .exit 3.' ended with 3"):
        run([["sh", "-c", "exit 3"], ["touch", str(tmp_path / "never")]], said.append)
    assert said == ["$ sh -c 'exit 3'"]
    assert not (tmp_path / "never").exists()
    with pytest.raises(CloudError, match="no-such-program could not be run"):
        run([["no-such-program"]], said.append)


def test_the_engine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(
        [Finding("Docker engine", "problem", "does not run"), Finding("Docker engine", "ok", "28 answers")]
    )
    monkeypatch.setattr(docker_checks, "engine", lambda: next(answers))
    assert fix_local.await_engine().state == "ok"


@pytest.mark.parametrize("answer", ["n\n", "\n", None])
def test_nothing_is_run_without_a_yes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str | None
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setattr(fix_local, "missing", lambda _: [["touch", str(mark)]])
    result = CliRunner().invoke(app, ["doctor", "--fix-local-mode"], input=answer)
    assert "Nothing was changed" in str(result.exception)
    assert f"touch {mark}" in result.output
    assert not mark.exists()


def test_with_a_yes_it_is_run_and_looked_at_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ncf.sagemaker.account import doctor

    mark = tmp_path / "mark"
    monkeypatch.setattr(fix_local, "missing", lambda _: [["touch", str(mark)]])
    monkeypatch.setattr(fix_local, "await_engine", lambda: None)
    monkeypatch.setattr(
        doctor, "examine", lambda session: [Finding("Docker", "ok", f"local: {session.local}")]
    )
    result = CliRunner().invoke(app, ["doctor", "--fix-local-mode", "--yes"])
    assert result.exit_code == 0
    assert mark.exists()
    assert "local: True" in result.output
