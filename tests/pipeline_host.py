"""Local mode without containers: the programs of the steps run on this machine, in this process, at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ncf.sagemaker.aws_errors import Guarded
from ncf.sagemaker.container import pipeline_steps, train
from ncf.sagemaker.local import requests
from ncf.sagemaker.local.listing import Pages
from ncf.sagemaker.local.pipeline_run import Interpreter
from ncf.sagemaker.local.pipelines import Pipelines
from ncf.sagemaker.local.registry import Registry
from ncf.sagemaker.local.state import Record, Store
from ncf.sagemaker.session import Session, Settings
from ncf.serving.archive import pack


class Host(Registry, Pipelines):
    """The registry and the pipelines of local mode, with jobs that run in the call that starts them."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home, "us-east-1")
        self.jobs: dict[str, dict[str, Any]] = {}
        self.broken: set[str] = set()
        """Words in the names of jobs that shall fail."""
        self.stop = False
        """Whether executions are asked to stop."""

    @property
    def ran(self) -> list[str]:
        """The steps whose jobs were started."""
        return [name.split("-")[2] for name in self.jobs]

    def get_paginator(self, operation: str) -> Pages:
        return Pages(getattr(self, operation))

    def _launch(self, record: Record) -> None:
        Interpreter(Guarded(self, "sagemaker"), self.store, record, lambda: self.stop).run()

    def create_processing_job(self, **request: Any) -> dict[str, Any]:
        requests.check("sagemaker", "create_processing_job", request)
        name = request["ProcessingJobName"]
        root = self.store.home / "containers" / name
        for one in request["ProcessingInputs"]:
            _fetch(one["S3Input"]["S3Uri"], _inside(root, one["S3Input"]["LocalPath"]))
        code = self._code(
            name, lambda: pipeline_steps.main(request["AppSpecification"]["ContainerArguments"], root)
        )
        for one in request["ProcessingOutputConfig"]["Outputs"] if code == 0 else ():
            made = _inside(root, one["S3Output"]["LocalPath"])
            shutil.copytree(made, _path(one["S3Output"]["S3Uri"]), dirs_exist_ok=True)
        message = root / "output" / "message"
        self._end(name, "ProcessingJob", request, code, message)
        return {}

    def create_training_job(self, **request: Any) -> dict[str, Any]:
        requests.check("sagemaker", "create_training_job", request)
        name = request["TrainingJobName"]
        root = self.store.home / "containers" / name
        for one in request["InputDataConfig"]:
            _fetch(one["DataSource"]["S3DataSource"]["S3Uri"], root / "input" / "data" / one["ChannelName"])
        config = root / "input" / "config"
        config.mkdir(parents=True)
        (config / "hyperparameters.json").write_text(json.dumps(request["HyperParameters"]), "utf-8")
        code = self._code(name, lambda: train.main(root))
        self._end(name, "TrainingJob", request, code, root / "output" / "failure")
        if code == 0:
            target = _path(request["OutputDataConfig"]["S3OutputPath"]) / name / "output" / "model.tar.gz"
            target.parent.mkdir(parents=True)
            pack({path.name: path for path in (root / "model").iterdir()}, target)
            self.jobs[name]["ModelArtifacts"] = {"S3ModelArtifacts": f"file://{target}"}
        return {}

    def describe_processing_job(self, ProcessingJobName: str) -> dict[str, Any]:
        return self.jobs[ProcessingJobName]

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        return self.jobs[TrainingJobName]

    def _code(self, name: str, run: Any) -> int:
        return 1 if any(word in name for word in self.broken) else int(run())

    def _end(self, name: str, kind: str, request: dict[str, Any], code: int, sentence: Path) -> None:
        self.jobs[name] = request | {f"{kind}Status": "Failed" if code else "Completed"}
        if code:
            said = sentence.read_text("utf-8") if sentence.is_file() else "The container was killed."
            self.jobs[name]["FailureReason"] = said


def session_on(host: Host, **settings: Any) -> Session:
    """A local session whose SageMaker is the host."""
    session = Session(Settings(local=True, home=host.store.home, **settings))
    session._clients["sagemaker"] = Guarded(host, "sagemaker")
    return session


def _path(uri: str) -> Path:
    return Path(urlparse(uri).path)


def _inside(root: Path, path: str) -> Path:
    return root / Path(path).relative_to("/opt/ml")


def _fetch(uri: str, target: Path) -> None:
    source = _path(uri)
    target.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)
