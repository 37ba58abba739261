"""benchmarks/scaling.py on tiny data: its processes train together and count what they exchange; the model's
arithmetic."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from cost_model import Costs, Job, distinct, memory, replicated, sent
from scaling_worker import Group, uniform

COSTS = Costs(2e-6, 1e-7, 1e-6, 3e-6, 1e-6, 1e-4, 1e9)
TINY = ["model.factors=4", "model.embedding=8", "model.tower=[8,4]", "train.batch_size=64", "train.threads=1",
        "train.device=cpu", "train.precision=float32"]  # fmt: skip


def test_made_up_users_have_distinct_items() -> None:
    dataset = uniform(50, 40, 500)
    assert len(dataset.train) == 500
    assert dataset.train.item_rows.dtype == np.int32
    assert all(len(np.unique(dataset.known.row(user))) == 10 for user in range(50))


def test_a_group_trains_together_and_alone_and_counts() -> None:
    with Group(2) as two:
        order = {"data": [50, 40, 500], "settings": [*TINY, "train.optimizer=lazy"], "warm": 1, "steps": 2}
        together, alone = two.ask("train", **order), two.ask("train", **order, alone=True)
        assert all(answer["seconds"] > 0 for answer in [*together, *alone])
        assert [answer["exchanges"] for answer in alone] == [[], []]
        for answer in together:
            spent = answer["spent"]
            # rows' numbers once a side, 4 and 8 columns of values; loss, stop and layers
            rows = spent["user_rows"] + spent["item_rows"]
            layers = answer["parameters"] - 90 * 12
            assert spent["bytes"] == rows * (8 + 4 * 12) + 4 * (layers + 2)
            assert len(answer["exchanges"]) == 2 * 8
        assert {answer["latency"] > 0 for answer in two.ask("carry")} == {True}
        assert {answer["seconds"] > 0 for answer in two.ask("merge", rows=20, table=50)} == {True}


def test_the_expected_number_of_distinct_rows() -> None:
    random = np.random.default_rng(0)
    drawn = [len(np.unique(random.integers(0, 70, 100))) for _ in range(2000)]
    assert distinct(100, 70) == pytest.approx(np.mean(drawn), rel=0.01)


def test_the_models_terms() -> None:
    alone = Job(1000, 500, 100_000, 1000, 1)
    terms = replicated(alone, COSTS)
    assert alone.steps == 100
    assert terms["samples"] == 5000 * 2e-6
    assert terms["sending"] == terms["adding rows"] == terms["latency"] == sent(alone) == 0.0
    two = Job(1000, 500, 100_000, 1000, 2)
    assert replicated(two, COSTS)["samples"] == terms["samples"] / 2
    assert replicated(two, COSTS)["moving rows"] == pytest.approx(terms["moving rows"], rel=1e-3)
    assert math.isnan(COSTS.sharded_row)
    assert memory(two, True)["tables and optimiser"] == 1500 / 2 * 4 * 193
    assert memory(two, False)["tables and optimiser"] == 1500 * 4 * (3 * 192 + 2)
