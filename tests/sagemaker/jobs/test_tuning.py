"""SageMaker's tuner: the request, and a search against the double."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.container.hyperparameters import from_hyperparameters
from ncf.sagemaker.jobs import tuning
from ncf.sagemaker.jobs.requests import TrainingOptions
from ncf.sagemaker.jobs.run import JobFailed
from ncf.sagemaker.jobs.tuning import TunerOptions, parameter_ranges, tuning_request
from ncf.tuning.space import Space
from programs import judged, session_of
from support import experiment

if TYPE_CHECKING:
    from hosted.inline import Spec

SPACE = Space.parse(
    {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "train.negatives": {"low": 2, "high": 8},
        "train.batch_size": {"low": 64, "high": 192, "step": 64},
        "model.tower": {"values": [[32, 16], [16, 8]]},
        "model.kind": {"values": ["neumf", "mlp"]},
    }
)
SMALL = Space.parse({"train.negatives": {"low": 2, "high": 8}})
OPTIONS = TrainingOptions(
    "ncf-tune", data="s3://mine/ncf/data/d1", image="012345678901.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
)


def request_of(space: Space = SPACE, training: TrainingOptions = OPTIONS, **options: Any) -> dict[str, Any]:
    request = tuning_request(session_of(), experiment(), space, training, TunerOptions(**options))
    return judged("CreateHyperParameterTuningJob", request)


def test_ranges_are_those_of_the_space() -> None:
    ranges = parameter_ranges(SPACE)
    assert ranges["ContinuousParameterRanges"] == [
        {
            "Name": "train.learning_rate",
            "MinValue": "0.0001",
            "MaxValue": "0.01",
            "ScalingType": "Logarithmic",
        }
    ]
    assert ranges["IntegerParameterRanges"] == [
        {"Name": "train.negatives", "MinValue": "2", "MaxValue": "8", "ScalingType": "Auto"}
    ]
    assert ranges["CategoricalParameterRanges"] == [
        {"Name": "train.batch_size", "Values": ["64", "128", "192"]},
        {"Name": "model.tower", "Values": ["[32, 16]", "[16, 8]"]},
        {"Name": "model.kind", "Values": ["neumf", "mlp"]},
    ]


def test_every_value_of_a_choice_reads_back_as_the_setting() -> None:
    for choice in parameter_ranges(SPACE)["CategoricalParameterRanges"]:
        for text in choice["Values"]:
            from_hyperparameters({choice["Name"]: text})


def test_the_usual_search() -> None:
    request = request_of(trials=20, parallel=3, early_stopping=True)
    config = request["HyperParameterTuningJobConfig"]
    assert config["Strategy"] == "Bayesian"
    assert config["HyperParameterTuningJobObjective"] == {
        "Type": "Maximize",
        "MetricName": "validation_ndcg@10",
    }
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 20, "MaxParallelTrainingJobs": 3}
    assert config["TrainingJobEarlyStoppingType"] == "Auto"
    definition = request["TrainingJobDefinition"]
    fixed = definition["StaticHyperParameters"]
    assert "train.learning_rate" not in fixed
    assert fixed["train.epochs"] == "30"
    defined = [one["Name"] for one in definition["AlgorithmSpecification"]["MetricDefinitions"]]
    assert "validation_ndcg@10" in defined
    assert {"Key": "ncf:project", "Value": "ncf"} in request["Tags"]


def test_trials_share_no_checkpoints() -> None:
    assert "CheckpointConfig" not in request_of()["TrainingJobDefinition"]


def test_hyperband_shares_out_epochs() -> None:
    config = request_of(SMALL, strategy="Hyperband")["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"]["HyperbandStrategyConfig"] == {"MinResource": 1, "MaxResource": 30}
    assert config["TrainingJobEarlyStoppingType"] == "Off"


def test_strategies_are_those_of_the_service() -> None:
    shape = (
        botocore.session.Session()
        .get_service_model("sagemaker")
        .shape_for("HyperParameterTuningJobStrategyType")
    )
    assert {"Bayesian", "Random", "Hyperband"} <= set(shape.enum)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "Luck"}, "--strategy takes one of Bayesian, Random, Hyperband"),
        ({"trials": 0}, "1 or more"),
        ({"strategy": "Hyperband", "early_stopping": True}, "leave out --early-stopping"),
    ],
)
def test_what_the_tuner_has_not(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TunerOptions(**options)


def test_hyperband_takes_no_epochs_of_the_space() -> None:
    with pytest.raises(ConfigError, match=r"leave train\.epochs out"):
        request_of(Space.parse({"train.epochs": {"low": 1, "high": 9}}), strategy="Hyperband")


def test_too_many_steps() -> None:
    space = Space.parse({"train.batch_size": {"low": 1, "high": 100, "step": 1}})
    with pytest.raises(ConfigError, match="30 values and this has 100"):
        parameter_ranges(space)


def test_jobs_of_a_tuner_cannot_be_kept_warm() -> None:
    with pytest.raises(ConfigError, match="leave out --keep-alive"):
        request_of(training=replace(OPTIONS, keep_alive=60))


def test_names_are_short_enough(aws: Aws) -> None:
    for project in ("ncf", "a-project-with-quite-a-long-name"):
        name = tuning.new_name(aws.session(project=project))
        assert len(name) <= 32
        assert name.startswith(project[:11])


def trial(spec: "Spec") -> int:
    """The more negatives the better."""
    import json

    values = json.loads((spec.root / "input" / "config" / "hyperparameters.json").read_text())
    settings = from_hyperparameters(values)
    spec.log(f"[ncf] epoch=0 loss=1 validation_ndcg@10={settings.train.negatives / 10}")
    (spec.root / "model" / "some").write_text("thing")
    return 0


def searched(aws: Aws, **options: Any) -> tuple[str, list[tuning.TunerTrial]]:
    session = aws.session()
    data = session.upload(Path(__file__), "data", "d1", "dataset.json").rpartition("/")[0]
    training = replace(OPTIONS, name=tuning.new_name(session), data=data)
    request = tuning_request(session, experiment(), SMALL, training, TunerOptions(**options))
    name = tuning.start(session, request)
    return name, tuning.wait(session, name, sleep=lambda _: time.sleep(0.05))


def test_a_search_tells_its_trials_the_best_first(aws: Aws) -> None:
    aws.run(trial)
    name, found = searched(aws, trials=4, parallel=2)
    assert len(found) == 4
    figures = [one.objective or 0 for one in found]
    assert figures == sorted(figures, reverse=True)
    assert all(one.job.startswith(name) for one in found)
    best = tuning.best(found)
    assert best is found[0]
    assert int(best.values["train.negatives"]) / 10 == pytest.approx(best.objective)


def failing(spec: "Spec") -> int:
    (spec.root / "output" / "failure").write_text("There is no data.")
    return 1


def test_a_search_without_a_good_trial_says_why(aws: Aws) -> None:
    aws.run(failing)
    with pytest.raises(JobFailed, match=r"no trial with a result.*There is no data"):
        searched(aws, trials=2)


def test_a_stopped_search(aws: Aws) -> None:
    def stops(spec: "Spec") -> int:
        tuning.stop(aws.session(), aws.records("HyperParameterTuningJob")[0].name)
        spec.stop.wait(30)
        return 1

    aws.run(stops)
    with pytest.raises(JobFailed, match=r"Stopped"):
        searched(aws, trials=3)


def test_a_refused_search_starts_nothing(aws: Aws) -> None:
    aws.fail("CreateHyperParameterTuningJob", "ResourceLimitExceeded")
    with pytest.raises(CloudError, match="quota"):
        searched(aws)
    assert aws.records("TrainingJob") == []
