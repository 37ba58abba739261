"""What the tests of endpoints share: a deployed artifact that the double serves as our container would."""

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aws import Aws
from ncf.cli import app
from ncf.sagemaker.endpoints.deploy import Deployed, deploy
from ncf.sagemaker.endpoints.describe import EndpointProgress
from ncf.sagemaker.endpoints.requests import Hosting
from ncf.sagemaker.session import Session
from ncf.serving.app import State, respond
from ncf.serving.recommender import Recommender

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
"""Of an account that is not the double's: it is believed to be there."""
SDK_WARNINGS = pytest.mark.filterwarnings(
    # sagemaker-core, on import: fields of its own models that hide attributes of pydantic's, and old
    # spellings.
    "ignore::UserWarning:pydantic",
    "ignore::DeprecationWarning:sagemaker",
    "ignore::DeprecationWarning:pydantic",
)
KINDS = ("Endpoint", "EndpointConfig", "Model")


class Everything(set[str]):
    """Has every name in it but those given."""

    def __contains__(self, name: object) -> bool:
        return not super().__contains__(name)


def answered(model: Path, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
    """What our container answers."""
    sent = {name.lower(): value for name, value in headers.items()}
    response = respond(_state(model), body, sent.get("content-type"), sent.get("accept"))
    return response.status_code, bytes(response.body), str(response.media_type)


@cache
def _state(model: Path) -> State:
    return State(Recommender.open(model))


def hurried(said: list[str] | None = None) -> EndpointProgress:
    """Waits in hundredths of seconds; what is told goes into `said`."""
    return EndpointProgress([].append if said is None else said.append, lambda _: time.sleep(0.02))


def deployed(session: Session, artifact: Path, hosting: Hosting | None = None, **more: Any) -> Deployed:
    """Deploy with the image of `IMAGE`."""
    return deploy(
        session, str(artifact), hosting or Hosting(), **{"image": IMAGE, "progress": hurried()} | more
    )


def sick_from_now_on(aws: Aws) -> None:
    """Containers of models that are made from now on never become well."""
    aws._set(unwell=Everything(record.name for record in aws.records("Model")))
    aws.double.patience = 0.1


def left(aws: Aws) -> list[str]:
    """Names of all endpoints, configurations and models."""
    return sorted(record.name for kind in KINDS for record in aws.records(kind))


def ncf(*arguments: Any, typed: str | None = None) -> tuple[int, str, str]:
    """Exit code, standard output, and what was said on standard error with the sentence of a mistake."""
    done = CliRunner().invoke(app, [str(one) for one in arguments], input=typed)
    return done.exit_code, done.stdout, done.stderr + str(done.exception or "")
