"""A loopback AWS: moto's server, and around it a SageMaker that runs what it is asked to run.

See `tests/aws.py` for how tests use it. What the double adds to moto, and how:

| what | how |
| --- | --- |
| parameters of SageMaker, ECR, logs, events, autoscaling, tagging | checked against botocore's model, patterns and enums too |
| training jobs | /opt/ml laid out from S3, container or function run, results to S3, log to CloudWatch, AWS's statuses |
| endpoints, transform, processing, tuning, pipelines | in the same way (endpoints.py, transform.py, processing.py, tuning.py, pipelines.py) |
| every other kind of SageMaker resource | kept, described, listed, tagged and deleted off the service model |
| resourcegroupstaggingapi GetResources | moto's answer and every SageMaker resource |
| faults | refusals, cut connections, foreign buckets, regions that are not enabled |

It proves our requests and our containers. It does not prove AWS: no policies, quotas, image pulls, networks of a VPC.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosted.context import Context
from hosted.endpoints import Endpoints
from hosted.folders import Cloud
from hosted.invocation import Invocations
from hosted.layer import Layer
from hosted.pipelines import Pipelines
from hosted.processing import Processing
from hosted.registry import Registry
from hosted.runners import HOST, Docker, Inline, Runner
from hosted.service import SageMaker
from hosted.serving import Models
from hosted.store import Store
from hosted.training import Training
from hosted.transform import Transform
from hosted.tuning import Tuning


@dataclass
class Double:
    """A double that answers at `url`."""

    url: str
    context: Context
    layer: Layer
    training: Training
    endpoints: Endpoints


@contextmanager
def running(runner: Runner | None = None) -> Iterator[Double]:
    """A double on a free port until the block ends; everything that it started ends with it."""
    from moto.moto_api._internal.models import moto_api_backend

    servers: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="ncf-double-", ignore_cleanup_errors=True) as scratch:
        runner = runner or Inline()
        context = Context(Store(), Cloud(""), runner, Path(scratch))
        double = _assembled(context)
        servers.append(_server("127.0.0.1", double.layer))
        double.url = context.cloud.url = f"http://127.0.0.1:{servers[0].server_address[1]}"
        if isinstance(runner, Docker):
            runner.tidy()
            servers.append(_server("0.0.0.0", double.layer))
            context.pause = 0.5
            context.inside = f"http://{HOST}:{servers[1].server_address[1]}"
        try:
            yield double
        finally:
            _end(double, servers)
            moto_api_backend.reset()


def _assembled(context: Context) -> Double:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    models = Models(context)
    training, endpoints = Training(context), Endpoints(context, models)
    sagemaker = SageMaker(context.store)
    sagemaker.parts = (
        training, models, endpoints, Processing(context), Transform(context, models), Tuning(context, training),
        Registry(context), Pipelines(context, sagemaker.call),
    )  # fmt: skip
    layer = Layer(sagemaker, Invocations(context, endpoints), DomainDispatcherApplication(create_backend_app))
    return Double("", context, layer, training, endpoints)


def _server(host: str, app: Any) -> Any:
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        """Prints nothing; a connection that was cut on demand is no mistake."""

        def log(self, type: str, message: str, *args: Any) -> None:
            pass

        def run_wsgi(self) -> None:
            with suppress(ConnectionError, ValueError):
                super().run_wsgi()

    server = make_server(host, 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def _end(double: Double, servers: list[Any]) -> None:
    context = double.context
    context.closing.set()
    for job in double.training.jobs.values():
        job.stop.set()
    double.endpoints.end()
    context.runner.end()
    for thread in context.threads:
        thread.join(30)
    for server in servers:
        server.shutdown()
        server.server_close()
