"""Whether a score can be read as a probability: what the model says of a candidate against how often it is right.

In: scores of candidate lists. Out: counts by what was predicted, drawn. The decision worth knowing: training saw one
positive to K negatives and a list holds one to N, so that the same model means less by the same logit. With odds
P(score | positive) / P(score | negative) that are the model's own, the logit for a list is logit + ln(K / N) (Elkan,
IJCAI'01, theorem 2, for a changed share of positives); both shares take negatives as drawn uniformly.

Legend: T held-out rows, C candidates, B bins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.analysis.report import svg
from ncf.analysis.report.page import Section
from ncf.config import TrainConfig
from ncf.data import HeldOut

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_A_DECADE = 3
_DECADES = 5
_SCORES_AT_ONCE = 2**20
_Z = 1.959964


@dataclass(frozen=True)
class Calibration:
    """By bin of the predicted probability: candidates, positives among them, the sum of what was predicted; [B] each."""

    candidates: Ints
    positives: Ints
    predicted: Floats

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """[B]: bins that hold a candidate."""
        return self.candidates > 0

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance between predicted and observed, candidates weighing alike."""
        return float(np.abs(self.positives - self.predicted).sum() / max(1, self.candidates.sum()))

    def to_json(self) -> dict[str, float]:
        """In a word."""
        total = max(1, int(self.candidates.sum()))
        mean, observed = float(self.predicted.sum()) / total, int(self.positives.sum()) / total
        return {"mean_predicted": mean, "observed": observed, "expected_calibration_error": self.error}


def calibrate(score: Callable[[Tensor, Tensor], Tensor], held_out: HeldOut, negatives: int) -> Calibration:
    """Bins of what a model that was trained with `negatives` a positive says of the candidates of the lists.

    Candidates that are the positive itself once more, and scores that are not numbers, are left out.
    """
    shift = np.log(negatives / max(1, held_out.candidates.shape[1] - 1))
    size = _A_DECADE * _DECADES + 1
    totals = np.zeros((3, size))
    step = max(1, _SCORES_AT_ONCE // held_out.candidates.shape[1])
    for start in range(0, len(held_out), step):
        items_TC = torch.from_numpy(held_out.candidates[start : start + step].astype(np.int64))
        users_T = torch.from_numpy(held_out.user_rows[start : start + step].astype(np.int64))
        logits_TC = score(users_T, items_TC).double().numpy() + shift
        own = (items_TC == items_TC[:, :1]).numpy()
        own[:, 0] = False
        counted = np.isfinite(logits_TC) & ~own
        positive = np.zeros(counted.shape, bool)
        positive[:, 0] = True
        probability = 1.0 / (1.0 + np.exp(-np.clip(logits_TC[counted], -700, 700)))
        place = bins(probability)
        for row, weights in enumerate((None, positive[counted].astype(float), probability)):
            totals[row] += np.bincount(place, weights=weights, minlength=size)
    return Calibration(totals[0].astype(np.int64), totals[1].astype(np.int64), totals[2])


def bins(probability: Floats) -> Ints:
    """The bin of each: three a power of ten, the first one for all below 1 in 100,000."""
    with np.errstate(divide="ignore"):
        place = np.floor((np.log10(probability) + _DECADES) * _A_DECADE) + 1
    return np.asarray(np.clip(place, 0, _A_DECADE * _DECADES), np.int64)


def wilson(hits: Ints, of: Ints) -> tuple[Floats, Floats]:
    """95% intervals of shares (Wilson, JASA 1927), which stay within 0 and 1 where hits are few."""
    share = hits / of
    centre = (share + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    half = _Z * np.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2)) / (1 + _Z**2 / of)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def section(calibration: Calibration, train: TrainConfig, negatives: int) -> Section:
    """The reliability diagram; `negatives` are those of a list."""
    words = calibration.to_json()
    reading = (
        "Each point gathers candidates to which the model gives about the same probability; on the dashed line that is how "
        "often they are the held-out item, below it the model promises too much. Bars are 95% intervals; an open "
        "triangle is the upper end where none was."
    )
    compared = (
        f"Compared are {int(calibration.candidates.sum()):,} candidates of the test lists, 1 positive to {negatives} negatives. "
        f"Training saw 1 to {train.negatives}, so that ln({train.negatives}/{negatives}) is added to each logit before the sigmoid. On average "
        f"the model says {words['mean_predicted']:.2%} where {words['observed']:.2%} are positives; expected calibration error "
        f"{words['expected_calibration_error']:.4f}."
    )
    return Section(
        "Calibration of scores", reading, _drawn(calibration) + f"<p>{compared}</p>{_caveat(train)}"
    )


def _caveat(train: TrainConfig) -> str:
    if train.loss != "bce":
        return (
            f"<p class='note'>The model was trained with the loss {train.loss}, which fixes the order of scores and not their level: "
            "read the slope of the points, not their height.</p>"
        )
    if train.sampler != "uniform":
        return (
            "<p class='note'>Training drew its negatives by popularity and the lists may hold others, so that popular items "
            "come out lower than they are.</p>"
        )
    return ""


@svg.styled()
def _drawn(calibration: Calibration) -> str:
    drawing, (left, right) = svg.panels(2, 760, 350)
    there = calibration.there
    of, hits = calibration.candidates[there], calibration.positives[there]
    predicted, share = 100 * calibration.predicted[there] / of, 100 * hits / of
    low, high = (100 * end for end in wilson(hits, of))
    some = hits > 0
    least = min(float(predicted.min()), float(share[some].min(initial=1.0)), 1.0) / 2
    left.plot([least, 100], [least, 100], color=svg.SOFT, linestyle=svg.DASHES[1], label="as often as said")
    left.errorbar(
        predicted[some], share[some], color=svg.SERIES[0], fmt="o", elinewidth=1.2, label="observed",
        yerr=[(share - np.maximum(low, least / 2))[some], (high - share)[some]],
    )  # fmt: skip
    left.plot(
        predicted[~some], high[~some], linestyle="", marker="v", color=svg.SERIES[0], fillstyle="none",
        label="none observed: at most",
    )  # fmt: skip
    left.set(
        title="Said and observed", ylabel="observed share of positives (%)", yscale="log", ylim=(least, 130)
    )
    left.legend(loc="best")
    for counts, place, label in ((of - hits, 1, "negatives"), (hits, 0, "positives")):
        right.plot(
            predicted, np.where(counts > 0, counts, np.nan), color=svg.SERIES[place], marker=svg.MARKERS[place],
            linestyle=svg.DASHES[place], label=label,
        )  # fmt: skip
    right.set(title="How many there are", ylabel="number of candidates", yscale="log")
    right.legend(loc="best")
    left.yaxis.set_major_formatter("{x:.4g}")
    right.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.set(xlabel="predicted probability (%)", xscale="log", xlim=(least, 130))
        axes.xaxis.set_major_formatter("{x:.4g}")
        axes.minorticks_off()
    return svg.framed(
        drawing, "Reliability diagram of the scores, and the number of candidates by predicted probability"
    )
