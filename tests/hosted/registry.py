"""Model package groups and their versions.

Source: API reference, CreateModelPackage, UpdateModelPackage, ListModelPackages, DeleteModelPackageGroup.
"""

from __future__ import annotations

import json
import time
from typing import Any

from hosted.context import Context
from hosted.service import Answer, listing, record_of
from hosted.store import Record, Refusal, invalid, kind_of

_UPDATED = ("ModelApprovalStatus", "ApprovalDescription", "ModelCard", "SourceUri", "ModelLifeCycle")


class Registry:
    """Packages; groups are answered off the table of kinds, but for their deletion."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def CreateModelPackage(self, region: str, parameters: dict[str, Any]) -> Answer:
        group = parameters.get("ModelPackageGroupName")
        if bool(group) == bool(parameters.get("ModelPackageName")):
            raise invalid("Either ModelPackageName or ModelPackageGroupName must be given.")
        if card := parameters.get("ModelCard"):
            _check_card(card)
        version = 0
        if group:
            owner = self.context.store.get(region, "ModelPackageGroup", group)
            version = owner.state["versions"] = owner.state.get("versions", 0) + 1
            parameters = parameters | {
                "ModelPackageGroupName": owner.name,
                "ModelPackageName": f"{owner.name}/{version}",
            }
        record = self.context.store.add(record_of(kind_of("ModelPackage"), region, parameters))
        record.set(
            ModelPackageStatus="Completed", ModelPackageStatusDetails={"ValidationStatuses": []},
            ModelApprovalStatus=parameters.get("ModelApprovalStatus", "PendingManualApproval"),
            **({"ModelPackageVersion": version} if version else {}),
        )  # fmt: skip
        return {"ModelPackageArn": record.arn}

    def ListModelPackages(self, region: str, parameters: dict[str, Any]) -> Answer:
        group = parameters.get("ModelPackageGroupName", "")
        group = group.partition(":model-package-group/")[2] or group
        status = parameters.get("ModelApprovalStatus")
        found = [
            one for one in self._packages(region, group) if status in (None, one.state["ModelApprovalStatus"])
        ]
        return listing("ListModelPackages", found, parameters)

    def UpdateModelPackage(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "ModelPackage", parameters["ModelPackageArn"])
        record.set(**{name: parameters[name] for name in _UPDATED if name in parameters})
        known = record.request.get("CustomerMetadataProperties", {}) | parameters.get(
            "CustomerMetadataProperties", {}
        )
        for name in parameters.get("CustomerMetadataPropertiesToRemove", ()):
            known.pop(name, None)
        record.request["CustomerMetadataProperties"] = known
        record.set(LastModifiedTime=time.time())
        return {"ModelPackageArn": record.arn}

    def DeleteModelPackageGroup(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "ModelPackageGroup", parameters["ModelPackageGroupName"])
        if self._packages(region, record.name):
            raise Refusal(
                "ConflictException",
                "Model Package Group cannot be deleted because it still has model packages",
            )
        self.context.store.remove(record)
        return {}

    def _packages(self, region: str, group: str) -> list[Record]:
        packages = self.context.store.all(region, "ModelPackage")
        return [one for one in packages if one.request.get("ModelPackageGroupName", "") == group]


def _check_card(card: dict[str, Any]) -> None:
    try:
        json.loads(card["ModelCardContent"])
    except ValueError as error:
        raise invalid(f"Model card content is not valid JSON: {error}") from None
