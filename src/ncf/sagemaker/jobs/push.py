"""An image of this machine into ECR: the repository is made where it is not there, with scan on push and a limit.

The one decision worth knowing: the token of ECR goes to `docker login` through its standard input, never as an argument
that a list of processes would show, and docker's configuration for it is a folder that goes when the push ends.
"""

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.aws_errors import redacted
from ncf.sagemaker.jobs.images import LOCAL_IMAGE, repository_uri
from ncf.sagemaker.session import Session

KEEP = 10


def push_image(
    session: Session,
    image: str = LOCAL_IMAGE,
    repository: str | None = None,
    *,
    tag: str | None = None,
    keep: int = KEEP,
    log: Callable[[str], None] = print,
) -> str:
    """Push `image` and return its address; `say` gets docker's progress, a line at a time.

    Raises `CloudError` where docker does not run, has no such image, or ECR refuses.
    """
    name = repository or session.project
    docker_answers(
        ["image", "inspect", "--format", "{{.Id}}", image],
        f"There is no image {image} here: run 'make image'.",
    )
    uri = repository_uri(session, name)
    ensure_repository(session, name, keep)
    target = f"{uri}:{tag or version_of('ncf')}"
    with tempfile.TemporaryDirectory(prefix="ncf-docker-") as config:
        _login(session, uri.partition("/")[0], config)
        docker_answers(["tag", image, target], f"{image} could not be named {target}.")
        _push(target, config, log)
    return target


def ensure_repository(session: Session, name: str, keep: int = KEEP) -> None:
    """A repository with this project's tags that scans what is pushed and keeps the last `keep` images."""
    ecr = session.client("ecr")
    encryption: dict[str, Any] = {}
    if session.settings.kms_key:
        encryption = {
            "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": session.settings.kms_key}
        }
    try:
        ecr.create_repository(
            repositoryName=name, tags=session.tags(), imageScanningConfiguration={"scanOnPush": True}, **encryption
        )  # fmt: skip
    except CloudError as error:
        if error.code != "RepositoryAlreadyExistsException":
            raise
        return
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(lifecycle_policy(keep)))


def lifecycle_policy(keep: int) -> dict[str, Any]:
    """Images beyond the last `keep` expire."""
    rule = {
        "rulePriority": 1,
        "description": f"keep the last {keep}",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": keep},
        "action": {"type": "expire"},
    }
    return {"rules": [rule]}


def docker_answers(
    arguments: list[str], otherwise: str, *, feed: str | None = None, config: str | None = None
) -> str:
    """Standard output of a docker command; raises `CloudError` with `otherwise` and docker's last line."""
    try:
        done = subprocess.run(
            ["docker", *arguments], input=feed, capture_output=True, text=True, check=False, env=_environment(config)
        )  # fmt: skip
    except FileNotFoundError:
        raise CloudError("This needs Docker, which is not installed: 'ncf doctor' tells how to.") from None
    if done.returncode:
        raise _refusal(done.stderr, otherwise)
    return done.stdout.strip()


def _refusal(errors: str, otherwise: str) -> CloudError:
    said = redacted((errors.strip().splitlines() or [""])[-1])
    if "daemon" in errors and ("connect" in errors or "running" in errors):
        return CloudError(
            "Docker is installed but its engine does not answer: start it ('ncf doctor' tells how to)."
        )
    return CloudError(f"{otherwise} Docker said: {said}" if said else otherwise)


def _login(session: Session, registry: str, config: str) -> None:
    answer = session.client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, token = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    docker_answers(
        ["login", "--username", user, "--password-stdin", registry],
        f"Docker could not sign in to {registry}.", feed=token, config=config,
    )  # fmt: skip


def _push(target: str, config: str, log: Callable[[str], None]) -> None:
    with subprocess.Popen(
        ["docker", "push", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(config)
    ) as process:  # fmt: skip
        last = ""
        for line in process.stdout or ():
            last = redacted(line.strip())
            log(last)
    if process.returncode:
        raise CloudError(
            f"The push of {target} failed: {last}; run the command again, what has arrived is kept."
        )


def _environment(config: str | None) -> dict[str, str]:
    """The folder for the sign-in keeps the contexts of the usual one, so that docker finds its engine."""
    if config is None:
        return dict(os.environ)
    usual = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if (usual / "contexts").is_dir() and not (Path(config) / "contexts").exists():
        (Path(config) / "contexts").symlink_to(usual / "contexts")
        settings = usual / "config.json"
        current = (
            json.loads(settings.read_text("utf-8")).get("currentContext") if settings.is_file() else None
        )
        if current:
            (Path(config) / "config.json").write_text(json.dumps({"currentContext": current}), "utf-8")
    return {**os.environ, "DOCKER_CONFIG": config}
