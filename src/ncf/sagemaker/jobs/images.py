"""Which image a container runs: ours, as `make image` and `push-image` make it, or one of AWS's.

The one decision worth knowing: before a hosted start the image is looked up in ECR, since SageMaker itself
takes minutes to find out that there is none.
"""

import os
import re
from dataclasses import dataclass
from importlib.metadata import version as version_of

from ncf.errors import CloudError, ConfigError, imported
from ncf.sagemaker.container.distribution import Distribution
from ncf.sagemaker.session import Session

LOCAL_IMAGE = "ncf:local"
PYTORCH = "2.6.0"
"""The newest release that AWS has both for training and for inference."""
HOROVOD_IMAGE = "ncf-horovod:local"
"""What `scripts/image` makes with `--build-arg HOROVOD=1`."""
SMDDP_INSTANCES = ("ml.p4d.24xlarge", "ml.p4de.24xlarge")
SMDDP_PROCESSES = 8
"""One process for each GPU of these instances: what the toolkit's launcher starts."""
SMDDP_PYTORCH = "2.5.1"
"""The last PyTorch training image of AWS that has the library."""
SPARK = "3.5"
"""The newest Spark that AWS has an image of with a Python that ncf runs on, which is 3.12."""
_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>[^:@]+)"
    r"(?::(?P<tag>[^@]+)|@(?P<digest>sha256:[0-9a-f]+))?$"
)


@dataclass(frozen=True)
class EcrImage:
    """The parts of an address in ECR."""

    account: str
    region: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, uri: str) -> "EcrImage | None":
        """The parts of `uri`, or None for an image that is not in ECR."""
        match = _ECR.fullmatch(uri)
        if match is None:
            return None
        tag = match["tag"] if match["tag"] or match["digest"] else "latest"
        return cls(match["account"], match["region"], match["name"], tag, match["digest"])

    @property
    def id(self) -> dict[str, str]:
        """An entry of `imageIds` of DescribeImages."""
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag or "latest"}


def image_for(
    session: Session,
    distribution: Distribution,
    instance_type: str,
    given: str | None = None,
    *,
    script_mode: bool = False,
) -> str:
    """The image of a training job with what its distribution needs; raises `ConfigError` where there is none.

    `given` is the user's choice. `script_mode` asks for AWS's PyTorch image with our source instead of our
    own image.
    """
    if distribution.kind == "horovod":
        return _horovod_image(session, given, script_mode)
    if distribution.kind == "smddp":
        return _smddp_image(session, distribution, instance_type, given, script_mode)
    if script_mode:
        return given or pytorch_image(session, instance_type)
    return own_image(session, given)


def own_image(session: Session, given: str | None = None, *, verify: bool = True) -> str:
    """The image with `train` and `serve`: the one given, `NCF_IMAGE`, or this version's of the project.

    A hosted session looks up an image of the account's own ECR, unless `verify` is off; raises `CloudError`
    where it is not there.
    """
    image = given or os.environ.get("NCF_IMAGE")
    if not image:
        image = LOCAL_IMAGE if session.local else f"{repository_uri(session)}:{version_of('ncf')}"
    if verify and not session.local:
        check_pushed(session, image)
    return image


def repository_uri(session: Session, repository: str | None = None) -> str:
    """`ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY`; the repository is the project's by default."""
    suffix = ".cn" if session.region.startswith("cn-") else ""
    host = f"{session.account}.dkr.ecr.{session.region}.amazonaws.com{suffix}"
    return f"{host}/{repository or session.project}"


def check_pushed(session: Session, image: str) -> None:
    """Raise an error where SageMaker could not pull the image; another account's ECR is not looked at."""
    parsed = EcrImage.parse(image)
    if parsed is None:
        raise ConfigError(
            f"Hosted SageMaker pulls images from ECR, and {image!r} is not an ECR address: push it with "
            "'ncf sagemaker push-image', which prints the address."
        )
    if parsed.account != session.account:
        return
    if parsed.region != session.region:
        raise ConfigError(
            f"{image} is in {parsed.region} and the job would run in {session.region}: push it there, or "
            "choose --region."
        )
    try:
        session.client("ecr").describe_images(repositoryName=parsed.repository, imageIds=[parsed.id])
    except CloudError as error:
        if error.code not in ("RepositoryNotFoundException", "ImageNotFoundException"):
            raise
        raise CloudError(
            f"There is no image {image} in ECR: run 'make image' and 'ncf sagemaker push-image', or give "
            "--image.",
            error.code,
        ) from None


def pytorch_image(
    session: Session, instance_type: str, scope: str = "training", version: str = PYTORCH
) -> str:
    """AWS's PyTorch image for this region and instance type; `scope` is training or inference.

    `763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.6.0-cpu-py312`; other accounts in some
    regions.
    """
    usual = "ml.m5.xlarge" if instance_type == "local" else instance_type
    return _sdk_image(session, "PyTorch", version=version, instance_type=usual, image_scope=scope)


def spark_image(session: Session) -> str:
    """AWS's Spark image for this region."""
    return _sdk_image(session, "Spark", version=SPARK, py_version="py312", instance_type="ml.m5.xlarge")


def _sdk_image(session: Session, framework: str, **request: str) -> str:
    """An image of the SDK's table; raises `ConfigError` where it has none."""
    image_uris = imported("sagemaker", "sagemaker.core.image_uris")
    try:
        uri: str = image_uris.retrieve(framework.lower(), session.region, **request)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"The SDK knows no {framework} image for this ({reason}): give --image.") from None
    return uri


def _horovod_image(session: Session, given: str | None, script_mode: bool) -> str:
    build = f"'scripts/image {HOROVOD_IMAGE} --build-arg HOROVOD=1'"
    if script_mode:
        raise ConfigError(
            "No current image of AWS has Horovod (the last were those of PyTorch 1.13): leave out "
            f"--script-mode, and give an image made with {build}."
        )
    given = given or os.environ.get("NCF_IMAGE") or (HOROVOD_IMAGE if session.local else None)
    if given is None:
        raise ConfigError(
            "--distributed horovod needs an image with Horovod, which the usual one lacks: build it with "
            f"{build}, push it with 'ncf sagemaker push-image --image {HOROVOD_IMAGE} --image-tag horovod', "
            "and give --image the address that it prints."
        )
    return own_image(session, given)


def _smddp_image(
    session: Session, distribution: Distribution, instance_type: str, given: str | None, script_mode: bool
) -> str:
    other = "use --distributed torchrun, which runs everywhere"
    if session.local:
        types = " and ".join(SMDDP_INSTANCES)
        raise ConfigError(f"Amazon's SMDDP library runs only on {types}: leave out --local, or {other}.")
    if not script_mode and given is None:
        raise ConfigError(
            "Amazon's SMDDP library comes only in AWS's PyTorch images, last in that of PyTorch "
            f"{SMDDP_PYTORCH}: give --script-mode, or {other}."
        )
    if instance_type not in SMDDP_INSTANCES:
        raise ConfigError(
            f"Amazon's SMDDP library does not run on {instance_type}: give --instance-type "
            f"{' or '.join(SMDDP_INSTANCES)}, or {other}."
        )
    if distribution.processes not in (None, SMDDP_PROCESSES):
        raise ConfigError(
            f"SMDDP starts {SMDDP_PROCESSES} processes on each host, one for each GPU: leave out "
            "--processes-per-host."
        )
    return given or pytorch_image(session, instance_type, version=SMDDP_PYTORCH)
