"""The definition as it is sent to AWS, interpreted here with the steps' real programs: real data, real
training."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncf.config import Experiment
from ncf.errors import CloudError
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.sagemaker.pipelines import execution, registry
from ncf.sagemaker.pipelines.execution import Execution, Options
from ncf.sagemaker.session import Session
from ncf.serving.recommender import Recommender
from pipeline_host import Host, session_on
from support import experiment, planted

Run = Callable[..., Execution]
PREPARE = {"negatives": "30", "split": "last", "name": "planted"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interactions as a caller has them."""
    return write_table(tmp_path_factory.mktemp("raw") / "planted.csv")


def write_table(path: Path, users: int = 300, more: int = 0) -> Path:
    """The planted interactions, the test's last; with `more`, so many newer ones a user are in it."""
    data, generator = planted(users), np.random.default_rng(1)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time"])
        for user, item in zip(data.train.user_rows.tolist(), data.train.item_rows.tolist(), strict=True):
            rows.writerow([f"u{user}", f"i{item}", int(generator.integers(1000))])
        held = [data.validation, data.test][: 1 + more]
        for time, part in enumerate(held, 2000):
            for user, item in zip(part.user_rows.tolist(), part.positives.tolist(), strict=True):
                rows.writerow([f"u{user}", f"i{item}", time])
    return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "home")


@pytest.fixture
def session(host: Host) -> Session:
    return session_on(host)


@pytest.fixture
def run(session: Session, table: Path) -> Run:
    """Create or change the pipeline and run it once."""

    def go(parameters: dict[str, str] | None = None, **options: Any) -> Execution:
        given = {"data": str(table), "prepare": PREPARE, "image": "ncf:local"} | options
        plan = execution.plan_of(session, small(), Options(**given))
        execution.upsert(session, plan)
        arn, _ = execution.resume_or_start(session, plan.name, parameters or {})
        return execution.execution(session, arn)

    return go


def small() -> Experiment:
    return experiment("gmf", epochs=30)


def states(now: Execution) -> dict[str, str]:
    return {one["StepName"]: one["StepStatus"] for one in now.steps}


def test_the_first_model_is_registered_a_worse_one_is_not_and_a_better_one_is(
    run: Run, session: Session
) -> None:
    first = run({"Epochs": "6"}, approve=True)
    assert first.status == "Succeeded"
    assert list(states(first)) == ["Prepare", "Train", "Evaluate", "IsBetter", "Register", "Promote"]
    found = verdict(session, first)
    assert (found["rival"]["kind"], found["better"]) == ("popularity", True)
    worse = run({"Epochs": "4"}, approve=True)
    assert (worse.status, worse.package) == ("Succeeded", None)
    assert list(states(worse)) == ["Prepare", "Train", "Evaluate", "IsBetter"]
    found = verdict(session, worse)
    assert (found["rival"]["kind"], found["better"]) == ("champion", False)
    assert found["rows"]["why"] == "both were trained on the same data"
    better = run({"Epochs": "12"}, approve=True)
    assert verdict(session, better)["difference"] > 0
    assert [one.version for one in registry.packages(session, "ncf-models")] == [2, 1]
    assert registry.find(session, "ncf-models").arn == better.package


def test_a_package_says_where_it_comes_from_and_its_model_answers(run: Run, session: Session) -> None:
    run({"Epochs": "6"})
    package = registry.find(session, "ncf-models")
    assert package.approval == "PendingManualApproval"
    assert package.properties["recipe"] == "small-gmf"
    assert package.properties["data_name"] == "planted"
    assert len(package.properties["data_digest"]) == 64
    assert package.evaluation is not None
    figures = registry.evaluation(session, package.evaluation)
    assert package.properties["ndcg_at_10"] == f"{figures['ranking_metrics']['ndcg@10']['value']:.4f}"
    served = Recommender.open(package.model.removeprefix("file://"))
    assert len(served.recommend("u1", 3)) == 3
    card = Path(package.properties["model_card"].removeprefix("file://"))
    assert card.read_text("utf-8").startswith("# small-gmf")


def test_a_model_that_waits_is_not_what_the_next_must_beat_until_it_is_approved(
    run: Run, session: Session
) -> None:
    run({"Epochs": "6"})
    assert verdict(session, run({"Epochs": "5"}))["rival"]["kind"] == "popularity"
    registry.decide(session, "ncf-models", 1, registry.APPROVED, "looked at it")
    assert verdict(session, run({"Epochs": "4"}))["rival"]["kind"] == "champion"
    registry.decide(session, "ncf-models", 1, registry.REJECTED)
    assert verdict(session, run({"Epochs": "5"}))["rival"]["kind"] == "popularity"


def test_after_new_data_both_are_judged_on_the_rows_that_are_new_to_both(
    run: Run, session: Session, tmp_path: Path
) -> None:
    run({"Epochs": "12"}, approve=True)
    newer = str(write_table(tmp_path / "newer.csv", more=1))
    found = verdict(session, run({"Epochs": "4"}, data=newer, approve=True))
    assert found["rival"]["data"]["digest"] != found["candidate"]["data"]["digest"]
    assert found["rows"]["compared"] == 300
    assert "new to it, paired by ids" in found["rows"]["why"]
    assert found["comparison"]["ndcg@10"]["mean_a"] > found["comparison"]["ndcg@10"]["mean_b"]
    assert not found["better"]


def test_a_gain_that_is_asked_for_must_be_reached(run: Run, session: Session) -> None:
    found = verdict(session, run({"Epochs": "6"}, bar=PromotionCriteria(minimum_gain=0.9)))
    assert found["verdict"]["sentence"].startswith("Not registered: the gain is not above 0.9")


def test_nothing_below_the_floor_is_registered(run: Run, session: Session) -> None:
    found = verdict(session, run({"Epochs": "6", "Floor": "0.95"}))
    assert "is below the floor of 0.95" in found["verdict"]["sentence"]


def test_an_alarm_may_want_a_failed_execution(run: Run) -> None:
    now = run({"Epochs": "6", "Floor": "0.95"}, fail_if_not_better=True)
    assert (now.status, states(now)["NotBetter"]) == ("Failed", "Failed")
    assert "is not better than the registered one" in now.described["FailureReason"]


def test_a_failed_step_ends_the_execution_and_a_second_run_goes_on_there(
    run: Run, session: Session, host: Host
) -> None:
    host.broken = {"Evaluate"}
    failed = run({"Epochs": "6"})
    assert failed.status == "Failed"
    assert (
        failed.described["FailureReason"]
        == "The step Evaluate failed: The container ended with exit code 1: it wrote nothing"
    )
    host.broken = set()
    again = run({"Epochs": "6"})
    assert (again.arn, again.status) == (failed.arn, "Succeeded")
    assert host.ran == ["Prepare", "Train", "Evaluate", "Evaluate", "Promote"]


def test_other_parameters_start_anew_after_a_failure(run: Run, host: Host) -> None:
    host.broken = {"Train"}
    failed = run({"Epochs": "6"})
    host.broken = set()
    assert run({"Epochs": "7"}).arn != failed.arn


def test_the_sentence_of_a_step_is_the_reason(run: Run) -> None:
    now = run({"Epochs": "many"})
    assert "The step Train failed: hyperparameters: train.epochs" in now.described["FailureReason"]


def test_an_execution_that_is_stopped_can_be_retried(run: Run, session: Session, host: Host) -> None:
    host.stop = True
    stopped = run({"Epochs": "6"})
    assert (stopped.status, host.ran) == ("Stopped", [])
    host.stop = False
    assert execution.execution(session, execution.retry(session, stopped.arn)).status == "Succeeded"


def test_a_prepared_folder_is_passed_on(run: Run, session: Session, tmp_path: Path) -> None:
    data = planted()
    data.save(tmp_path / "prepared")
    run({"Epochs": "6"}, data=str(tmp_path / "prepared"), prepare={})
    assert registry.find(session, "ncf-models").properties["data_digest"] == data.digest


def test_an_unknown_parameter_is_refused(run: Run) -> None:
    with pytest.raises(CloudError, match=r"Parameters \['Epoch'\] are not defined"):
        run({"Epoch": "6"})


def test_without_data_a_start_must_say_them(session: Session) -> None:
    plan = execution.plan_of(session, small(), Options(image="ncf:local"))
    execution.upsert(session, plan)
    with pytest.raises(CloudError, match="must be given: InputData"):
        execution.start(session, plan.name)


def test_a_pipeline_is_deleted_and_its_models_stay(run: Run, session: Session) -> None:
    run({"Epochs": "6"})
    execution.delete(session, "ncf-pipeline")
    assert execution.find(session, "ncf-pipeline") is None
    assert len(registry.packages(session, "ncf-models")) == 1
    with pytest.raises(CloudError, match="There is no pipeline ncf-pipeline"):
        execution.start(session, "ncf-pipeline")


def verdict(session: Session, now: Execution) -> dict[str, Any]:
    found = execution.verdict(session, now)
    assert found is not None, now.described
    return found
