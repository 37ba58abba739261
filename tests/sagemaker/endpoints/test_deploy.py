"""Deployments from the start to the end, and what is left when they fail."""

import itertools
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aws import Aws
from ncf.errors import ArtifactError, CloudError, ConfigError, Interrupted
from ncf.sagemaker.account.project_resources import everything
from ncf.sagemaker.endpoints.autoscaling import Scaling
from ncf.sagemaker.endpoints.deploy import check, rollback
from ncf.sagemaker.endpoints.describe import (
    EndpointProgress,
    cost,
    existing,
    settle,
    summaries,
    summary,
    tags_of,
)
from ncf.sagemaker.endpoints.outcome import delete
from ncf.sagemaker.endpoints.requests import Hosting
from ncf.sagemaker.jobs.package import pack_model
from ncf.sagemaker.session import Session, Settings
from sagemaker_hosting import IMAGE, deployed, hurried, left, sick_from_now_on

LOG = "/aws/sagemaker/Endpoints/ncf"


def log_groups(aws: Aws) -> list[str]:
    return [one["logGroupName"] for one in aws.client("logs").describe_log_groups()["logGroups"]]


@pytest.fixture
def broken_containers(aws: Aws) -> None:
    """What containers write."""
    lines = ["[ncf] The artifact is damaged: model.safetensors.", "token=abcdef123 was not used"]
    aws._set(said=lines)


@pytest.fixture
def held(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Updates go on until this is set."""
    go_on = threading.Event()
    aws.run(lambda _: 0)
    monkeypatch.setattr(
        "ncf.sagemaker.local.endpoints.EndpointCalls._alarms", lambda *_: go_on.wait(30) and None
    )
    yield go_on
    go_on.set()


def test_a_new_endpoint_is_made_of_three_tagged_parts(aws: Aws, artifact: Path) -> None:
    session = aws.session(project="films", tags={"team": "search"})
    made = deployed(session, artifact, Hosting(workers=2))
    assert (made.endpoint, made.status, made.created) == ("films", "InService", True)
    assert left(aws) == ["films", made.config, made.model]
    assert made.config.startswith("films-2")
    for record in aws.records():
        assert record.tags["ncf:project"] == "films"
        assert record.tags["team"] == "search"
    container = aws.records("Model")[0].request["PrimaryContainer"]
    assert (container["Image"], container["Environment"]) == (IMAGE, {"NCF_WORKERS": "2"})


def test_the_same_model_is_sent_once(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    session = aws.session()
    first = deployed(session, artifact)
    second = deployed(session, pack_model(artifact, tmp_path / "model.tar.gz"))
    assert first.model_uri == second.model_uri
    assert len(aws.calls("PutObject")) == 1


def test_a_model_in_s3_is_taken_as_it_is(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    uri = deployed(session, artifact).model_uri
    again = deployed(session, uri, endpoint="other")  # type: ignore[arg-type]
    assert again.model_uri == uri
    assert len(aws.calls("PutObject")) == 1


def test_awss_image_gets_the_code_and_the_toolkits_variables(
    aws: Aws, artifact: Path, tmp_path: Path
) -> None:
    session = aws.session()
    made = deployed(session, artifact, Hosting(aws_image=True), image=None)
    container = aws.records("Model")[0].request["PrimaryContainer"]
    assert "/pytorch-inference:" in container["Image"]
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "inference.py"
    archive = session.download(made.model_uri, tmp_path / "got.tar.gz")
    assert archive.read_bytes() == pack_model(artifact, tmp_path / "packed.tar.gz", code=True).read_bytes()


def test_an_update_replaces_and_remembers_what_was_before(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    first = deployed(session, artifact)
    second = deployed(session, artifact)
    assert (second.created, second.status) == (False, "InService")
    assert existing(session, "ncf")["EndpointConfigName"] == second.config
    (config,) = [one for one in aws.records("EndpointConfig") if one.name == second.config]
    assert config.tags["ncf:before"] == first.config


def test_a_rollback_goes_back_and_back_again_and_then_no_further(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    first, second, third = (deployed(session, artifact) for _ in range(3))
    assert third.config not in (first.config, second.config)
    assert rollback(session, "ncf", progress=hurried()) == second.config
    assert rollback(session, "ncf", progress=hurried()) == first.config
    assert existing(session, "ncf")["EndpointConfigName"] == first.config
    with pytest.raises(CloudError, match="has no earlier configuration: deploy"):
        rollback(session, "ncf", progress=hurried())


def test_a_rollback_to_what_was_deleted_says_so(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    first = deployed(session, artifact)
    deployed(session, artifact)
    session.client("sagemaker").delete_endpoint_config(EndpointConfigName=first.config)
    with pytest.raises(CloudError, match=f"{first.config} was deleted: deploy"):
        rollback(session, "ncf", progress=hurried())


def test_a_rollback_that_fails_leaves_both_configurations(
    aws: Aws, artifact: Path, broken_containers: None
) -> None:
    session = aws.session()
    first, second = deployed(session, artifact), deployed(session, artifact)
    aws.unwell(first.model)
    with pytest.raises(CloudError, match=f"serves as before, with configuration {second.config}"):
        rollback(session, "ncf", progress=hurried())
    assert existing(session, "ncf")["EndpointConfigName"] == second.config
    assert len(left(aws)) == 5


def test_a_new_endpoint_that_is_not_healthy_is_explained_and_leaves_nothing(
    aws: Aws, artifact: Path, broken_containers: None
) -> None:
    session = aws.session()
    sick_from_now_on(aws)
    with pytest.raises(CloudError) as failure:
        deployed(session, artifact)
    sentence, *log = str(failure.value).splitlines()
    assert failure.value.code == "Unhealthy"
    assert sentence.startswith("The endpoint ncf did not become healthy (The primary container")
    assert sentence.endswith(
        "It was deleted with its configuration and model: fix the cause and deploy again."
    )
    assert log[1] == "  [ncf] The artifact is damaged: model.safetensors."
    assert [item.name for item in everything(session).of("log-group")] == [LOG]
    assert "abcdef123" not in str(failure.value)
    assert left(aws) == []


def test_an_update_that_is_not_healthy_is_explained_and_undone(
    aws: Aws, artifact: Path, broken_containers: None
) -> None:
    session = aws.session()
    first = deployed(session, artifact)
    sick_from_now_on(aws)
    with pytest.raises(CloudError, match="did not become healthy.*serves as before") as failure:
        deployed(session, artifact)
    assert "The artifact is damaged" in str(failure.value)
    now = existing(session, "ncf")
    assert (now["EndpointStatus"], now["EndpointConfigName"]) == ("InService", first.config)
    assert left(aws) == ["ncf", first.config, first.model]


def test_where_there_is_no_log_it_says_what_that_means(aws: Aws, artifact: Path) -> None:
    sick_from_now_on(aws)
    with pytest.raises(CloudError, match="has no lines: the container did not start"):
        deployed(aws.session(), artifact)


def test_an_alarm_undoes_an_update(aws: Aws, artifact: Path) -> None:
    session, alarms = aws.session(), aws.client("cloudwatch")
    first = deployed(session, artifact)
    alarms.put_metric_alarm(
        AlarmName="errors",
        MetricName="Invocation5XXErrors",
        Namespace="AWS/SageMaker",
        Period=60,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        Statistic="Sum",
    )
    alarms.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    with pytest.raises(CloudError, match="errors"):
        deployed(session, artifact, Hosting(traffic="canary", alarms=("errors",)))
    assert existing(session, "ncf")["EndpointConfigName"] == first.config
    assert left(aws) == ["ncf", first.config, first.model]


class Stuck:
    """SageMaker's client, but an update neither succeeds nor is undone: it ends in this status."""

    def __init__(self, client: Any, status: str, comes_back: bool) -> None:
        self._client, self._status, self._comes_back, self.updates = client, status, comes_back, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def update_endpoint(self, **request: Any) -> Any:
        self.updates.append(request["EndpointConfigName"])
        if len(self.updates) > 1 and not self._comes_back:
            raise CloudError("Not now.")
        return {}

    def describe_endpoint(self, **request: Any) -> Any:
        found = self._client.describe_endpoint(**request)
        return found | ({"EndpointStatus": self._status} if len(self.updates) == 1 else {})


@pytest.mark.parametrize("comes_back", [True, False])
def test_where_sagemaker_does_not_go_back_we_do(aws: Aws, artifact: Path, comes_back: bool) -> None:
    session = aws.session()
    first = deployed(session, artifact)
    stuck = Stuck(session.client("sagemaker"), "UpdateRollbackFailed", comes_back)
    session._clients["sagemaker"] = stuck
    then = "It serves as before" if comes_back else "It could not return to configuration"
    with pytest.raises(CloudError, match=then):
        deployed(session, artifact)
    assert stuck.updates[1] == first.config
    assert len(left(aws)) == (3 if comes_back else 5)


def test_the_second_of_two_deployments_at_once_makes_nothing(
    aws: Aws, artifact: Path, held: threading.Event
) -> None:
    session = aws.session()
    first = deployed(session, artifact)
    second = deployed(session, artifact, wait=False)
    with pytest.raises(CloudError, match="being changed by another deployment") as busy:
        deployed(session, artifact)
    assert busy.value.code == "Busy"
    assert left(aws) == sorted(["ncf", *{first.config, second.config}, *{first.model, second.model}])
    held.set()
    settle(session, "ncf", hurried())


@pytest.mark.parametrize("new", [True, False], ids=["both make it", "both change it"])
def test_two_deployments_that_see_the_same_endpoint_leave_one_of_them(
    aws: Aws, artifact: Path, monkeypatch: pytest.MonkeyPatch, held: threading.Event, new: bool
) -> None:
    """The second begins between the first one's look at the endpoint and its change."""
    session = aws.session()
    before = [] if new else [deployed(session, artifact)]
    names: Iterator[str] = (f"ncf-{number}" for number in itertools.count())
    won = []
    barrier = threading.Event()

    def named(*_: Any) -> str:
        if not barrier.is_set():
            barrier.set()
            won.append(deployed(aws.session(), artifact, wait=False))
        return next(names)

    monkeypatch.setattr("ncf.sagemaker.endpoints.deploy.new_part", named)
    with pytest.raises(CloudError, match="being changed by another deployment"):
        deployed(session, artifact)
    parts = [*before, *won]
    assert left(aws) == sorted(["ncf", *(one.config for one in parts), *(one.model for one in parts)])
    held.set()
    settle(session, "ncf", hurried())


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_a_refusal_half_way_leaves_nothing(aws: Aws, artifact: Path, operation: str) -> None:
    aws.fail(operation, "ResourceLimitExceeded", message="The account-level service limit is 0.")
    with pytest.raises(CloudError, match="ask for more under Service Quotas"):
        deployed(aws.session(), artifact)
    assert left(aws) == []


def test_what_cannot_be_taken_away_is_named(aws: Aws, artifact: Path) -> None:
    said: list[str] = []
    aws.fail("CreateEndpoint", "ResourceLimitExceeded")
    aws.fail("DeleteModel", "AccessDeniedException")
    with pytest.raises(CloudError, match="Quotas"):
        deployed(aws.session(), artifact, progress=hurried(said))
    (model,) = left(aws)
    assert f"{model} could not be deleted: AWS refused sagemaker delete_model" in " ".join(said)


def test_throttling_is_waited_out(aws: Aws, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore tries eight times; a wait goes on even after that."""
    monkeypatch.setattr("ncf.sagemaker.session._ATTEMPTS", 1)
    aws.fail("DescribeEndpoint", "ThrottlingException", times=3, after=1)
    assert deployed(aws.session(), artifact).status == "InService"


def test_throttling_without_end_is_an_error_and_undoes_nothing(
    aws: Aws, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncf.sagemaker.session._ATTEMPTS", 1)
    aws.fail("DescribeEndpoint", "ThrottlingException", times=100, after=1)
    with pytest.raises(CloudError, match="AWS refuses so many requests"):
        deployed(aws.session(), artifact)
    aws.heal()
    assert len(left(aws)) == 3


def test_ctrl_c_while_waiting_undoes_nothing(aws: Aws, artifact: Path) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    session = aws.session()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncf.sagemaker.local.endpoints.EndpointCalls._serve", lambda *_: False)
        with pytest.raises(Interrupted, match="SageMaker continues"):
            deployed(session, artifact, progress=EndpointProgress(sleep=interrupted))
    assert len(left(aws)) == 3


def test_waiting_ends_some_time(aws: Aws, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncf.sagemaker.local.endpoints.EndpointCalls._serve", lambda *_: False)
    with pytest.raises(CloudError, match="stopped waiting for ncf, but SageMaker continues") as late:
        deployed(aws.session(), artifact, progress=EndpointProgress(sleep=lambda _: None, patience=60))
    assert late.value.code == "Timeout"
    assert len(left(aws)) == 3


def test_without_waiting_it_is_only_begun(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    assert deployed(session, artifact, wait=False).status == "Creating"
    settle(session, "ncf", hurried())
    assert deployed(session, artifact, wait=False).status == "Updating"
    settle(session, "ncf", hurried())


def test_delete_takes_everything_of_the_endpoint_and_nothing_else_twice(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    parts = [deployed(session, artifact) for _ in range(2)]
    rollback(session, "ncf", progress=hurried())
    other = deployed(session, artifact, endpoint="ncf-other")
    gone = delete(session, "ncf", progress=hurried())
    assert gone == [
        "endpoint ncf", f"log group {LOG}", *(f"configuration {one.config}" for one in parts),
        *(f"model {one.model}" for one in parts),
    ]  # fmt: skip
    assert log_groups(aws) == [f"{LOG}-other"]
    assert left(aws) == sorted(["ncf-other", other.config, other.model])
    assert delete(session, "ncf", progress=hurried()) == []


def test_delete_takes_what_an_interrupted_delete_left(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    made = deployed(session, artifact)
    session.client("sagemaker").delete_endpoint(EndpointName="ncf")
    settle(session, "ncf", hurried())
    gone = delete(session, "ncf", progress=hurried())
    assert gone == [f"log group {LOG}", f"configuration {made.config}", f"model {made.model}"]
    assert log_groups(aws) == []


def test_a_log_that_nothing_tells_to_be_ours_is_left_alone(aws: Aws) -> None:
    aws.client("logs").create_log_group(logGroupName=LOG)
    assert delete(aws.session(), "ncf", progress=hurried()) == []
    assert log_groups(aws) == [LOG]


def test_a_log_that_may_not_be_deleted_is_said_and_left_to_clean_up(aws: Aws, artifact: Path) -> None:
    session, said = aws.session(), list[str]()
    deployed(session, artifact)
    aws.fail("DeleteLogGroup", "AccessDeniedException", times=math.inf)
    gone = delete(session, "ncf", progress=hurried(said))
    assert [one.split()[0] for one in gone] == ["endpoint", "configuration", "model"]
    assert any(f"its log group {LOG} stays as it is: AWS refused" in line for line in said)
    assert [item.name for item in everything(session).of("log-group")] == [LOG]


@pytest.mark.parametrize("verb", ["deploy", "rollback", "delete"])
def test_an_endpoint_of_another_project_is_left_alone(aws: Aws, artifact: Path, verb: str) -> None:
    deployed(aws.session(project="theirs"), artifact, endpoint="shared")
    before, session = left(aws), aws.session(project="ours")
    verbs: dict[str, Any] = {
        "deploy": lambda: deployed(session, artifact, endpoint="shared"),
        "rollback": lambda: rollback(session, "shared"), "delete": lambda: delete(session, "shared"),
    }  # fmt: skip
    with pytest.raises(CloudError, match="does not belong to project .ours. and is left alone"):
        verbs[verb]()
    assert left(aws) == before


def test_a_failed_endpoint_is_to_be_deleted_first(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    sick_from_now_on(aws)
    deployed(session, artifact, wait=False)
    settle(session, "ncf", hurried())
    with pytest.raises(CloudError, match="is Failed .*'ncf sagemaker delete ncf' first"):
        deployed(session, artifact)
    assert len(delete(session, "ncf", progress=hurried())) == 4


def test_a_damaged_artifact_is_noticed_before_anything_is_made(
    aws: Aws, artifact: Path, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text("{}", "utf-8")
    with pytest.raises(ArtifactError):
        deployed(aws.session(), tmp_path)
    assert left(aws) == []


def test_a_name_that_is_none_is_refused(aws: Aws, artifact: Path) -> None:
    with pytest.raises(ConfigError, match="The endpoint's name 'my_films' is not possible in SageMaker"):
        deployed(aws.session(), artifact, endpoint="my_films")


@pytest.mark.parametrize(
    ("hosting", "scaling", "option"),
    [
        (Hosting(capture=5), None, "--capture"),
        (Hosting(), Scaling(1, 2, 1.0), "--autoscale"),
        (Hosting(serverless_mb=2048), None, "--serverless"),
        (Hosting(asynchronous=True), None, "--async"),
        (Hosting(instance_count=2), None, "--instance-count"),
        (Hosting(traffic="canary"), None, "--traffic"),
        (Hosting(alarms=("a",)), None, "--alarm"),
    ],
)
def test_local_mode_refuses_what_it_has_not_before_anything_is_made(
    tmp_path: Path, artifact: Path, hosting: Hosting, scaling: Scaling | None, option: str
) -> None:
    session = Session(Settings(local=True, home=tmp_path / "home"))
    with pytest.raises(ConfigError, match=f"Local mode has no {option}: leave it out"):
        deployed(session, artifact, hosting, scaling=scaling)
    assert not (tmp_path / "home").exists()


def test_autoscaling_where_it_cannot_be_is_refused() -> None:
    session = Session(Settings())
    with pytest.raises(ConfigError, match="scale by themselves"):
        check(session, Hosting(serverless_mb=2048), Scaling(1, 2, 1.0))
    with pytest.raises(ConfigError, match="leave out --no-wait"):
        check(session, Hosting(), Scaling(1, 2, 1.0), wait=False)


def test_a_summary_tells_what_there_is(aws: Aws, artifact: Path) -> None:
    session = aws.session(bucket=None)
    first = deployed(session, artifact)
    second = deployed(session, artifact, Hosting(instance_count=2, capture=25), scaling=Scaling(1, 3, 100.0))
    one = summary(session, existing(session, "ncf"))
    assert (one.status, one.instance, one.scaling) == ("InService", "2 x ml.c7i.large", "1 to 3 instances")
    assert one.hourly == cost(Hosting(), 2).hourly
    assert one.capture == f"25 % to {session.uri('capture', 'ncf')}"
    assert (one.config, one.before, one.model) == (second.config, first.config, second.model)
    assert (one.image, one.model_uri) == (IMAGE, second.model_uri)


def test_a_serverless_endpoint_costs_nothing_at_rest(aws: Aws, artifact: Path) -> None:
    session, hosting = aws.session(), Hosting(serverless_mb=2048, max_concurrency=2)
    deployed(session, artifact, hosting)
    (one,) = summaries(session)
    assert (one.instance, one.hourly) == ("serverless 2048 MB", 0.0)
    most, single = cost(hosting).hourly, cost(Hosting(serverless_mb=2048, max_concurrency=1)).hourly
    assert most == pytest.approx(2 * single)  # type: ignore[operator]


def test_a_summary_stands_what_was_deleted(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    made = deployed(session, artifact)
    client = session.client("sagemaker")
    client.delete_endpoint_config(EndpointConfigName=made.config)
    client.delete_model(ModelName=made.model)
    (one,) = summaries(session)
    assert (one.status, one.config, one.model, one.instance) == ("InService", made.config, None, None)


def test_only_this_projects_endpoints_are_listed(aws: Aws, artifact: Path) -> None:
    deployed(aws.session(project="theirs"), artifact)
    deployed(aws.session(project="ours"), artifact)
    assert [one.name for one in summaries(aws.session(project="ours"))] == ["ours"]
    assert tags_of(aws.session(), existing(aws.session(), "ours")["EndpointArn"]) == {"ncf:project": "ours"}


def test_each_new_status_is_told_once(aws: Aws, artifact: Path, held: threading.Event) -> None:
    session, said = aws.session(), []
    deployed(session, artifact)
    deployed(session, artifact, wait=False)
    steps = iter([None, None, held.set])

    def sleep(_: float) -> None:
        (next(steps, None) or (lambda: time.sleep(0.02)))()

    settle(session, "ncf", EndpointProgress(said.append, sleep))
    assert said == ["ncf: Updating …"]


def test_waiting_for_an_endpoint_that_is_not_there_is_over_at_once(aws: Aws) -> None:
    began = time.monotonic()
    assert settle(aws.session(), "none", EndpointProgress()) is None
    assert time.monotonic() - began < 5
