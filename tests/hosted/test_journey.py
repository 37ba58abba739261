"""The whole hosted way by the commands that a person types, each a process of its own, with our image in real
containers.

Train, fetch, tune, deploy, invoke, update, roll back, transform, pipeline, registry, status, clean up; the
last test leaves an account in which nothing of the project is. Fixtures do and tests look, so a failure says
where it went wrong.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from hosted.journey import PROJECT, RECIPE, SHORT, Caller, Stage, journey
from local_mode import PATIENCE, containers
from processes import wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]
QUESTIONS = {
    "a known user": ("--user", "42", "-k", "5"),
    "a new visitor": ("--history", "50", "--history", "181", "-k", "3", "--json"),
    "similar items": ("--similar-to", "50", "-k", "5"),
    "some items only": (
        "--user",
        "42",
        "--user",
        "7",
        "--candidate",
        "50",
        "--candidate",
        "181",
        "--include-seen",
    ),
}
ASKED = ("--user", "42", "--json")
BODY = json.dumps({"users": ["42"], "k": 10})


@pytest.fixture(scope="module")
def stage(image: str, ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One account for the whole module."""
    with journey(image, tmp_path_factory.mktemp("journey"), ml_100k) as made:
        yield made


@pytest.fixture(scope="module")
def trained(stage: Stage) -> str:
    """The name of a job whose run is in `first`."""
    words = ("train", RECIPE, "--data", stage.data, "--output", "first", *SHORT, "--yes", "--quiet")
    return str(stage.json(*words)["job"])


@pytest.fixture(scope="module")
def tuned(stage: Stage) -> dict[str, Any]:
    """A tuning job of two trials, the best run in `second`."""
    (stage.folder / "space.toml").write_text('"train.learning_rate" = { values = [0.003, 0.01] }\n')
    words = (
        "tune",
        RECIPE,
        "--data",
        stage.data,
        "--space",
        "space.toml",
        "--trials",
        "2",
        "--output",
        "second",
    )
    found: dict[str, Any] = stage.json(*words, *SHORT, "--yes", "--quiet")
    return found


@pytest.fixture(scope="module")
def deployed(stage: Stage, trained: str) -> str:
    """The configuration by which the endpoint serves `first`."""
    words = ("deploy", "first", "--capture", "100", "--autoscale", "1:2", "--workers", "1", "--yes")
    return str(stage.json(*words)["config"])


@pytest.fixture(scope="module")
def registered(stage: Stage) -> str:
    """What a first execution of the pipeline said; its model waits for a person."""
    stage.sagemaker("pipeline", "create", RECIPE, "--data", stage.data, *SHORT)
    return stage.sagemaker("pipeline", "start", "--follow")


def test_fetching_again_gives_the_same_run(stage: Stage, trained: str) -> None:
    stage.sagemaker("fetch", trained, "--output", "again", "--data", stage.data)
    first, again = (contents(stage.folder / name / "artifact") for name in ("first", "again"))
    assert first == again
    assert "model.safetensors" in first


def test_two_instances_train_what_one_process_trains_here(stage: Stage) -> None:
    words = (RECIPE, "--data", stage.data, *SHORT, "--set", "train.precision=float32", "--quiet")
    stage.ncf("train", *words, "--output", "here")
    together = ("--instances", "2", "--processes-per-host", "2", "--yes")
    stage.sagemaker("train", *words, *together, "--output", "together")
    here, there = (
        load_file(stage.folder / name / "artifact" / "model.safetensors") for name in ("here", "together")
    )
    assert here.keys() == there.keys()
    for name, weights in here.items():
        assert there[name] == pytest.approx(weights, abs=1e-5), name


def test_the_best_of_two_trials_is_fetched(stage: Stage, tuned: dict[str, Any]) -> None:
    trials = {one["job"]: one for one in tuned["trials"]}
    assert [one["status"] for one in trials.values()] == ["Completed"] * 2
    best = trials[tuned["best"]]
    assert best["objective"] == max(one["objective"] for one in trials.values())
    config = json.loads((stage.folder / "second" / "artifact" / "config.json").read_text())
    assert config["train"]["learning_rate"] == float(best["values"]["train.learning_rate"])


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_endpoint_answers_as_recommend_does(
    stage: Stage, deployed: str, question: tuple[str, ...]
) -> None:
    expected = stage.ncf("recommend", "first", *question)
    assert stage.sagemaker("invoke", *question, "--boto3") == expected


def test_so_it_does_through_the_sdk(stage: Stage, deployed: str) -> None:
    question = ("--user", "42", "--history", "50", "--history", "181", "--json")
    assert stage.sagemaker("invoke", *question) == stage.ncf("recommend", "first", *question)


def test_an_update_and_the_way_back_lose_no_request(
    stage: Stage, deployed: str, tuned: dict[str, Any]
) -> None:
    first, second = (stage.ncf("recommend", run, *ASKED) for run in ("first", "second"))
    assert first != second
    caller = Caller(stage.aws, BODY)
    with caller.calling():
        updated = stage.json("deploy", "second", "--workers", "1", "--yes")
        assert stage.sagemaker("invoke", *ASKED, "--boto3") == second
        back = stage.json("rollback")
        assert stage.sagemaker("invoke", *ASKED, "--boto3") == first
    assert caller.failures == []
    assert len(set(caller.answers)) == 2
    assert caller.answers[0] == caller.answers[-1]
    assert (updated["created"], back["config"]) == (False, deployed)


def test_transform_writes_the_rows_of_batch(stage: Stage, trained: str) -> None:
    (stage.folder / "users.txt").write_text("".join(f"{user}\n" for user in range(1, 41)))
    transform = ("transform", "first", "--users", "users.txt", "--output", "some.csv", "-k", "3")
    stage.sagemaker(*transform, "--quiet", "--yes")
    stage.ncf("batch", "first", "--output", "all.csv", "-k", "3")
    some, every = (rows(stage.folder / name) for name in ("some.csv", "all.csv"))
    assert len(some) == 40 * 3
    assert some == {place: row for place, row in every.items() if place in some}


def test_the_pipeline_registers_its_model(stage: Stage, registered: str) -> None:
    names = [one["name"] for one in execution(stage)["steps"]]
    assert names == ["Prepare", "Train", "Evaluate", "IsBetter", "Register", "Promote"], registered
    assert f"model-package/{PROJECT}-models/1" in registered
    jobs = [one.request["AppSpecification"] for one in stage.aws.records("ProcessingJob")]
    assert max(len(word) for job in jobs for word in job["ContainerArguments"]) <= 256


def test_a_version_is_approved_and_deployed(stage: Stage, registered: str, deployed: str) -> None:
    waiting = stage.json("models", "list")["models"][0]
    assert (waiting["version"], waiting["approval"]) == (1, "PendingManualApproval")
    stage.sagemaker("models", "approve", "--why", "It is the first.")
    said = stage.sagemaker("models", "deploy")
    assert "Version 1 is in service" in said
    job = next(one.name for one in stage.aws.records("TrainingJob") if "-Train-" in one.name)
    stage.sagemaker("fetch", job, "--output", "third", "--data", stage.data)
    assert stage.sagemaker("invoke", *ASKED, "--boto3") == stage.ncf("recommend", "third", *ASKED)


def test_a_stopped_execution_goes_on_and_registers_nothing_that_is_no_better(
    stage: Stage, registered: str
) -> None:
    stage.sagemaker("models", "approve", "1")
    before = len(training_steps(stage))
    stage.sagemaker("pipeline", "start")
    stage.aws.until(lambda: "Training" in training_steps(stage)[before:], 300)
    stage.sagemaker("pipeline", "stop")
    stage.aws.until(lambda: execution(stage)["status"] == "Stopped", 300)
    said = stage.sagemaker("pipeline", "retry")
    now = execution(stage)
    assert (now["status"], now["package"]) == ("Succeeded", None)
    assert [one["name"] for one in now["steps"]] == ["Prepare", "Train", "Evaluate", "IsBetter"]
    assert "Not registered: " in said
    assert len(training_steps(stage)) == before + 2
    assert len(stage.json("models", "list")["models"]) == 1


def test_status_shows_what_runs_and_what_it_costs(stage: Stage, deployed: str) -> None:
    found = stage.json("status")
    assert [(one["kind"], one["name"]) for one in found["running"]] == [("endpoint", PROJECT)]
    assert found["dollars_an_hour"] > 0


def test_clean_up_leaves_nothing(stage: Stage, deployed: str, registered: str, tuned: dict[str, Any]) -> None:
    """But what is not the project's alone, the account's bucket and the log groups of all its jobs, both of
    them empty, and
    finished transform jobs, which AWS keeps for ever."""
    aws = stage.aws
    stage.sagemaker("pipeline", "schedule", "rate(7 days)", "--scheduler-role", aws.role)
    outcome = stage.json("cleanup", "--yes")
    assert (outcome["not_deleted"], outcome["left"], outcome["not_seen"]) == ([], [], [])
    assert {record.kind.name for record in aws.records()} <= {"TransformJob"}
    assert stage.keys() == []
    assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert aws.client("ecr").describe_repositories()["repositories"] == []
    assert aws.client("scheduler").list_schedules()["Schedules"] == []
    assert [one["Name"] for one in aws.client("scheduler").list_schedule_groups()["ScheduleGroups"]] == [
        "default"
    ]
    scaling = aws.client("application-autoscaling")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    logs = aws.client("logs")
    groups = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    assert set(groups) <= {f"/aws/sagemaker/{kind}Jobs" for kind in ("Training", "Processing", "Transform")}
    assert [logs.describe_log_streams(logGroupName=group)["logStreams"] for group in groups] == [[]] * len(
        groups
    )
    wait_until(lambda: containers(aws.double.home) == [], PATIENCE)
    assert f"nothing of project {PROJECT}" in stage.sagemaker("cleanup", "--yes")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def execution(stage: Stage) -> Any:
    """The last execution of the pipeline."""
    return stage.json("pipeline", "status")


def training_steps(stage: Stage) -> list[str]:
    """What each training job of the pipeline is doing."""
    jobs = stage.aws.records("TrainingJob")
    return [one.everything["SecondaryStatus"] for one in jobs if "-Train-" in one.name]


def rows(path: Path) -> dict[tuple[str, str], tuple[str, Any]]:
    """Item and score, which an answer has in six digits, by user and rank."""
    with path.open() as file:
        return {
            (row["user"], row["rank"]): (row["item"], pytest.approx(float(row["score"]), abs=1e-5))
            for row in csv.DictReader(file)
        }
