"""Whether scores can be read as probabilities: how likely the model says a candidate is, and how often it is
right.

In: scores of candidate lists. Out: counts by predicted probability, drawn. The decision worth knowing:
training saw K negatives for each positive and a list holds N, so the same evidence means less in a list. The
logit for a list is logit + ln(K / N) (Elkan, IJCAI'01, theorem 2, for a changed share of positives), with
negatives drawn uniformly in both.

Legend: T held-out rows, C candidates, B bins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.analysis.report import svg
from ncf.analysis.report.page import Block, Drawing, Section, Text
from ncf.config import TrainConfig
from ncf.data import HeldOut

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_A_DECADE = 3
_DECADES = 5
_SCORES_AT_ONCE = 2**20


@dataclass(frozen=True)
class Calibration:
    """Per bin of predicted probability [B]: candidates, positives among them, and summed predictions."""

    candidates: Ints
    positives: Ints
    predicted: Floats

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """[B]: the bins that hold a candidate."""
        return self.candidates > 0

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance between predicted and observed, each candidate
        counted once.
        """
        return float(np.abs(self.positives - self.predicted).sum() / max(1, self.candidates.sum()))

    def to_json(self) -> dict[str, float]:
        """The mean prediction, the observed share of positives, and the expected calibration error."""
        total = max(1, int(self.candidates.sum()))
        mean, observed = float(self.predicted.sum()) / total, int(self.positives.sum()) / total
        return {"mean_predicted": mean, "observed": observed, "expected_calibration_error": self.error}


def calibrate(score: Callable[[Tensor, Tensor], Tensor], held_out: HeldOut, negatives: int) -> Calibration:
    """Compare the predictions for the candidates of `held_out` with the truth, in bins.

    `score` gives logits of users [T] and items [T, C], and `negatives` is how many it was trained with for
    each positive. Scores that are not numbers are left out, and so are further copies of the positive among
    the candidates.
    """
    shift = np.log(negatives / max(1, held_out.candidates.shape[1] - 1))
    size = _A_DECADE * _DECADES + 1
    totals = np.zeros((3, size))
    step = max(1, _SCORES_AT_ONCE // held_out.candidates.shape[1])
    for start in range(0, len(held_out), step):
        items_TC = torch.from_numpy(held_out.candidates[start : start + step].astype(np.int64))
        users_T = torch.from_numpy(held_out.user_rows[start : start + step].astype(np.int64))
        logits_TC = score(users_T, items_TC).double().numpy() + shift
        copies = (items_TC == items_TC[:, :1]).numpy()
        copies[:, 0] = False
        counted = np.isfinite(logits_TC) & ~copies
        positive = np.zeros(counted.shape, bool)
        positive[:, 0] = True
        probability = 1.0 / (1.0 + np.exp(-np.clip(logits_TC[counted], -700, 700)))
        index = bins(probability)
        for row, weights in enumerate((None, positive[counted].astype(float), probability)):
            totals[row] += np.bincount(index, weights=weights, minlength=size)
    return Calibration(totals[0].astype(np.int64), totals[1].astype(np.int64), totals[2])


def bins(probability: Floats) -> Ints:
    """The bin of each probability: three bins a power of ten, the first one for all below 1 in 100,000."""
    with np.errstate(divide="ignore"):
        index = np.floor((np.log10(probability) + _DECADES) * _A_DECADE) + 1
    return np.asarray(np.clip(index, 0, _A_DECADE * _DECADES), np.int64)


def wilson(hits: Ints, of: Ints) -> tuple[Floats, Floats]:
    """Both ends of 95% intervals of `hits` / `of` (Wilson, JASA 1927), which stay within 0 and 1."""
    from scipy.stats import binomtest

    tests = (binomtest(*pair) for pair in zip(hits.tolist(), of.tolist(), strict=True))
    low, high = np.array([test.proportion_ci(method="wilson") for test in tests]).reshape(-1, 2).T
    return low, high


def section(calibration: Calibration, train: TrainConfig, negatives: int) -> Section:
    """The reliability diagram of a model trained as `train` says; `negatives` is the number in a candidate
    list.
    """
    figures = calibration.to_json()
    reading = (
        "Each point gathers candidates with about the same predicted probability. On the dashed line they "
        "are the held-out item as often as predicted; below it the model is overconfident. Bars are 95% "
        "intervals. An open triangle is the upper end of the interval where no positive was observed."
    )
    compared = (
        f"{int(calibration.candidates.sum()):,} candidates of the test lists are compared, {negatives} "
        f"negatives for each positive. Training saw {train.negatives}, so ln({train.negatives}/{negatives}) "
        f"is added to each logit before the sigmoid. The mean prediction is {figures['mean_predicted']:.2%}, "
        f"and {figures['observed']:.2%} are positives. The expected calibration error is "
        f"{figures['expected_calibration_error']:.4f}."
    )
    return Section("Calibration of scores", reading, [_drawn(calibration), Text(compared), *_caveat(train)])


def _caveat(train: TrainConfig) -> list[Block]:
    if train.loss != "bce":
        caveat = (
            f"The loss {train.loss} fixes the order of scores but not their level: read the slope of the "
            "points, not their height."
        )
        return [Text(caveat, note=True)]
    if train.sampler != "uniform":
        caveat = (
            "Training drew its negatives by popularity and the lists may not, so popular items get lower "
            "probabilities than they should."
        )
        return [Text(caveat, note=True)]
    return []


@svg.styled()
def _drawn(calibration: Calibration) -> Drawing:
    drawing, (left, right) = svg.panels(2, 760, 350)
    filled = calibration.filled
    of, hits = calibration.candidates[filled], calibration.positives[filled]
    predicted, share = 100 * calibration.predicted[filled] / of, 100 * hits / of
    low, high = (100 * end for end in wilson(hits, of))
    some = hits > 0
    least = min(float(predicted.min()), float(share[some].min(initial=1.0)), 1.0) / 2
    left.plot([least, 100], [least, 100], color=svg.SOFT, linestyle=svg.DASHES[1], label="as predicted")
    errors = [(share - np.maximum(low, least / 2))[some], (high - share)[some]]
    form: Any = {"color": svg.SERIES[0], "fmt": "o", "elinewidth": 1.2}
    left.errorbar(predicted[some], share[some], errors, label="observed", **form)
    open_mark: Any = {"linestyle": "", "marker": "v", "color": svg.SERIES[0], "fillstyle": "none"}
    left.plot(predicted[~some], high[~some], label="none observed: at most", **open_mark)
    left.set(title="Predicted vs. observed", ylabel="observed share of positives (%)")
    left.set(yscale="log", ylim=(least, 130))
    left.legend(loc="best")
    for counts, index, label in ((of - hits, 1, "negatives"), (hits, 0, "positives")):
        form = {"color": svg.SERIES[index], "marker": svg.MARKERS[index], "linestyle": svg.DASHES[index]}
        right.plot(predicted, np.where(counts > 0, counts, np.nan), label=label, **form)
    right.set(title="Number of candidates", ylabel="candidates", yscale="log")
    right.legend(loc="best")
    left.yaxis.set_major_formatter("{x:.4g}")
    right.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.set(xlabel="predicted probability (%)", xscale="log", xlim=(least, 130))
        axes.xaxis.set_major_formatter("{x:.4g}")
        axes.minorticks_off()
    title = "Reliability diagram of the scores, and the number of candidates by predicted probability"
    return svg.framed(drawing, title)
