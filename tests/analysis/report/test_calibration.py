"""Predicted and observed shares: a model that knows the probabilities is calibrated after the correction."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ncf.analysis.report.calibration import bins, calibrate, section, wilson
from ncf.config import TrainConfig
from ncf.data import HeldOut
from reports import html

ITEMS, NEGATIVES, TRAINED = 100_000, 49, 4


class Table:
    """A scorer that looks the logit of each item up."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = torch.from_numpy(logits)

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        return self.logits[items_BC]


def simulated(rows: int = 20_000) -> tuple[Table, HeldOut]:
    """Items' scores are N(1, 1) among positives and N(0, 1) among negatives: log P(x|1)/P(x|0) = x - 1/2.

    The logit of a model that was trained on 1 positive to K negatives is x - 1/2 - ln K.
    """
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(1, 1, ITEMS), random.normal(0, 1, ITEMS)])
    candidates = np.concatenate(
        [random.integers(0, ITEMS, (rows, 1)), random.integers(ITEMS, 2 * ITEMS, (rows, NEGATIVES))], axis=1
    )
    return Table((x - 0.5 - np.log(TRAINED)).astype(np.float32)), HeldOut(
        np.zeros(rows, np.int32), candidates.astype(np.int32)
    )


def test_counts_have_a_bin_for_each_candidate() -> None:
    scorer, held_out = simulated(100)
    found = calibrate(scorer, held_out, TRAINED)
    assert found.candidates.shape == found.positives.shape == found.predicted.shape == (16,)
    assert (found.candidates.dtype, found.predicted.dtype) == (np.int64, np.float64)
    assert (found.candidates.sum(), found.positives.sum()) == (100 * 50, 100)


def test_a_model_that_knows_the_probabilities_is_calibrated_on_lists_of_any_length() -> None:
    scorer, held_out = simulated()
    found = calibrate(scorer, held_out, TRAINED)
    figures = found.to_json()
    assert figures["mean_predicted"] == pytest.approx(figures["observed"], rel=0.03)
    assert found.error < 0.001
    low, high = wilson(found.positives[found.filled], found.candidates[found.filled])
    mean = (found.predicted / np.maximum(found.candidates, 1))[found.filled]
    assert (low - 0.004 <= mean).all()
    assert (mean <= high + 0.004).all()


def test_without_the_correction_it_would_not_be() -> None:
    scorer, held_out = simulated(2000)
    assert calibrate(scorer, held_out, NEGATIVES).error > 0.05


def test_sums_are_those_of_a_loop() -> None:
    scorer, held_out = simulated(40)
    found = calibrate(scorer, held_out, TRAINED)
    candidates, positives, predicted = np.zeros(16, int), np.zeros(16, int), np.zeros(16)
    for row in held_out.candidates.tolist():
        for place, item in enumerate(row):
            logit = float(scorer.logits[item]) + np.log(TRAINED / NEGATIVES)
            probability = 1 / (1 + np.exp(-logit))
            at = next(n for n in range(16) if probability < 10 ** (-5 + n / 3) or n == 15)
            candidates[at] += 1
            positives[at] += place == 0
            predicted[at] += probability
    assert found.candidates.tolist() == candidates.tolist()
    assert found.positives.tolist() == positives.tolist()
    np.testing.assert_allclose(found.predicted, predicted)


def test_what_is_no_number_or_the_positive_again_does_not_count() -> None:
    logits = np.array([0, np.nan, np.inf, -1, 2], np.float32)
    held_out = HeldOut(np.zeros(1, np.int32), np.array([[0, 1, 2, 3, 0, 4]], np.int32))
    found = calibrate(Table(logits), held_out, 4)
    assert (found.candidates.sum(), found.positives.sum()) == (3, 1)


@given(st.floats(0, 1))
def test_every_probability_has_a_bin(probability: float) -> None:
    assert 0 <= int(bins(np.array([probability]))[0]) <= 15


@given(st.integers(1, 10_000), st.data())
def test_an_interval_holds_its_share_and_stays_a_share(of: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, of))
    low, high = (float(end[0]) for end in wilson(np.array([hits]), np.array([of])))
    assert 0 <= low <= hits / of + 1e-12
    assert hits / of - 1e-12 <= high <= 1


def test_wilson_is_that_of_the_formula() -> None:
    low, high = wilson(np.array([0, 3, 50]), np.array([10, 10, 1000]))
    assert low.tolist() == pytest.approx([0.000000, 0.107791, 0.038130], abs=1e-5)
    assert high.tolist() == pytest.approx([0.277533, 0.603222, 0.065314], abs=1e-5)


def test_the_section_states_what_is_compared_and_what_a_loss_leaves_open() -> None:
    scorer, held_out = simulated(50)
    found = calibrate(scorer, held_out, TRAINED)
    text = html(section(found, TrainConfig(negatives=TRAINED), NEGATIVES))
    assert "49 negatives for each positive. Training saw 4, so ln(4/49) is added to each logit" in text
    assert 'class="note"' not in text
    assert "fixes the order of scores but not their level" in html(
        section(found, TrainConfig(loss="bpr"), NEGATIVES)
    )
    assert "drew its negatives by popularity" in html(
        section(found, TrainConfig(sampler="popularity"), NEGATIVES)
    )


def test_bins_without_positives_are_drawn_as_bounds() -> None:
    scorer, held_out = simulated(3)
    assert "none observed: at most" in html(
        section(calibrate(scorer, held_out, TRAINED), TrainConfig(), NEGATIVES)
    )
