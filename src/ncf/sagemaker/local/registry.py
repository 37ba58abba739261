"""The model registry of local mode: groups, and packages numbered within them, kept as AWS would answer for them."""

from __future__ import annotations

from typing import Any

from ncf.sagemaker.local import requests
from ncf.sagemaker.local.listing import listed
from ncf.sagemaker.local.state import STATE, Record, Store, moment

GROUP, PACKAGE = "model-package-group", "model-package"
Answer = dict[str, Any]


class Registry:
    """The calls of boto3's `sagemaker` client for groups and packages."""

    store: Store

    def create_model_package_group(self, **request: Any) -> Answer:
        """A new group; raises `ClientError` where there is one of that name."""
        requests.check("sagemaker", "create_model_package_group", request)
        name = request["ModelPackageGroupName"]
        with self.store.locked():
            if self.store.read(GROUP, name):
                raise requests.refusal(
                    "create_model_package_group",
                    f"Model Package Group already exists: {self.store.arn(GROUP, name)}",
                )
            record = self.store.create(GROUP, name, request, status="Completed", newest=0)
        return {"ModelPackageGroupArn": record["arn"]}

    def describe_model_package_group(self, **request: Any) -> Answer:
        """What is known of a group."""
        return _group(self._found_group("describe_model_package_group", request))

    def list_model_package_groups(self, **request: Any) -> Answer:
        """Every group."""
        requests.check("sagemaker", "list_model_package_groups", request)
        return listed(self.store.all(GROUP), request, "ModelPackageGroupSummaryList", _group)

    def delete_model_package_group(self, **request: Any) -> Answer:
        """Delete an empty group."""
        method = "delete_model_package_group"
        record = self._found_group(method, request)
        if self._packages(record["name"]):
            raise requests.refusal(
                method, f"Model Package Group {record['arn']} cannot be deleted: it has packages."
            )
        self.store.delete(GROUP, record["name"])
        return {}

    def create_model_package(self, **request: Any) -> Answer:
        """A new version in a group."""
        method = "create_model_package"
        requests.check("sagemaker", method, request)
        if "ModelPackageGroupName" not in request:
            raise requests.refusal(
                method, "Local mode has packages only in groups: give ModelPackageGroupName."
            )
        with self.store.locked():
            group = self._found_group(
                method, {"ModelPackageGroupName": request["ModelPackageGroupName"]}, check=False
            )
            with self.store.editing(GROUP, group["name"]) as edited:
                edited["newest"] += 1
            number = edited["newest"]
            record = self.store.create(
                PACKAGE, f"{group['name']}/{number}", request, status="Completed", version=number,
                approval=request.get("ModelApprovalStatus", "PendingManualApproval"),
            )  # fmt: skip
        return {"ModelPackageArn": record["arn"]}

    def describe_model_package(self, **request: Any) -> Answer:
        """What is known of a package."""
        record = self._found_package("describe_model_package", request, request.get("ModelPackageName"))
        return {**record["request"], **_summary(record), **record.get("changes", {})}

    def list_model_packages(self, **request: Any) -> Answer:
        """The packages of a group, with an approval status if one is asked for."""
        method = "list_model_packages"
        requests.check("sagemaker", method, request)
        group = self._found_group(
            method, {"ModelPackageGroupName": request.get("ModelPackageGroupName", "")}, check=False
        )
        approval = request.get("ModelApprovalStatus")
        found = [one for one in self._packages(group["name"]) if approval in (None, one["approval"])]
        return listed(found, request, "ModelPackageSummaryList", _summary)

    def update_model_package(self, **request: Any) -> Answer:
        """Approve, reject, or change what is written beside a package."""
        record = self._found_package("update_model_package", request, request.get("ModelPackageArn"))
        with self.store.editing(PACKAGE, record["name"]) as edited:
            edited["approval"] = request.get("ModelApprovalStatus", edited["approval"])
            changes = {name: request[name] for name in ("ApprovalDescription", "CustomerMetadataProperties") if name in request}  # fmt: skip
            edited["changes"] = {**edited.get("changes", {}), **changes}
        return {"ModelPackageArn": record["arn"]}

    def delete_model_package(self, **request: Any) -> Answer:
        """Delete a package; its number is not given again."""
        record = self._found_package("delete_model_package", request, request.get("ModelPackageName"))
        self.store.delete(PACKAGE, record["name"])
        return {}

    def _packages(self, group: str) -> list[Record]:
        folder = self.store.folder(PACKAGE, group)
        found = [
            self.store.read(PACKAGE, f"{group}/{path.parent.name}") for path in folder.glob(f"*/{STATE}")
        ]
        return [one for one in found if one is not None]

    def _found_group(self, method: str, request: dict[str, Any], check: bool = True) -> Record:
        if check:
            requests.check("sagemaker", method, request)
        name = self._name(request["ModelPackageGroupName"])
        record = self.store.read(GROUP, name) if name else None
        if record is None:
            raise requests.refusal(method, f"ModelPackageGroup {self.store.arn(GROUP, name)} does not exist.")
        return record

    def _found_package(self, method: str, request: dict[str, Any], name: str | None) -> Record:
        requests.check("sagemaker", method, request)
        record = self.store.read(PACKAGE, self._name(name or ""))
        if record is None or "version" not in record:
            raise requests.refusal(method, f"ModelPackage {name} does not exist.")
        return record

    def _name(self, name_or_arn: str) -> str:
        return self.store.named(name_or_arn)[1] if name_or_arn.startswith("arn:") else name_or_arn


def _group(record: Record) -> Answer:
    description = record["request"].get("ModelPackageGroupDescription")
    return {
        "ModelPackageGroupName": record["name"], "ModelPackageGroupArn": record["arn"],
        "CreationTime": moment(record["created"]), "ModelPackageGroupStatus": record["status"],
    } | ({"ModelPackageGroupDescription": description} if description else {})  # fmt: skip


def _summary(record: Record) -> Answer:
    description = record["request"].get("ModelPackageDescription")
    return {
        "ModelPackageGroupName": record["request"]["ModelPackageGroupName"],
        "ModelPackageVersion": record["version"],
        "ModelPackageArn": record["arn"],
        "CreationTime": moment(record["created"]),
        "ModelPackageStatus": record["status"],
        "ModelApprovalStatus": record["approval"],
    } | ({"ModelPackageDescription": description} if description else {})
