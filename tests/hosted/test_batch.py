"""Transform, processing and tuning jobs of the double."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aws import Aws
from hosted.inline import Spec
from jobs import BUCKET, DATA, MODEL, OUT, content, endpoint, keys, processing, refused, training, transform
from ncf.sagemaker.local.tuning import draws


def shout(model: Path, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
    return (400, b"no questions", "text/plain") if b"?" in body else (200, body.upper(), "text/plain")


def test_transform_puts_the_answers_together_by_name(aws: Aws, sm: Any) -> None:
    aws.serve(shout)
    aws.client("s3").put_object(Bucket=BUCKET, Key="ask/deep/u.jsonl", Body=b"a\nb\nc")
    endpoint(sm, aws.role, "m", MODEL)
    sm.create_transform_job(**transform("t", "m", f"s3://{BUCKET}/ask", OUT, BatchStrategy="SingleRecord"))
    assert sm.describe_transform_job(TransformJobName="t")["TransformJobStatus"] == "Completed"
    assert content(aws, "out/deep/u.jsonl.out") == b"A\nB\nC\n"


def test_a_transform_that_is_refused_fails_and_says_so_in_the_data_log(aws: Aws, sm: Any) -> None:
    aws.serve(shout)
    aws.client("s3").put_object(Bucket=BUCKET, Key="ask/u", Body=b"?")
    endpoint(sm, aws.role, "m", MODEL)
    sm.create_transform_job(**transform("t", "m", f"s3://{BUCKET}/ask", OUT))
    job = sm.describe_transform_job(TransformJobName="t")
    assert (job["TransformJobStatus"], job["FailureReason"]) == (
        "Failed",
        "ClientError: See job logs for more information",
    )
    logs, group = aws.client("logs"), "/aws/sagemaker/TransformJobs"
    names = [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]]
    (data,) = [name for name in names if name.endswith("/data-log")]
    events = logs.get_log_events(logGroupName=group, logStreamName=data)["events"]
    assert "Bad HTTP status returned from invoke: 400" in events[0]["message"]


def test_processing_reads_inputs_and_sends_outputs(aws: Aws, sm: Any) -> None:
    def run(spec: Spec) -> int:
        assert (list(spec.entrypoint), list(spec.command)) == (["python", "-m", "x"], ["a=1"])
        found = sorted(p.name for p in (spec.root / "processing/input/raw").rglob("*.txt"))
        (spec.root / "processing/output/data/found.json").write_text(json.dumps(found))
        return 0

    aws.run(run)
    sm.create_processing_job(**processing(aws.role, "p", DATA, OUT))
    assert aws.wait("ProcessingJob", "p")["ProcessingJobStatus"] == "Completed"
    assert json.loads(content(aws, "out/found.json")) == ["a.txt", "b.txt"]


def test_the_message_of_a_processing_job_is_its_exit_message(aws: Aws, sm: Any) -> None:
    def run(spec: Spec) -> int:
        (spec.root / "output/message").write_text("It broke.")
        return 1

    aws.run(run)
    sm.create_processing_job(**processing(aws.role, "p", DATA, OUT))
    job = aws.wait("ProcessingJob", "p")
    assert (job["ProcessingJobStatus"], job["ExitMessage"]) == ("Failed", "It broke.")


CONFIG: dict[str, Any] = {
    "Strategy": "Random",
    "RandomSeed": 1,
    "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "ndcg"},
    "ResourceLimits": {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 1},
    "ParameterRanges": {
        "ContinuousParameterRanges": [
            {"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [{"Name": "factors", "MinValue": "8", "MaxValue": "64"}],
    },
}


def tune(aws: Aws, sm: Any, config: dict[str, Any], **static: str) -> dict[str, Any]:
    trial = training(aws.role, "x", DATA, OUT)
    definition = {name: value for name, value in trial.items() if name != "TrainingJobName"}
    sm.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tune", HyperParameterTuningJobConfig=config,
        TrainingJobDefinition=definition | {"StaticHyperParameters": static}, Tags=[{"Key": "a",
        "Value": "b"}],
    )  # fmt: skip
    return aws.wait("HyperParameterTuningJob", "tune")


def test_tuning_runs_trials_and_finds_the_best(aws: Aws, sm: Any) -> None:
    asked: list[dict[str, str]] = []

    def run(spec: Spec) -> int:
        asked.append(json.loads((spec.root / "input/config/hyperparameters.json").read_text()))
        spec.log(f"ndcg@10=0.{len(asked)}")
        return 0

    aws.run(run)
    job = tune(aws, sm, CONFIG, kind="gmf")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert [one["_tuning_objective_metric"] for one in asked] == ["ndcg"] * 3
    assert {one["kind"] for one in asked} == {"gmf"}
    assert all(0.001 <= float(one["lr"]) <= 0.1 and 8 <= int(one["factors"]) <= 64 for one in asked)
    best = job["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.3
    assert best["TunedHyperParameters"] == {name: asked[2][name] for name in ("lr", "factors")}
    listed = sm.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tune", SortBy="FinalObjectiveMetricValue", SortOrder="Descending"
    )["TrainingJobSummaries"]
    assert [one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in listed] == [0.3, 0.2, 0.1]
    assert sm.list_tags(ResourceArn=listed[0]["TrainingJobArn"])["Tags"] == [{"Key": "a", "Value": "b"}]


def test_tuning_fails_where_every_trial_does(aws: Aws, sm: Any) -> None:
    aws.run(lambda _: 1)
    job = tune(aws, sm, CONFIG)
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 3


def test_the_grid_is_every_combination() -> None:
    ranges = [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y"]}]
    config = {"Strategy": "Grid", "ParameterRanges": {"CategoricalParameterRanges": ranges}}
    assert [tuple(one.values()) for one in draws(config, "s")] == [
        ("1", "x"),
        ("1", "y"),
        ("2", "x"),
        ("2", "y"),
    ]


@pytest.mark.parametrize(
    ("static", "change", "said"),
    [
        ({"lr": "1"}, {}, "both static and tuned"),
        ({}, {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "none"}},
        "objective metric"),
        ({}, {"Strategy": "Grid"}, "categorical"),
        ({}, {"ParameterRanges": {"IntegerParameterRanges": [{"Name": "a", "MinValue": "3",
        "MaxValue": "2"}]}}, "range of a"),
    ],
)  # fmt: skip
def test_a_wrong_search_is_refused(aws: Aws, sm: Any, static: dict[str, str], change: Any, said: str) -> None:
    code, message = refused(lambda: tune(aws, sm, CONFIG | change, **static))
    assert code == "ValidationException"
    assert said in message
    assert keys(aws, "out/") == []
