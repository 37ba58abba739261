"""A worker without containers: functions stand in for them. A job goes on until it is stopped, or is over at
once if its name has `quick` in it or there is a file of that name in the folder of local mode. A server
answers with what it was sent, or with the status that the body names (`status 503`); one with the variable
BROKEN ends at once.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from hosted.inline import Inline, Spec
from ncf.sagemaker.local import client, docker, process, worker
from ncf.sagemaker.local.plane import ControlPlane
from ncf.sagemaker.local.state import Store

COMMAND = (sys.executable, "-P", __file__)


class FakeRunner(Inline):
    """Functions in place of containers; in a command it only looks at the image, as Docker does."""

    def check(self, image: str) -> str:
        return docker.DockerRunner().check(image)

    def start(self, spec: docker.Spec) -> docker.Container:
        made = super().start(spec)
        if "BROKEN" in spec.environment:
            Spec(**vars(spec)).log("it is broken")
            made.end()
            made.code = 3  # type: ignore[attr-defined]
        return made


def fake_plane(home: Path, region: str) -> ControlPlane:
    """The control plane of local mode, whose workers are this file."""

    def run(spec: Spec) -> int:
        spec.log("[ncf] epoch=1 loss=0.5", "[ncf] epoch=2 loss=0.25")
        (spec.root / "model" / "m").write_text("m")
        if "quick" not in spec.name and not (home / "quick").exists():
            spec.stop.wait(120)
        return 0

    around = client.LocalMachine()
    around.pause = 0.05
    return ControlPlane(Store(home, region), around, FakeRunner(run, answer))


def answer(model: Path, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
    """The body comes back."""
    return int(body.split()[1]) if body.startswith(b"status ") else 200, body, "text/plain"


if __name__ == "__main__":
    process._COMMAND = COMMAND
    client.local_plane = fake_plane
    worker.main(sys.argv[1:])
