"""Pushes an image of this machine to ECR; a new repository scans what is pushed and keeps a limited number of
images.

The one decision worth knowing: ECR's token goes to `docker login` through standard input, never as an
argument that a list of processes would show. Docker's configuration for it is a temporary folder.
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
    """Push `image` and return its address in ECR.

    `repository` is the project's by default, `tag` the version of ncf; a new repository keeps the last `keep`
    images. `log` receives docker's progress, a line at a time. Raises `CloudError` where docker does not run,
    has no such image, or ECR refuses.
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
    """Make the repository `name` with this project's tags unless it exists; it keeps `keep` images."""
    ecr = session.client("ecr")
    encryption: dict[str, Any] = {}
    if key := session.settings.kms_key:
        encryption = {"encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": key}}
    try:
        ecr.create_repository(
            repositoryName=name, tags=session.tags(), imageScanningConfiguration={"scanOnPush": True},
            **encryption,
        )  # fmt: skip
    except CloudError as error:
        if error.code != "RepositoryAlreadyExistsException":
            raise
        return
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(lifecycle_policy(keep)))


def lifecycle_policy(keep: int) -> dict[str, Any]:
    """The policy by which images beyond the last `keep` expire."""
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
    """Standard output of a docker command; raises `CloudError` with `otherwise` and docker's last line.

    `feed` is its standard input, `config` the folder of its configuration.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments], input=feed, capture_output=True, text=True, check=False,
            env=_environment(config),
        )  # fmt: skip
    except FileNotFoundError:
        raise CloudError("This needs Docker, which is not installed: 'ncf doctor' says how.") from None
    if done.returncode:
        raise _refusal(done.stderr, otherwise)
    return done.stdout.strip()


def _refusal(errors: str, otherwise: str) -> CloudError:
    reason = redacted((errors.strip().splitlines() or [""])[-1])
    if "daemon" in errors and ("connect" in errors or "running" in errors):
        return CloudError(
            "Docker is installed but its engine does not answer: start it ('ncf doctor' says how)."
        )
    return CloudError(f"{otherwise} Docker said: {reason}" if reason else otherwise)


def _login(session: Session, registry: str, config: str) -> None:
    answer = session.client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, token = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    docker_answers(
        ["login", "--username", user, "--password-stdin", registry],
        f"Docker could not sign in to {registry}.", feed=token, config=config,
    )  # fmt: skip


def _push(target: str, config: str, log: Callable[[str], None]) -> None:
    with subprocess.Popen(
        ["docker", "push", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=_environment(config),
    ) as process:  # fmt: skip
        last = ""
        for line in process.stdout or ():
            last = redacted(line.strip())
            log(last)
    if process.returncode:
        raise CloudError(
            f"The push of {target} failed: {last}; run the command again, pushed layers are kept."
        )


def _environment(config: str | None) -> dict[str, str]:
    """Variables for docker; a temporary `config` gets the usual contexts, so docker finds its engine."""
    if config is None:
        return dict(os.environ)
    usual = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if (usual / "contexts").is_dir() and not (Path(config) / "contexts").exists():
        (Path(config) / "contexts").symlink_to(usual / "contexts")
        settings = usual / "config.json"
        known = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
        if current := known.get("currentContext"):
            (Path(config) / "config.json").write_text(json.dumps({"currentContext": current}), "utf-8")
    return {**os.environ, "DOCKER_CONFIG": config}
