"""What the runner of containers leaves behind: nothing, even where its process was killed."""

import os
import subprocess

import pytest

from containers import docker
from ncf.sagemaker.local.docker import FOLDER_LABEL, OWNER_LABEL, tidy

pytestmark = pytest.mark.container


def test_what_a_killed_process_left_is_removed_and_nothing_else(image: str) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    made = {
        owner: docker("create", *labels(owner), image, "train").stdout.strip()
        for owner in (gone.pid, os.getpid())
    }
    network = docker("network", "create", *labels(gone.pid), f"left-by-{gone.pid}").stdout.strip()
    try:
        tidy()
        standing = docker("ps", "--all", "--quiet", "--no-trunc").stdout.split()
        assert (made[gone.pid] in standing, made[os.getpid()] in standing) == (False, True)
        assert network not in docker("network", "ls", "--quiet", "--no-trunc").stdout.split()
    finally:
        docker("rm", "--force", made[os.getpid()])


def labels(owner: int) -> list[str]:
    """Of what a double of a process started."""
    return ["--label", f"{OWNER_LABEL}={owner}", "--label", f"{FOLDER_LABEL}=/tmp/ncf-double-x/a"]
