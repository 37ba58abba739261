"""What the runner of containers leaves behind: nothing, even where its process was killed."""

import os
import subprocess

import pytest

from hosted.runners import OWNER, Docker, docker

pytestmark = pytest.mark.container


def test_what_a_killed_process_left_is_removed_and_nothing_else(image: str) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    made = {
        owner: docker("create", "--label", f"{OWNER}={owner}", image, "train")
        for owner in (gone.pid, os.getpid())
    }
    network = docker("network", "create", "--label", f"{OWNER}={gone.pid}", f"left-by-{gone.pid}")
    try:
        Docker().tidy()
        standing = docker("ps", "--all", "--quiet", "--no-trunc").split()
        assert (made[gone.pid] in standing, made[os.getpid()] in standing) == (False, True)
        assert network not in docker("network", "ls", "--quiet", "--no-trunc").split()
    finally:
        docker("rm", "--force", made[os.getpid()])
