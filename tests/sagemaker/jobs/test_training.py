"""Training jobs against the double, with our training program in the place of the container."""

import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import programs
from aws import Aws
from ncf import analysis
from ncf import experiment as whole
from ncf.config import Experiment
from ncf.errors import ArtifactError, CloudError, ConfigError, DataError, StorageError
from ncf.sagemaker.jobs import launch, training
from ncf.sagemaker.jobs.fetch import fetch
from ncf.sagemaker.jobs.launch import Inputs, send_code
from ncf.sagemaker.jobs.requests import TrainingOptions
from ncf.sagemaker.jobs.run import JobFailed
from ncf.sagemaker.jobs.training import TrainingJob
from ncf.sagemaker.session import Session, Settings
from support import experiment

if TYPE_CHECKING:
    from hosted.inline import Spec

IMAGE = "999999999999.dkr.ecr.us-east-1.amazonaws.com/ncf:1"


def soon(_: float) -> None:
    """A shorter wait."""
    time.sleep(0.05)


def started(session: Session, data: Path, recipe: Experiment | None = None, **inputs: Any) -> str:
    """A job of two epochs; `inputs` beyond those of `Inputs` are options."""
    recipe = recipe or experiment("gmf", epochs=2)
    options = {name: inputs.pop(name) for name in ("spot", "max_run") if name in inputs}
    name = launch.job_name(session, inputs.pop("name", None), recipe)
    return launch.launch(
        session,
        recipe,
        Inputs(data, image=IMAGE, **inputs),
        TrainingOptions(name, data="", image="", **options),
    )


def over(aws: Aws, job: str) -> None:
    aws.wait("TrainingJob", job)


def test_the_whole_way_gives_what_training_here_gives(aws: Aws, prepared: Path, tmp_path: Path) -> None:
    aws.run(programs.train)
    session = aws.session()
    job = started(session, prepared)
    lines: list[str] = []
    states: list[str] = []
    done = training.wait(
        session,
        job,
        lambda line: lines.append(line.text),
        lambda one: states.append(one.secondary),
        sleep=soon,
    )
    assert done.status == "Completed"
    assert sum("epoch=" in line for line in lines) == 2
    assert states[-1] == "Completed"
    assert done.metrics["test_ndcg@10"] > 0
    fetched = fetch(session, job, tmp_path / "run", prepared)
    here = whole.train(whole.Dataset.open(prepared), experiment("gmf", epochs=2), tmp_path / "here")
    assert fetched.metrics["test"] == here.metrics["test"]
    weights = "model.safetensors"
    assert (fetched.artifact / weights).read_bytes() == (here.artifact / weights).read_bytes()
    judgement, _ = analysis.evaluate(fetched.folder)
    assert judgement.means["ndcg@10"] == pytest.approx(here.metrics["test"]["metrics"]["ndcg@10"])
    events = (fetched.folder / "events.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "epoch" for line in events) == 2


def test_data_are_sent_once(aws: Aws, prepared: Path) -> None:
    session = aws.session()
    started(session, prepared, name="one")
    sent = len(aws.calls("PutObject"))
    assert sent > 3
    started(session, prepared, name="two")
    assert len(aws.calls("PutObject")) == sent
    requests = [json.loads(call.body) for call in aws.calls("CreateTrainingJob")]
    assert requests[0]["InputDataConfig"] == requests[1]["InputDataConfig"]


def test_an_upload_that_breaks_starts_nothing_and_goes_on(aws: Aws, prepared: Path) -> None:
    session = aws.session()
    aws.fail("PutObject", "AccessDenied", status=403, after=2)
    with pytest.raises(CloudError, match="may not do this"):
        started(session, prepared)
    assert aws.calls("CreateTrainingJob") == []
    before = len(aws.calls("PutObject"))
    started(session, prepared)
    files = sum(path.is_file() for path in prepared.rglob("*"))
    assert len(aws.calls("PutObject")) - before == files - 2


def test_a_refused_start_leaves_nothing_running(aws: Aws, prepared: Path) -> None:
    aws.fail("CreateTrainingJob", "ResourceLimitExceeded")
    with pytest.raises(CloudError, match="quota"):
        started(aws.session(), prepared)
    assert aws.records("TrainingJob") == []


@pytest.mark.parametrize(
    ("inputs", "settings", "sentence"),
    [
        ({"gmf": "runs/gmf"}, {}, "--gmf and --mlp belong together"),
        ({"gmf": "runs/gmf", "mlp": "runs/mlp"}, {}, r"need a recipe with a \[pretraining\] table"),
        ({"checkpoints": "folder"}, {}, "give an s3:// address hosted"),
        ({"resume": "ncf-nothing"}, {}, "no training job 'ncf-nothing' in us-east-1"),
        ({}, {"role": None}, "No execution role is set"),
        ({}, {"subnets": ("subnet-1",)}, "both --subnet and --security-group"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(
    aws: Aws, prepared: Path, inputs: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((ConfigError, CloudError), match=sentence):
        started(aws.session(**settings), prepared, **inputs)
    assert aws.calls("PutObject") == aws.calls("CreateTrainingJob") == []


def test_what_is_no_data_folder(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ncf prepare"):
        launch.data_digest(tmp_path)


def failing(spec: "Spec") -> int:
    spec.log("[ncf] this and that", "[ncf] train.epochs: must be positive.")
    (spec.root / "output" / "failure").write_text("train.epochs: must be positive.")
    return 1


def test_a_job_that_fails_says_the_sentence_of_the_run(aws: Aws, prepared: Path) -> None:
    aws.run(failing)
    session = aws.session()
    job = started(session, prepared)
    with pytest.raises(JobFailed) as failed:
        training.wait(session, job, sleep=soon)
    assert str(failed.value) == f"The job {job} failed: train.epochs: must be positive."
    assert failed.value.lines == ("[ncf] this and that", "[ncf] train.epochs: must be positive.")
    with pytest.raises(JobFailed, match="must be positive"):
        fetch(session, job, prepared.parent / "nowhere")
    assert not (prepared.parent / "nowhere").exists()


def waiting(spec: "Spec") -> int:
    spec.stop.wait(60)
    return 0


def test_a_stopped_job_says_how_to_go_on(aws: Aws, prepared: Path) -> None:
    aws.run(waiting)
    session = aws.session()
    job = started(session, prepared)
    assert training.stop(session, job).status in ("Stopping", "Stopped")
    with pytest.raises(JobFailed, match=rf"was stopped before it ended.*--resume {job}"):
        training.wait(session, job, sleep=soon)
    assert training.stop(session, job).status == "Stopped", "safe to do twice"


def test_a_job_that_takes_too_long(aws: Aws, prepared: Path) -> None:
    aws.run(waiting)
    session = aws.session()
    job = started(session, prepared, max_run=1)
    with pytest.raises(JobFailed, match="stopped after --max-run 1 seconds"):
        training.wait(session, job, sleep=soon)


def test_a_spot_instance_that_is_taken_away_resumes(aws: Aws, prepared: Path, tmp_path: Path) -> None:
    aws.run(programs.train)
    session = aws.session()
    job = started(session, prepared, experiment("gmf", epochs=12), spot=True)
    seen: list[str] = []

    def line(one: Any) -> None:
        seen.append(one.text)
        if sum("epoch=" in text for text in seen) == 1 and "epoch=" in one.text:
            aws.interrupt(job)

    done = training.wait(session, job, line, sleep=soon)
    changes = [one["Status"] for one in done.described["SecondaryStatusTransitions"]]
    assert "Interrupted" in changes
    assert done.described["BillableTimeInSeconds"] <= done.described["TrainingTimeInSeconds"]
    epochs = [text.split()[1] for text in seen if "epoch=" in text]
    assert len(epochs) == len(set(epochs)) == 12, "no epoch twice"
    here = whole.train(whole.Dataset.open(prepared), experiment("gmf", epochs=12), tmp_path / "here")
    assert fetch(session, job, tmp_path / "run").metrics["test"] == here.metrics["test"]


def test_resume_takes_the_checkpoints_of_the_earlier_job(aws: Aws, prepared: Path) -> None:
    session = aws.session()
    first = started(session, prepared, name="first")
    over(aws, first)
    second = started(session, prepared, name="second", resume=first)
    assert training.describe(session, second).checkpoints == session.uri("jobs", first, "checkpoints")


def test_resume_of_a_job_that_goes_on_or_has_other_data(
    aws: Aws, prepared: Path, artifact: Path, tmp_path: Path
) -> None:
    from support import checkerboard

    aws.run(waiting)
    session = aws.session()
    first = started(session, prepared, name="first")
    with pytest.raises(ConfigError, match="still running"):
        started(session, prepared, name="second", resume=first)
    training.stop(session, first)
    over(aws, first)
    checkerboard().save(tmp_path / "other")
    with pytest.raises(ConfigError, match="was trained on other data"):
        started(session, tmp_path / "other", name="second", resume=first)


def test_halves_to_fuse_are_sent_and_must_be_of_the_same_data(
    aws: Aws, prepared: Path, artifact: Path
) -> None:
    recipe = Experiment.parse(
        {
            "name": "fused", "model": {"kind": "neumf", "factors": 8, "embedding": 16, "tower": [16, 8]},
            "train": {"epochs": 1},
            "pretraining": {"gmf": {"model": {"kind": "gmf", "factors": 8}},
                            "mlp": {"model": {"kind": "mlp", "embedding": 16, "tower": [16, 8]}}},
        }
    )  # fmt: skip
    with pytest.raises(ConfigError, match="was trained on other data"):
        started(aws.session(), prepared, recipe, gmf=str(artifact), mlp=str(artifact))
    assert aws.calls("CreateTrainingJob") == []


def test_script_mode_runs_awss_image_with_our_source(aws: Aws, prepared: Path, tmp_path: Path) -> None:
    session, recipe = aws.session(), experiment("gmf", epochs=2)
    options = TrainingOptions("ncf-script", data="", image="")
    launch.launch(session, recipe, Inputs(prepared, script_mode=True), options)
    described = training.describe(session, "ncf-script").described
    assert "pytorch-training" in described["AlgorithmSpecification"]["TrainingImage"]
    code = json.loads(described["HyperParameters"]["sagemaker_submit_directory"])
    with tarfile.open(session.download(code, tmp_path / "sourcedir.tar.gz")) as archive:
        assert {"train.py", "requirements.txt", "ncf/sagemaker/container/train.py"} <= set(archive.getnames())


def test_script_mode_in_local_mode_has_the_source_as_a_folder(tmp_path: Path) -> None:
    session = Session(Settings(local=True, home=tmp_path))
    code = send_code(session)
    assert Path(code.removeprefix("file://"), "train.py").is_file()
    assert send_code(session) == code


def test_fetch_goes_on_where_it_was_and_does_it_once(aws: Aws, prepared: Path, tmp_path: Path) -> None:
    aws.run(programs.train)
    session = aws.session()
    job = started(session, prepared)
    over(aws, job)
    target = tmp_path / "run"
    aws.fail("GetObject", "AccessDenied", status=403, after=1)
    with pytest.raises(CloudError):
        fetch(session, job, target)
    aws.heal()
    first = fetch(session, job, target)
    loads = len(aws.calls("GetObject"))
    assert fetch(session, job, target).metrics == first.metrics
    assert len(aws.calls("GetObject")) == loads
    shutil.rmtree(target / "artifact")
    fetch(session, job, target)
    assert not (target / ".download").exists()


@pytest.mark.parametrize("name", ["mine.txt", "job.json"])
def test_fetch_touches_no_folder_of_something_else(
    aws: Aws, prepared: Path, tmp_path: Path, name: str
) -> None:
    session = aws.session()
    job = started(session, prepared)
    over(aws, job)
    (tmp_path / name).write_text("mine")
    with pytest.raises(StorageError, match="holds something else"):
        fetch(session, job, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_what_is_no_artifact_is_refused(aws: Aws, prepared: Path, tmp_path: Path) -> None:
    session = aws.session()
    job = started(session, prepared)
    over(aws, job)
    with pytest.raises(ArtifactError):
        fetch(session, job, tmp_path / "run")


def test_jobs_of_this_project_alone_newest_first(aws: Aws, prepared: Path) -> None:
    session, other = aws.session(), aws.session(project="ncfs")
    first, second = started(session, prepared, name="a"), started(session, prepared, name="b")
    started(other, prepared, name="c")
    over(aws, second)
    assert [job.name for job in training.list_jobs(session)] == [second, first]
    assert [job.name for job in training.list_jobs(session, most=1)] == [second]


def described(**values: Any) -> TrainingJob:
    return TrainingJob({"TrainingJobName": "j", "TrainingJobStatus": "Failed", **values})


def test_the_cost_is_that_of_the_billed_seconds() -> None:
    resources = {"InstanceType": "ml.c7i.xlarge", "InstanceCount": 2}
    assert described(ResourceConfig=resources, BillableTimeInSeconds=1800).cost == pytest.approx(0.214)
    assert described(ResourceConfig=resources, BillableTimeInSeconds=0).cost == 0
    assert described(ResourceConfig={"InstanceType": "ml.x"}, BillableTimeInSeconds=9).cost is None
    assert described(ResourceConfig=resources).cost is None


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("AlgorithmError: There is no data., exit code: 1", "There is no data."),
        ("AlgorithmError: , exit code: 137", ""),
        ("ClientError: Cannot find the image", "Cannot find the image"),
    ],
)
def test_the_reason_is_the_sentence_of_the_run(said: str, sentence: str) -> None:
    assert described(FailureReason=said).reason == sentence


def test_a_spot_job_that_got_no_time() -> None:
    job = described(TrainingJobStatus="Stopped", SecondaryStatus="MaxWaitTimeExceeded")
    with pytest.raises(JobFailed, match="too little spot time"):
        training.check_completed(job)


def test_names_begin_with_the_project(aws: Aws) -> None:
    session = aws.session(project="shop")
    assert launch.job_name(session, "mine", experiment()) == "shop-mine"
    assert launch.job_name(session, "shop-mine", experiment()) == "shop-mine"
    assert launch.job_name(session, None, experiment()).startswith("shop-small-neumf-")
    with pytest.raises(ConfigError, match="not possible in SageMaker"):
        launch.job_name(session, "a b", experiment())


def test_sagemaker_sees_the_figures_of_the_weights_that_were_kept(
    aws: Aws, prepared: Path, tmp_path: Path
) -> None:
    aws.run(programs.train)
    session = aws.session()
    job = started(session, prepared, experiment("gmf", epochs=8, learning_rate=0.3, patience=7))
    over(aws, job)
    kept = fetch(session, job, tmp_path / "run").metrics
    assert kept["selected"].endswith("the best on validation")
    figures = training.describe(session, job).metrics
    assert figures["validation_ndcg@10"] == pytest.approx(kept["validation"]["metrics"]["ndcg@10"], rel=1e-5)
    assert kept["history"][-1]["validation_ndcg@10"] < figures["validation_ndcg@10"]
