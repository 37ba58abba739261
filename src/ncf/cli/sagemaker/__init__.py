"""`ncf sagemaker …`: the same commands for hosted SageMaker and, with `--local`, for this machine."""

from typing import ClassVar

from ncf.cli.help import App, LateGroup


class _Cloud(LateGroup):
    homes: ClassVar = {
        "Data": {"prepare": "sagemaker.prepare:prepare"},
        "Train": {
            "push-image": "sagemaker.jobs:push_image",
            "train": "sagemaker.jobs:train",
            "tune": "sagemaker.tune:tune",
            "fetch": "sagemaker.jobs:fetch",
            "jobs": "sagemaker.jobs:jobs",
            "logs": "sagemaker.jobs:logs",
            "stop": "sagemaker.jobs:stop",
            "pipeline": "sagemaker.pipeline:app",
        },
        "Serve": {
            "deploy": "sagemaker.endpoints:deploy",
            "invoke": "sagemaker.invoke:invoke",
            "endpoints": "sagemaker.endpoints:endpoints",
            "describe": "sagemaker.endpoints:describe",
            "rollback": "sagemaker.endpoints:rollback",
            "captured": "sagemaker.endpoints:captured",
            "delete": "sagemaker.endpoints:delete",
            "transform": "sagemaker.transform:transform",
            "models": "sagemaker.models:app",
        },
        "Account": {
            "status": "sagemaker.upkeep:status",
            "cleanup": "sagemaker.upkeep:cleanup",
            "policy": "sagemaker.upkeep:policy",
            "double": "sagemaker.upkeep:double",
        },
    }


app = App(
    cls=_Cloud,
    help="Amazon SageMaker, hosted or --local: train, tune, deploy, invoke, transform, pipeline, clean up.",
    callback=lambda: None,
)
