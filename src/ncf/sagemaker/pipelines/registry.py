"""The model registry: a group of versions of a model, which a person or the pipeline approves for deployment.

In: a session and the name of a group. Out: `Package`s, and the champion's folder in storage with the newest
approved model, where the pipeline finds what a new model must beat (`ncf.sagemaker.pipelines.definition` says
why).
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.data.files import write_text
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker import storage
from ncf.sagemaker.calls import entries
from ncf.sagemaker.container.pipeline_steps import CHAMPION, MODEL
from ncf.sagemaker.names import checked
from ncf.sagemaker.session import Session

APPROVED, REJECTED, PENDING = "Approved", "Rejected", "PendingManualApproval"


@dataclass(frozen=True)
class Package:
    """One version, as DescribeModelPackage or ListModelPackages shows it."""

    described: dict[str, Any]

    @property
    def arn(self) -> str:
        return str(self.described["ModelPackageArn"])

    @property
    def version(self) -> int:
        """Its number in the group."""
        return int(self.described["ModelPackageVersion"])

    @property
    def approval(self) -> str:
        """Approved, Rejected or PendingManualApproval."""
        return str(self.described["ModelApprovalStatus"])

    @property
    def properties(self) -> dict[str, str]:
        """What the pipeline recorded with it: figures, digests, recipe."""
        return dict(self.described.get("CustomerMetadataProperties") or {})

    @property
    def model(self) -> str:
        """URI of its model.tar.gz."""
        return str(self._container["ModelDataUrl"])

    @property
    def image(self) -> str:
        """The image that serves it."""
        return str(self._container["Image"])

    @property
    def evaluation(self) -> str | None:
        """URI of its evaluation.json."""
        quality = (self.described.get("ModelMetrics") or {}).get("ModelQuality") or {}
        return (quality.get("Statistics") or {}).get("S3Uri")

    @property
    def _container(self) -> dict[str, Any]:
        try:
            return dict(self.described["InferenceSpecification"]["Containers"][0])
        except (KeyError, IndexError):
            sentence = f"The model package {self.arn} names no container: it was not registered by ncf."
            raise CloudError(sentence) from None


def group_name(session: Session, given: str | None = None) -> str:
    """The given name of a group, or the project's."""
    return checked(given or f"{session.project}-models", "The model group's name")


def ensure_group(session: Session, group: str) -> bool:
    """Make the group with the project's tags unless it exists; returns whether it was made."""
    client = session.client("sagemaker")
    try:
        client.describe_model_package_group(ModelPackageGroupName=group)
    except CloudError as error:
        if error.code not in ("ValidationException", "ResourceNotFound"):
            raise
        about = "Recommendation models of ncf"
        client.create_model_package_group(
            ModelPackageGroupName=group, ModelPackageGroupDescription=about, Tags=session.tags()
        )
        return True
    return False


def packages(session: Session, group: str, approval: str | None = None) -> list[Package]:
    """The versions of a group, or those with that approval, the newest first.

    Raises `CloudError` where there is no group.
    """
    listed = entries(
        session.client("sagemaker"), "list_model_packages", "ModelPackageSummaryList",
        ModelPackageGroupName=group,
        SortBy="CreationTime", SortOrder="Descending",
        **({"ModelApprovalStatus": approval} if approval else {}),
    )  # fmt: skip
    return sorted(map(Package, listed), key=lambda package: package.version, reverse=True)


def find(session: Session, group: str, version: int | None = None, approval: str | None = None) -> Package:
    """One version, fully described: the given one, or the newest with that approval; raises `CloudError`."""
    for package in packages(session, group, approval):
        if version in (None, package.version):
            return _described(session, package)
    what = f"version {version}" if version else f"{approval} version" if approval else "version"
    raise CloudError(f"The group {group} has no {what}: 'ncf sagemaker models list' shows the existing ones.")


def decide(session: Session, group: str, version: int | None, approval: str, why: str = "") -> Package:
    """Set the approval of a version, by default the newest pending one, and update the champion.

    `approval` is Approved or Rejected, `why` a note that is kept with it. Returns the version.
    """
    package = find(session, group, version, PENDING if version is None else None)
    request = {"ModelPackageArn": package.arn, "ModelApprovalStatus": approval}
    if why:
        request["ApprovalDescription"] = why
    session.client("sagemaker").update_model_package(**request)
    sync_champion(session, group)
    return find(session, group, package.version)


def champion_uri(session: Session, group: str) -> str:
    """URI of the folder of the newest approved model."""
    return session.uri("registry", group, "champion")


def sync_champion(session: Session, group: str) -> Package | None:
    """Put the newest approved model where the pipeline finds it, unless it is there; returns the model."""
    approved = packages(session, group, APPROVED)
    champion = _described(session, approved[0]) if approved else None
    note = {"package": champion.arn if champion else "", "model": champion.model if champion else ""}
    if _note(session, group) == note:
        return champion
    _clear(session, group)
    if champion is not None:
        _copy(session, champion.model, group)
    with tempfile.TemporaryDirectory(prefix="ncf-champion-") as folder:
        path = Path(folder) / CHAMPION
        write_text(path, json.dumps(note, indent=2))
        session.upload(path, "registry", group, "champion", CHAMPION)
    return champion


def evaluation(session: Session, uri: str) -> dict[str, Any]:
    """The document at `uri` that Evaluate wrote; raises `CloudError` where there is none."""
    with tempfile.TemporaryDirectory(prefix="ncf-evaluation-") as folder:
        path = session.download(uri, Path(folder) / "evaluation.json")
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return document


def _described(session: Session, package: Package) -> Package:
    return Package(session.client("sagemaker").describe_model_package(ModelPackageName=package.arn))


def _note(session: Session, group: str) -> dict[str, str] | None:
    """Which model is in the champion's folder, or None; the step Promote writes the same note."""
    uri = f"{champion_uri(session, group)}/{CHAMPION}"
    with tempfile.TemporaryDirectory(prefix="ncf-champion-") as folder:
        try:
            path = session.download(uri, Path(folder) / CHAMPION)
        except CloudError:
            return None
        note: dict[str, str] = json.loads(path.read_text("utf-8"))
        return note


def _copy(session: Session, model: str, group: str) -> None:
    """Copy a model to the champion's folder; within S3 nothing passes through this machine."""
    if model.startswith("file://"):
        session.upload(Path(model.removeprefix("file://")), "registry", group, "champion", MODEL)
        return
    bucket, key = storage.split(model)
    target, prefix = storage.split(champion_uri(session, group))
    kms_key = session.settings.kms_key
    more = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else None
    session.client("s3").copy({"Bucket": bucket, "Key": key}, target, f"{prefix}/{MODEL}", ExtraArgs=more)


def _clear(session: Session, group: str) -> None:
    """Delete the champion's model: one that is no longer approved must not stay the one to beat."""
    uri = f"{champion_uri(session, group)}/{MODEL}"
    if uri.startswith("file://"):
        Path(uri.removeprefix("file://")).unlink(missing_ok=True)
        return
    bucket, key = storage.split(uri)
    session.client("s3").delete_object(Bucket=bucket, Key=key)


def check_version(text: str | None) -> int | None:
    """The version in `text`, a number or an ARN that ends in one; raises `ConfigError` for other texts."""
    if text is None:
        return None
    number = text.rpartition("/")[2]
    if not number.isdigit():
        raise ConfigError(f"A version is a number, such as 3, or a model package's ARN, and not {text!r}.")
    return int(number)
