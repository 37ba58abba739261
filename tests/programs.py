"""What stands in for containers in the double, our own programs; and AWS's judgement of a request, without
AWS."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.validate import ParamValidator

from ncf.sagemaker.session import Session, Settings
from ncf.serving import api
from ncf.serving.recommender import Recommender

if TYPE_CHECKING:
    from hosted.inline import HttpReply, Spec

_TRAIN = (
    "import sys; from pathlib import Path; from ncf.sagemaker.container.train import main; "
    "sys.exit(main(Path(sys.argv[1])))"
)


def train(spec: "Spec") -> int:
    """The training program on the container's /opt/ml, as a process that a stop ends with SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(spec.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            spec.log(line.rstrip("\n"))
            if spec.stop.is_set():
                process.terminate()
    return process.returncode


def serve(model: Path, body: bytes, headers: Mapping[str, str]) -> "HttpReply":
    """The answer of the serving program to one request."""
    lower = {name.lower(): value for name, value in headers.items()}
    call = api.read(body, lower.get("content-type"))
    answers = api.answer(Recommender.open(model), call)
    return 200, api.write(answers, call.format), api.media_type(call.format)


def session_of(**settings: Any) -> Session:
    """A hosted session that has found out its bucket already and calls nobody."""
    role = "arn:aws:iam::012345678901:role/ncf"
    session = Session(Settings(**{"role": role, "region": "us-east-1", **settings}))
    session.__dict__["bucket"] = "mine"
    return session


def judged(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """The request, which AWS's model of the service must take."""
    model = botocore.session.Session().get_service_model("sagemaker")
    report = ParamValidator().validate(request, model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()
    return request
