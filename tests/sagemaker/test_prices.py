"""Prices: what is known, what is not, and what a limit does with both."""

from pathlib import Path

import botocore.session
import pytest

from ncf.errors import ConfigError
from ncf.sagemaker.prices import estimate, in_sequence, price, prices, serverless_second

ENUMS = {
    "training": "TrainingInstanceType",
    "processing": "ProcessingInstanceType",
    "hosting": "ProductionVariantInstanceType",
    "transform": "TransformInstanceType",
}


@pytest.mark.parametrize("kind", ENUMS)
def test_every_type_with_a_price_is_one_that_sagemaker_admits(kind: str) -> None:
    admitted = botocore.session.Session().get_service_model("sagemaker").shape_for(ENUMS[kind]).enum
    priced = [name for name in prices().values["hour"] if price(name, kind) is not None]
    assert len(priced) > 50
    assert set(priced) <= set(admitted)


def test_larger_instances_of_a_family_cost_more() -> None:
    for family in ("m5", "m7i", "c5", "c7i"):
        assert price(f"ml.{family}.xlarge", "training") < price(f"ml.{family}.4xlarge", "training")


def test_an_unknown_type_has_no_price_and_says_so() -> None:
    unknown = estimate("ml.x9.huge", "training", 2, 3600)
    assert price("ml.x9.huge", "training") is None
    assert unknown.total is None
    assert "not in prices.toml" in unknown.sentence()


def test_a_family_that_a_kind_does_not_admit_has_no_price() -> None:
    assert price("ml.t2.medium", "hosting") == 0.056
    assert price("ml.t2.medium", "training") is None
    assert price("ml.c5.large", "training") is None


def test_this_machine_costs_nothing() -> None:
    assert price("local", "training") == price("local_gpu", "hosting") == 0.0


def test_the_largest_total_is_price_times_count_times_time() -> None:
    job = estimate("ml.c7i.xlarge", "training", 2, 1800)
    assert job.hourly == pytest.approx(0.428)
    assert job.total == pytest.approx(0.214)
    for word in ("2 x ml.c7i.xlarge", "$0.428 an hour", "at most $0.21", "0.5 h", "us-east-1"):
        assert word in job.sentence()


def test_an_endpoint_is_priced_by_the_month() -> None:
    endpoint = estimate("ml.c7i.xlarge", "hosting")
    assert endpoint.total == pytest.approx(0.214 * 730)
    assert "$156.22 a month" in endpoint.sentence()


def test_spot_and_several_runs_are_said() -> None:
    many = estimate("ml.m5.large", "training", 1, 3600, spot=True).times(20, "trials")
    assert many.total == pytest.approx(2.3)
    assert "20 trials of 1 x ml.m5.large" in many.sentence()
    assert "spot" in many.sentence()


def test_jobs_one_after_another_cost_their_sum_and_an_hour_of_the_dearest() -> None:
    small, large = (
        estimate("ml.m5.large", "processing", 1, 1800),
        estimate("ml.c7i.xlarge", "training", 1, 7200),
    )
    all_of_them = in_sequence([small, large, small])
    assert all_of_them.hourly == large.hourly
    assert all_of_them.total == pytest.approx(0.115 + 0.428)
    said = all_of_them.sentence()
    for word in (
        "3 jobs (2 on 1 x ml.m5.large, 1 on 1 x ml.c7i.xlarge)",
        "up to $0.214 an hour",
        "$0.54 in 3 h",
    ):
        assert word in said
    with pytest.raises(ConfigError, match="3 jobs"):
        all_of_them.check(0.5)


def test_one_job_without_a_price_leaves_all_without() -> None:
    mixed = in_sequence(
        [estimate("ml.m5.large", "processing", 1, 60), estimate("ml.x9.huge", "training", 1, 60)]
    )
    assert (mixed.hourly, mixed.total) == (None, None)
    with pytest.raises(ConfigError, match="is unknown, so --max-cost"):
        mixed.check(100)


def test_no_job_costs_nothing() -> None:
    assert in_sequence([]).total == 0


def test_a_limit_admits_what_costs_less() -> None:
    estimate("ml.m5.large", "training", 1, 3600).check(0.12)
    estimate("ml.m5.large", "training", 1, 3600).check(None)


def test_a_limit_refuses_what_costs_more() -> None:
    with pytest.raises(ConfigError, match=r"Nothing was started.*\$0\.12.*--max-cost 0\.1"):
        estimate("ml.m5.large", "training", 1, 3600).check(0.1)


def test_a_limit_refuses_what_has_no_price() -> None:
    with pytest.raises(ConfigError, match="the price of 1 x ml.x9.huge"):
        estimate("ml.x9.huge", "training", 1, 3600).check(1000)


def test_a_file_of_ones_own_replaces_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(
        'date = 2026-01-01\nregion = "eu-west-1"\n[hour]\n"ml.m5.large" = '
        '0.128\n[hosting]\n"ml.m5.large" = 0.2\n'
    )
    monkeypatch.setenv("NCF_PRICES", str(own))
    assert price("ml.m5.large", "training") == 0.128
    assert price("ml.m5.large", "hosting") == 0.2
    assert price("ml.c7i.xlarge", "training") is None
    assert "eu-west-1, 2026-01-01" in estimate("ml.m5.large", "training", 1, 60).sentence()


@pytest.mark.parametrize("text", ["nonsense", 'date = 1\n[hour]\n"a" = 1', '[hour]\n"a" = "x"'])
def test_a_bad_price_file_is_one_sentence(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.toml").write_text(text)
    monkeypatch.setenv("NCF_PRICES", str(tmp_path / "bad.toml"))
    with pytest.raises(ConfigError, match="bad.toml"):
        price("ml.m5.large", "training")


def test_serverless_is_by_memory_and_second() -> None:
    assert serverless_second(2048) == pytest.approx(0.00004)
