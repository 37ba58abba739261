"""`SageMaker`: the calls of boto3's `sagemaker` client that local mode has, one method each.

Each takes the request that AWS takes and answers with AWS's fields as far as there is something to say; errors are
botocore's, with AWS's codes. What Docker or this machine lacks is a `CloudError`. Source: Amazon SageMaker API Reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncf.sagemaker.local import endpoints, jobs, models, process, requests
from ncf.sagemaker.local.jobs import PROCESSING, TRAINING, TRANSFORM
from ncf.sagemaker.local.listing import Pages
from ncf.sagemaker.local.models import CONFIG, MODEL
from ncf.sagemaker.local.pipelines import Pipelines, mourned
from ncf.sagemaker.local.registry import Registry
from ncf.sagemaker.local.state import Record, Store

Answer = dict[str, Any]


class SageMaker(Registry, Pipelines):
    """Jobs, models and endpoints below `home`; every call first cleans up after workers that died."""

    def __init__(self, home: Path, region: str) -> None:
        self.store = Store(home, region)

    def __getattr__(self, name: str) -> Any:
        raise requests.absent("sagemaker", name)

    def get_paginator(self, operation: str) -> Pages:
        """Pages of a List call."""
        return Pages(getattr(self, operation))

    def create_training_job(self, **request: Any) -> Answer:
        return jobs.create(self._swept(), TRAINING, request)

    def describe_training_job(self, **request: Any) -> Answer:
        return jobs.find(self._swept(), TRAINING, request)

    def stop_training_job(self, **request: Any) -> Answer:
        return jobs.stop(self._swept(), TRAINING, request)

    def list_training_jobs(self, **request: Any) -> Answer:
        return jobs.search(self._swept(), TRAINING, request)

    def create_processing_job(self, **request: Any) -> Answer:
        return jobs.create(self._swept(), PROCESSING, request)

    def describe_processing_job(self, **request: Any) -> Answer:
        return jobs.find(self._swept(), PROCESSING, request)

    def stop_processing_job(self, **request: Any) -> Answer:
        return jobs.stop(self._swept(), PROCESSING, request)

    def list_processing_jobs(self, **request: Any) -> Answer:
        return jobs.search(self._swept(), PROCESSING, request)

    def create_transform_job(self, **request: Any) -> Answer:
        return jobs.create(self._swept(), TRANSFORM, request)

    def describe_transform_job(self, **request: Any) -> Answer:
        return jobs.find(self._swept(), TRANSFORM, request)

    def stop_transform_job(self, **request: Any) -> Answer:
        return jobs.stop(self._swept(), TRANSFORM, request)

    def list_transform_jobs(self, **request: Any) -> Answer:
        return jobs.search(self._swept(), TRANSFORM, request)

    def delete_training_job(self, **request: Any) -> Answer:
        return jobs.delete(self._swept(), TRAINING, request)

    def delete_processing_job(self, **request: Any) -> Answer:
        return jobs.delete(self._swept(), PROCESSING, request)

    def delete_transform_job(self, **request: Any) -> Answer:
        """AWS has no such call: its records stay."""
        return jobs.delete(self._swept(), TRANSFORM, request)

    def create_model(self, **request: Any) -> Answer:
        return models.create(self.store, MODEL, request)

    def describe_model(self, **request: Any) -> Answer:
        return models.find(self.store, MODEL, request)

    def list_models(self, **request: Any) -> Answer:
        return models.search(self.store, MODEL, request)

    def delete_model(self, **request: Any) -> Answer:
        return models.delete(self.store, MODEL, request)

    def create_endpoint_config(self, **request: Any) -> Answer:
        return models.create(self.store, CONFIG, request)

    def describe_endpoint_config(self, **request: Any) -> Answer:
        return models.find(self.store, CONFIG, request)

    def list_endpoint_configs(self, **request: Any) -> Answer:
        return models.search(self.store, CONFIG, request)

    def delete_endpoint_config(self, **request: Any) -> Answer:
        return models.delete(self.store, CONFIG, request)

    def create_endpoint(self, **request: Any) -> Answer:
        return endpoints.create(self._swept(), request)

    def describe_endpoint(self, **request: Any) -> Answer:
        return endpoints.find(self._swept(), request)

    def update_endpoint(self, **request: Any) -> Answer:
        return endpoints.update(self._swept(), request)

    def list_endpoints(self, **request: Any) -> Answer:
        return endpoints.search(self._swept(), request)

    def delete_endpoint(self, **request: Any) -> Answer:
        return endpoints.delete(self._swept(), request)

    def list_tags(self, **request: Any) -> Answer:
        """Tags of what an ARN names."""
        requests.check("sagemaker", "list_tags", request)
        return {"Tags": self._tagged("list_tags", request)["tags"]}

    def add_tags(self, **request: Any) -> Answer:
        """Add tags, or change their values."""
        requests.check("sagemaker", "add_tags", request)
        self._tagged("add_tags", request)
        with self.store.editing(*self.store.named(request["ResourceArn"])) as record:
            new = {tag["Key"]: tag for tag in (*record["tags"], *request["Tags"])}
            record["tags"] = list(new.values())
        return {"Tags": record["tags"]}

    def _tagged(self, method: str, request: dict[str, Any]) -> Record:
        record = self.store.read(*self.store.named(request["ResourceArn"]))
        if record is None or record["arn"] != request["ResourceArn"]:
            raise requests.refusal(method, f"Could not find the resource {request['ResourceArn']}.")
        return record

    def _swept(self) -> Store:
        process.sweep(self.store, mourned)
        return self.store
