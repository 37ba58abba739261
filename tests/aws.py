"""A loopback AWS for tests: the fixture `aws`.

    def test_it(aws: Aws) -> None:
        session = aws.session(bucket="mine")          # ncf.sagemaker.session.Session against the double
        s3 = aws.client("s3")                         # plain boto3
        aws.fail("CreateTrainingJob", "ThrottlingException", times=2)
        aws.run(function)                             # stands in for every container from here on
        session.client("sagemaker").create_training_job(...)

Without `run`, jobs are over when the call that started them returns: Completed, with a canned model.tar.gz
and a metric line. `aws.run(function)` gives each container of a job as a `hosted.inline.Spec` to the
function, in a thread: it finds /opt/ml under `spec.root`, writes its log with `spec.log(line)`, notices a
stop by `spec.stop`, and returns an exit code. `aws.serve(function)` answers invocations: `(model folder,
body, headers) -> (status, body, content type)`.

| | |
| --- | --- |
| `aws.url`, `aws.role` | the address; ARN of an execution role that exists |
| `aws.calls(operation)` | the requests that came in, with `.parameters`, `.region`, `.body` |
| `aws.fail(operation, code, times, status, message, after)` | refuse calls after good ones; "*": all |
| `aws.cut(operation, after_bytes, times, after)` | close the connection in the middle of the body |
| `aws.foreign(bucket)` | a bucket of another account |
| `aws.wait(kind, name)` | until a job or endpoint has ended its way; its description |
| `aws.interrupt(job)` | take the spot instances of a training job away |
| `aws.unwell(model)` | containers of this model never answer /ping with 200 |
| `aws.records(kind)` | what SageMaker has now; without a kind all of it |

The variables of the process (`AWS_ENDPOINT_URL`, credentials) are set while the fixture lives, so commands
and child processes go to the double as well. For a wider scope: `with hosted_aws() as aws`, with
`DockerRunner()` for real containers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ncf.sagemaker.local.double import ROLE, _session

if TYPE_CHECKING:
    from hosted.inline import FaultyDouble, Spec
    from ncf.sagemaker.local.docker import HttpReply, Runner
    from ncf.sagemaker.local.protocol import Call
    from ncf.sagemaker.local.state import StateRecord
    from ncf.sagemaker.session import Session

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"
_UNSET = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_PROFILE",
    "NCF_ROLE",
    "NCF_BUCKET",
    "NCF_PROJECT",
    "NCF_KMS_KEY",
)
_OVER = ("Completed", "Failed", "Stopped", "InService", "Succeeded")


class Aws:
    """The double as tests see it."""

    def __init__(self, double: FaultyDouble) -> None:
        self.double = double
        self.url = double.url
        self.role = double.make_role(ROLE)
        self.double.calls.clear()

    def client(self, service: str, region: str = REGION, tries: int | None = None) -> Any:
        """A plain boto3 client, which tries as often as boto3 does or so many times."""
        from botocore.config import Config

        config = Config(retries={"total_max_attempts": tries}) if tries else None
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return _session().client(service, region, endpoint_url=self.url, config=config, **keys)

    def session(self, **settings: Any) -> Session:
        """A hosted session, with the role unless another is given."""
        from ncf.sagemaker.session import Session, Settings

        return Session(Settings(**{"role": self.role, **settings}))

    def run(self, function: Callable[[Spec], int | None]) -> None:
        """From now on this stands in for the containers of jobs."""
        self._set(run=function)

    def serve(self, function: Callable[[Path, bytes, Mapping[str, str]], HttpReply]) -> None:
        """From now on this answers invocations."""
        self._set(serve=function)

    def _set(self, **change: Any) -> None:
        self.double.runner = replace(self.double.runner, **change)  # type: ignore[type-var]

    def calls(self, operation: str | None = None) -> list[Call]:
        """The requests of tests, in order."""
        return [call for call in self.double.calls if operation in (None, call.operation)]

    def fail(
        self,
        operation: str,
        code: str,
        times: float = 1,
        status: int = 400,
        message: str = "",
        after: int = 0,
    ) -> None:
        """Refuse the next calls."""
        from hosted.inline import Fault
        from ncf.sagemaker.local.requests import Refusal

        refusal = Refusal(code, message or f"{code} on demand", status)
        self.double.faults.append(Fault(operation, refusal, times=times, passed=after))

    def cut(self, operation: str, after_bytes: int = 0, times: float = 1, after: int = 0) -> None:
        """Close the connection of the next calls after so many bytes of the body."""
        from hosted.inline import Fault

        self.double.faults.append(Fault(operation, cut_after=after_bytes, times=times, passed=after))

    def heal(self) -> None:
        """No more faults."""
        self.double.faults.clear()

    def foreign(self, bucket: str) -> None:
        """From now on this bucket belongs to another account."""
        self.double.foreign.add(bucket)

    def interrupt(self, job: str) -> None:
        """A spot interruption: SIGTERM, then new instances."""
        record = self.double.plane(REGION).store.get("TrainingJob", job)
        assert record.request.get("EnableManagedSpotTraining"), "only spot instances are taken away"
        record.set(interrupt=True)

    def unwell(self, model: str, seconds: float = 0.2) -> None:
        """Containers of this model never become well, which is noticed after so many seconds."""
        self._set(unwell={*self.double.runner.unwell, model})  # type: ignore[attr-defined]
        self.double.patience = seconds

    def until(self, true: Callable[[], bool], seconds: float = 30) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    def records(self, kind: str | None = None) -> list[StateRecord]:
        """What SageMaker has."""
        return self.double.records(kind)

    def wait(self, kind: str, name: str, seconds: float = 60, region: str = REGION) -> dict[str, Any]:
        """Until its status is one of the last; what is known of it."""
        end = time.monotonic() + seconds
        while True:
            record = self.double.plane(region).store.get(kind, name)
            if record.status in _OVER:
                return record.everything
            assert time.monotonic() < end, f"{name} is still {record.status}"
            time.sleep(0.02)


@contextmanager
def hosted_aws(runner: Runner | None = None) -> Iterator[Aws]:
    """A double and the variables that lead to it, until the block ends."""
    from hosted.inline import FaultyDouble, Inline
    from ncf.sagemaker.local.double import serve

    with serve(runner or Inline(), FaultyDouble) as double, pytest.MonkeyPatch.context() as patch:
        for name in _UNSET:
            patch.delenv(name, raising=False)
        for name, value in _variables(double.url).items():
            patch.setenv(name, value)
        yield Aws(double)


@pytest.fixture
def aws() -> Iterator[Aws]:
    """A fresh AWS."""
    with hosted_aws() as one:
        yield one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before retries, which are kept here and not made."""
    from types import SimpleNamespace

    import botocore.endpoint

    pauses: list[float] = []
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def _variables(url: str) -> dict[str, str]:
    nowhere = os.devnull
    return {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere, "SAGEMAKER_VALIDATE_ROLE": "false",
        "NO_PROXY": "127.0.0.1,localhost",
    }  # fmt: skip
