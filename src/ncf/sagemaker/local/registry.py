"""The model registry: groups, and packages that are numbered within them.

Source: API reference, CreateModelPackage, UpdateModelPackage, ListModelPackages, DeleteModelPackageGroup.
"""

from __future__ import annotations

import json

from ncf.sagemaker.local.answers import Answer, listing
from ncf.sagemaker.local.requests import Refusal, invalid
from ncf.sagemaker.local.state import StateRecord
from ncf.sagemaker.local.surroundings import Plane

_UPDATED = ("ModelApprovalStatus", "ApprovalDescription", "ModelCard", "SourceUri", "ModelLifeCycle")


class Registry:
    """The calls of packages; groups are answered off the table of kinds, but for their deletion."""

    def __init__(self, plane: Plane) -> None:
        self.store = plane.store

    def create_model_package(self, request: Answer) -> Answer:
        """Register a model: the next version of its group, or a package without versions."""
        group = request.get("ModelPackageGroupName")
        if bool(group) == bool(request.get("ModelPackageName")):
            raise invalid("Either ModelPackageName or ModelPackageGroupName must be given.")
        try:
            json.loads(request.get("ModelCard", {}).get("ModelCardContent", "{}"))
        except ValueError as error:
            raise invalid(f"Model card content is not valid JSON: {error}") from None
        state = {
            "ModelPackageStatus": "Completed", "ModelPackageStatusDetails": {"ValidationStatuses": []},
            "ModelApprovalStatus": request.get("ModelApprovalStatus", "PendingManualApproval"),
        }  # fmt: skip
        with self.store.locked():
            if group:
                owner = self.store.get("ModelPackageGroup", group)
                # The number of a deleted version is not given again.
                version = owner.state.get("versions", 0) + 1
                owner.set(versions=version)
                request = request | {
                    "ModelPackageGroupName": owner.name,
                    "ModelPackageName": f"{owner.name}/{version}",
                }
                state["ModelPackageVersion"] = version
            return {
                "ModelPackageArn": self.store.add(
                    "ModelPackage", request["ModelPackageName"], request, **state
                ).arn
            }

    def list_model_packages(self, request: Answer) -> Answer:
        """The packages of a group, or those without one; with an approval status if the request names one."""
        group = request.get("ModelPackageGroupName", "")
        if group:
            group = self.store.get("ModelPackageGroup", group).name
        status = request.get("ModelApprovalStatus")
        packages = [
            one for one in self._packages(group) if status in (None, one.state["ModelApprovalStatus"])
        ]
        return listing("ListModelPackages", packages, request)

    def update_model_package(self, request: Answer) -> Answer:
        """Approve or reject a package, or change what is written about it."""
        with self.store.locked():
            record = self.store.get("ModelPackage", request["ModelPackageArn"])
            metadata = record.state.get("CustomerMetadataProperties") or record.request.get(
                "CustomerMetadataProperties", {}
            )
            metadata = metadata | request.get("CustomerMetadataProperties", {})
            for name in request.get("CustomerMetadataPropertiesToRemove", ()):
                metadata.pop(name, None)
            changes = {name: request[name] for name in _UPDATED if name in request}
            record.set(**changes, **({"CustomerMetadataProperties": metadata} if metadata else {}))
        return {"ModelPackageArn": record.arn}

    def delete_model_package_group(self, request: Answer) -> Answer:
        """Delete a group that is empty."""
        record = self.store.get("ModelPackageGroup", request["ModelPackageGroupName"])
        if self._packages(record.name):
            message = "Model Package Group cannot be deleted because it still has model packages"
            raise Refusal("ConflictException", message)
        self.store.remove(record)
        return {}

    def _packages(self, group: str) -> list[StateRecord]:
        packages = self.store.all("ModelPackage")
        return [one for one in packages if one.request.get("ModelPackageGroupName", "") == group]
