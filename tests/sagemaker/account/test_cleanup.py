"""Clean-up against a loopback AWS: exactly what is the project's goes, whatever else looks like it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import belongings
from aws import Aws
from belongings import BUCKET, make_everything, put, standing
from hosted.inline import Spec
from ncf.cli.sagemaker import app
from ncf.sagemaker.account import cleanup
from ncf.sagemaker.account.project_resources import everything
from ncf.sagemaker.session import Session


def quiet(_: str) -> None:
    """Nothing is said."""


def clean(session: Session, **options: float) -> cleanup.CleanupResult:
    items, _ = cleanup.deletable(session, everything(session))
    return cleanup.delete(session, items, quiet, poll=0.01, **options)


def ncf(*words: str, input: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--bucket", BUCKET], input=input)
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


@pytest.fixture
def mine(aws: Aws) -> Aws:
    """Everything of project ncf, and as much again of a project with a similar name and of nobody."""
    belongings.make_bucket(aws)
    for project, name in (("ncf", "ncf-mine"), ("ncf-other", "ncf-other"), (None, "ncf-nobody")):
        make_everything(aws, project, name)
    put(aws, "ncf/jobs/ncf-mine-train/output/model.tar.gz", ours=False)
    put(aws, "ncf/data/train.csv", ours=True)
    put(aws, "ncf-other/data/train.csv", ours=True)
    put(aws, "ncf2", ours=True)
    return aws


def test_what_is_the_projects_goes_and_everything_else_stays(mine: Aws) -> None:
    before = standing(mine)
    outcome = clean(mine.session(bucket=BUCKET))
    gone = before - standing(mine)
    assert not outcome.failed
    ours = {name for name in before if ("ncf-mine" in name and "elsewhere/" not in name) or " ncf/" in name}
    assert gone == ours - {"TransformJob ncf-mine-batch"}  # AWS has no call for it
    assert {name.split()[0] for name in gone} == {
        "Endpoint",
        "EndpointConfig",
        "HyperParameterTuningJob",
        "Model",
        "ModelPackage",
        "ModelPackageGroup",
        "Pipeline",
        "TrainingJob",
        "logs",
        "object",
        "repository",
        "rule",
        "scaling",
        "schedule",
        "stream",
    }


def test_a_second_run_finds_nothing(mine: Aws) -> None:
    session = mine.session(bucket=BUCKET)
    clean(session)
    items, records = cleanup.deletable(session, everything(session))
    assert items == []
    assert [record.name for record in records] == ["ncf-mine-batch"]


def test_a_dry_run_lists_and_deletes_nothing(mine: Aws) -> None:
    before = standing(mine)
    code, said = ncf("cleanup", "--dry-run")
    assert code == 0
    assert standing(mine) == before
    assert "ncf-mine-endpoint" in said
    assert "ncf-other" not in said
    assert "ncf-nobody" not in said


def test_without_the_projects_name_nothing_is_deleted(mine: Aws) -> None:
    before = standing(mine)
    for answer in ("ncf-other\n", "\n", "n\n", None):
        code, said = ncf("cleanup", input=answer)
        assert code != 0
        assert "Nothing was deleted" in said
    assert standing(mine) == before


def test_with_the_projects_name_it_is(mine: Aws) -> None:
    code, said = ncf("cleanup", input="ncf\n")
    assert code == 0, said
    assert not [name for name in standing(mine) if name.startswith("Endpoint ncf-mine")]


def test_one_that_cannot_be_deleted_is_listed_and_the_rest_goes(mine: Aws) -> None:
    mine.fail("DeleteModel", "AccessDeniedException", status=403)
    code, said = ncf("cleanup", "--yes")
    assert code == 1
    assert "could not delete 1" in said
    assert "model ncf-mine-model: AWS refused sagemaker delete_model: the credentials may not do this" in said
    assert "Model ncf-mine-model" in standing(mine)
    assert "Endpoint ncf-mine-endpoint" not in standing(mine)
    assert ncf("cleanup", "--yes")[0] == 0
    assert "Model ncf-mine-model" not in standing(mine)


def test_what_is_gone_meanwhile_is_no_failure(mine: Aws) -> None:
    session = mine.session(bucket=BUCKET)
    items, _ = cleanup.deletable(session, everything(session))
    mine.client("sagemaker").delete_model(ModelName="ncf-mine-model")
    mine.client("ecr").delete_repository(repositoryName="ncf-mine-images", force=True)
    assert not cleanup.delete(session, items, quiet, poll=0.01).failed


def test_a_place_that_may_not_be_looked_at_is_said(mine: Aws) -> None:
    mine.fail("DescribeRepositories", "AccessDeniedException", times=1, status=403)
    code, said = ncf("cleanup", "--dry-run")
    assert code == 1
    assert "Not seen: images: AWS refused ecr describe_repositories" in said


def test_an_interrupted_one_is_finished_by_the_next(mine: Aws) -> None:
    """ctrl-C after the endpoint: its log group is still found, by the tag that it was given."""
    session = mine.session(bucket=BUCKET)
    items, _ = cleanup.deletable(session, everything(session))

    def interrupted(line: str) -> None:
        if line == "endpoint ncf-mine-endpoint: deleted":
            raise KeyboardInterrupt

    outcome = cleanup.delete(session, items, interrupted, poll=0.01)
    assert outcome.left
    assert "Endpoint ncf-mine-endpoint" not in standing(mine)
    assert "logs /aws/sagemaker/Endpoints/ncf-mine-endpoint" in standing(mine)
    clean(session)
    assert not [
        name
        for name in standing(mine)
        if "ncf-mine" in name and "elsewhere/" not in name and "Transform" not in name
    ]


def test_a_running_job_is_stopped_then_deleted(aws: Aws) -> None:
    belongings.make_bucket(aws)
    running = threading.Event()

    def work(spec: Spec) -> int:
        running.set()
        spec.stop.wait(30)
        return 0

    aws.run(work)
    belongings.make_training(aws, "ncf", "ncf-long")
    belongings.make_training(aws, "ncf-other", "ncf-other-long")
    assert running.wait(30)
    session = aws.session(bucket=BUCKET)
    inventory = everything(session)
    assert [item.running for item in inventory.of("training-job")] == [True]
    assert not clean(session).failed
    left = {one.name: one.status for one in aws.records("TrainingJob")}
    assert left == {"ncf-other-long": "InProgress"}
    aws.client("sagemaker").stop_training_job(TrainingJobName="ncf-other-long")
    aws.wait("TrainingJob", "ncf-other-long")


def test_a_job_that_does_not_stop_in_time_is_listed(aws: Aws) -> None:
    belongings.make_bucket(aws)
    end = threading.Event()
    aws.run(lambda _: 0 if end.wait(30) else 1)
    belongings.make_training(aws, "ncf", "ncf-long")
    outcome = clean(aws.session(bucket=BUCKET), wait=0.05)
    assert [(item.name, reason) for item, reason in outcome.failed] == [
        ("ncf-long", "it has not stopped after 0 s; run clean-up again later")
    ]
    end.set()
    aws.wait("TrainingJob", "ncf-long")


def test_all_versions_of_objects_go(aws: Aws) -> None:
    belongings.make_bucket(aws)
    s3 = aws.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for key in ("ncf/data/a", "ncf/data/a", "ncf/data/b", "other/a"):
        put(aws, key, ours=True)
    s3.delete_object(Bucket=BUCKET, Key="ncf/data/b")
    clean(aws.session(bucket=BUCKET))
    left = s3.list_object_versions(Bucket=BUCKET)
    assert {one["Key"] for one in left["Versions"]} == {
        "elsewhere/in/users.jsonl",
        "elsewhere/model.tar.gz",
        "other/a",
    }
    assert "DeleteMarkers" not in left


def test_a_prefix_in_which_ncf_put_nothing_stays(aws: Aws) -> None:
    belongings.make_bucket(aws)
    put(aws, "ncf/thesis.docx", ours=False)
    put(aws, "ncf/jobs/mine/output/model.tar.gz", ours=False)
    code, said = ncf("cleanup", "--yes")
    assert code == 1
    assert "ncf uploaded none of the first 500 objects below s3://shelf/ncf/" in said
    assert {"object ncf/thesis.docx", "object ncf/jobs/mine/output/model.tar.gz"} <= standing(aws)


def test_objects_that_ncf_did_not_put_below_its_prefix_are_kept_and_said(aws: Aws) -> None:
    belongings.make_bucket(aws)
    s3 = aws.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    ours = ("data/0a/users.parquet", "transforms/a/output/part.out", "registry/shop/champion/model.tar.gz")
    foreign = (
        "raw/2026/ratings.parquet",
        "data/0a/notes.txt",
        "jobs/todo.txt",
        "registry/shop/notes.txt",
        "data/gone",
    )
    for key in (*ours, *foreign):
        put(aws, f"ncf/{key}", ours=key == ours[0])
    s3.delete_object(Bucket=BUCKET, Key="ncf/data/gone")  # its version would come back without the marker
    code, said = ncf("cleanup", "--yes")
    assert code == 0, said
    assert (
        "Kept: 5 objects below s3://shelf/ncf/ that ncf did not put there, such as ncf/data/0a/notes" in said
    )
    left = {name for name in standing(aws) if name.startswith("object ncf/")}
    assert left == {f"object ncf/{key}" for key in foreign}
    assert len(s3.list_object_versions(Bucket=BUCKET)["DeleteMarkers"]) == 1


def test_objects_that_s3_keeps_are_listed(mine: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    session = mine.session(bucket=BUCKET)
    items = [item for item in everything(session).items if item.kind == "objects"]
    refused = {"Errors": [{"Key": "ncf/data/train.csv", "Message": "Access Denied because of object lock"}]}
    monkeypatch.setattr(session.client("s3")._client, "delete_objects", lambda **_: refused)
    outcome = cleanup.delete(session, items, quiet)
    assert (
        outcome.failed[0][1]
        == "1 objects, the first ncf/data/train.csv: Access Denied because of object lock"
    )


def test_the_bucket_is_not_made_to_look_into_it(aws: Aws) -> None:
    assert clean(aws.session()).deleted == []
    assert aws.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ("objects", {"objects"}),
        (
            "endpoint",
            {
                "endpoint",
                "endpoint-config",
                "model",
                "autoscaling-target",
                "log-group",
                "objects",
                "repository",
            },
        ),
        ("model-package", {"model-package", "model-package-group", "objects", "repository"}),
    ],
)
def test_what_is_kept_stays_with_what_it_needs(mine: Aws, kept: str, left: set[str]) -> None:
    session = mine.session(bucket=BUCKET)
    code, said = ncf("cleanup", "--yes", "--keep", kept)
    assert code == 0, said
    assert {item.kind for item in everything(session).items} == left | {"transform-job"}


def test_what_is_younger_stays(mine: Aws) -> None:
    before = standing(mine)
    code, said = ncf("cleanup", "--yes", "--older-than", "1")
    assert code == 0
    assert "nothing of project ncf to delete" in said
    assert standing(mine) == before


def test_a_kind_that_does_not_exist_is_refused(aws: Aws) -> None:
    code, said = ncf("cleanup", "--dry-run", "--keep", "bucket")
    assert code != 0
    assert "--keep does not know 'bucket'; it takes pipeline," in said


def test_json_is_one_object(mine: Aws) -> None:
    code, said = ncf("cleanup", "--dry-run", "--json")
    answer = json.loads(said)
    assert code == 0
    assert {item["kind"] for item in answer["left"]} >= {"endpoint", "objects", "repository", "schedule"}
    assert "--json cannot ask" in ncf("cleanup", "--json")[1]


def test_local_mode_deletes_its_resources_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCF_HOME", str(tmp_path / "home"))
    session = local_session(tmp_path / "home", "ncf")
    make_local(session, "ncf-model")
    (tmp_path / "data.csv").write_text("1,2")
    session.upload(tmp_path / "data.csv", "data", "0a", "data.csv")
    log = tmp_path / "home" / "logs" / "TrainingJobs" / "job" / "algo-1.log"
    log.parent.mkdir(parents=True)
    log.touch()
    code, said = ncf("cleanup", "--local", "--yes")
    assert code == 0, said
    assert not log.parents[2].exists()
    assert session.client("sagemaker").list_models()["Models"] == []
    assert not (tmp_path / "home" / "storage").exists()
    assert "nothing of project ncf to delete" in ncf("cleanup", "--local", "--yes")[1]


def test_local_files_of_others_are_kept_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("NCF_HOME", str(home))
    foreign = [
        home / "logs/app.log",
        home / "logs/web/a.log",
        home / "storage/photos.db",
        home / "storage/data/x",
        home / "app/web/state.json",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (home / "storage" / "models").symlink_to(tmp_path)
    assert "nothing of project ncf to delete" in ncf("cleanup", "--local", "--yes")[1]
    local_session(home, "ncf").upload(foreign[0], "data", "0a", "data.csv")
    code, said = ncf("cleanup", "--local", "--yes")
    assert code == 0, said
    assert f"Kept: 5 files in {home} that ncf did not write, such as logs/app.log." in said
    assert all(path.read_text() == "mine" for path in foreign)
    assert not (home / "storage" / "data" / "0a").exists()


def test_local_pipelines_and_registered_models_go(tmp_path: Path) -> None:
    session = local_session(tmp_path, "ncf")
    client = session.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName="ncf-group", Tags=session.tags())
    client.create_pipeline(
        PipelineName="ncf-pipeline", ClientRequestToken="t" * 32, RoleArn=session.role, Tags=session.tags(),
        PipelineDefinition=json.dumps({"Version": "2020-12-01", "Steps": []}),
    )  # fmt: skip
    outcome = clean(session)
    assert {item.name for item in outcome.deleted} == {"ncf-pipeline", "ncf-group"}
    assert everything(session).items == []


def test_local_files_stay_while_another_project_uses_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCF_HOME", str(tmp_path / "home"))
    session, other = local_session(tmp_path / "home", "ncf"), local_session(tmp_path / "home", "ncf-other")
    make_local(session, "ncf-model")
    make_local(other, "ncf-other-model")
    (tmp_path / "data.csv").write_text("1,2")
    other.upload(tmp_path / "data.csv", "data", "0a", "data.csv")
    code, said = ncf("cleanup", "--local", "--yes")
    assert code == 1
    assert "is also used by ncf-other, so its storage and logs are left" in said
    assert [one["ModelName"] for one in session.client("sagemaker").list_models()["Models"]] == [
        "ncf-other-model"
    ]
    assert (tmp_path / "home" / "storage").exists()


def local_session(home: Path, project: str) -> Session:
    from ncf.sagemaker.session import Settings

    return Session(Settings(local=True, project=project, home=home))


def make_local(session: Session, name: str) -> None:
    session.client("sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=session.role,
        PrimaryContainer={"Image": "ncf:local"},
        Tags=session.tags(),
    )
