"""The verdict on a model: whether it beats popularity and a closed form on the rows it was evaluated on.

In: a scorer, what it was trained on, held-out rows. Out: a `Verdict`, which is one line, a warning where the
model is not ahead, and the same as JSON. Data without candidate lists have the full ranking only, by
Recall@k. The decision worth knowing: all figures of a ranking are of the same rows. Where these are so many
that the comparison would take longer than seconds, they are a sample with a fixed seed, and the line says so.

The closed form is EASE with default settings. It is left out, with the reason, where it cannot be fitted.

Legend: I items, T held-out rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.baselines.base import FittedBaseline
from ncf.baselines.ease import EASE, EXACT_LIMIT
from ncf.baselines.non_personalized import POPULARITY
from ncf.config import EvaluationConfig
from ncf.data import Csr, Dataset, HeldOut
from ncf.data.dataset import with_held_out
from ncf.data.tables import Stage
from ncf.errors import ConfigError
from ncf.evaluation import EvaluationResult, evaluate_full, evaluate_sampled
from ncf.evaluation.held_out import answering_cold_users
from ncf.evaluation.metrics import Floats
from ncf.evaluation.ranking import Scorer
from ncf.evaluation.significance import paired_p_value
from ncf.evaluation.slices import sample, sorted_by_user
from ncf.evaluation.top_k import evaluate_top_k
from ncf.runtime import Workers, free_memory

Evaluated = tuple[HeldOut, EvaluationResult]
"""Rows, and one value of each metric for each of them."""
_CUTOFFS = {True: 10, False: 20}
"""The cutoff that decides, with and without candidate lists."""
_TITLES = {"popularity": "popularity", "closed_form": "closed form"}
_UNBEATEN = {"popularity": "popularity", "closed_form": "the closed form"}
_RANKINGS = {"sampled": "candidate lists", "full": "full ranking"}
_LIST_COST = 2**33
"""Multiplications of the closed form for the lists: six seconds of a processor. ML-1M takes half as many."""
_MULTIPLICATIONS = 2**36
"""Of the model in the full ranking: about four seconds of a processor."""
_RANKING_COST = 1000
"""Multiplications that take as long as ranking one score."""
_GATHERING_COST = 100
"""Multiplications that take as long as picking a row's candidates out of its scores, an item."""
_LEAST_ROWS = 500


@dataclass(frozen=True)
class Standing:
    """One ranking of `rows` held-out rows of `total`: means of HR (or Recall) and NDCG by scorer and metric.

    The scorers are "model", "popularity" and, where it was fitted, "closed_form". `p_values` are those of
    the model against each of the others (paired permutation test). Where there are no lists, rows are users.
    """

    rows: int
    total: int
    means: dict[str, dict[str, float]]
    p_values: dict[str, float]

    def unbeaten(self, metric: str) -> list[str]:
        """The scorers that are as good as the model by `metric`, or better."""
        return [name for name in self.p_values if self.means[name][metric] >= self.means["model"][metric]]


@dataclass(frozen=True)
class Verdict:
    """What popularity and a closed form get on the model's own rows.

    `metric` is the one that decides, such as "hr@10" or "recall@20". `standings` are by protocol: "sampled",
    and "full" where every item could be scored. `missing` says why there is no closed form, else it is empty.
    """

    metric: str
    standings: dict[str, Standing]
    missing: str = ""

    @property
    def beats(self) -> bool:
        """Whether the model is ahead of all others in every ranking."""
        return not any(standing.unbeaten(self.metric) for standing in self.standings.values())

    @property
    def line(self) -> str:
        """All figures, in one line."""
        parts = [self._part(protocol, standing) for protocol, standing in self.standings.items()]
        return "; ".join(parts) + "." + (f" No closed form: {self.missing}" if self.missing else "")

    def _part(self, protocol: str, standing: Standing) -> str:
        name = self.metric.replace("hr", "HR").replace("recall", "Recall")
        if protocol != next(iter(self.standings)):
            name = _RANKINGS[protocol]
        if standing.rows < standing.total:
            name += f" ({standing.rows:,} of {standing.total:,} {'rows' if 'hr' in self.metric else 'users'})"
        rivals = [f"{_TITLES[rival]} {self._figure(standing, rival)}" for rival in standing.p_values]
        return f"{name} {self._figure(standing, 'model')}; {', '.join(rivals)}"

    def _figure(self, standing: Standing, scorer: str) -> str:
        """Three decimals, without the zero before the point."""
        return f"{standing.means[scorer][self.metric]:.3f}".removeprefix("0")

    @property
    def warning(self) -> str:
        """Where the model is not ahead, and by how much; empty where it is."""
        unbeaten = [
            f"{_UNBEATEN[rival]} in the {_RANKINGS[protocol]} ({self._figure(standing, 'model')} against "
            f"{self._figure(standing, rival)}, p = {standing.p_values[rival]:.2g})"
            for protocol, standing in self.standings.items()
            for rival in standing.unbeaten(self.metric)
        ]
        if not unbeaten:
            return ""
        return f"The model does not beat {' or '.join(unbeaten)}: see docs/which-model.md."

    def to_json(self) -> dict[str, Any]:
        """What `metrics.json` and `--json` hold."""
        return {
            "metric": self.metric,
            "beats": self.beats,
            **{
                protocol: {
                    "rows": standing.rows,
                    "total": standing.total,
                    **standing.means,
                    "p": standing.p_values,
                }
                for protocol, standing in self.standings.items()
            },
            "missing": self.missing or None,
            "line": self.line,
            "warning": self.warning or None,
        }


def judge(
    scorer: Scorer | None,
    train: Csr,
    dataset: Dataset,
    stage: Stage,
    rules: EvaluationConfig,
    workers: Workers,
    results: Mapping[str, Evaluated] | None = None,
    multiplications: int = 0,
) -> Verdict | None:
    """Compare a model with popularity and a closed form; None where no rows are held out.

    Args:
        scorer: the model, on the CPU. None leaves out every ranking that is not in `results`.
        train: what the model was trained on; the others are fitted to the same.
        dataset: the catalogue, the held-out rows, and what each user is known to have used.
        stage: which rows to rank, "validation" or "test".
        rules: the tie rule, and the cutoffs; 10 decides (20 without lists), or else the largest.
        workers: threads to use.
        results: rankings of the model that exist already, by protocol. Rows of a full ranking must be sorted
            by user.
        multiplications: how many a score of the model takes, which bounds the rows of the full ranking.
    """
    held_out = dataset.validation if stage == "validation" else dataset.test
    if not len(held_out):
        return None
    listed, items = held_out.has_lists, len(dataset.items)
    # In a list that is no longer than the cutoff, nobody misses.
    cutoffs = [k for k in rules.cutoffs if not listed or k < held_out.candidates.shape[1]] or rules.cutoffs
    k = _CUTOFFS[listed] if _CUTOFFS[listed] in cutoffs else max(cutoffs)
    metrics = (f"hr@{k}" if listed else f"recall@{k}", f"ndcg@{k}")
    quick = rules.model_copy(update={"cutoffs": (k,), "bootstrap": 0})
    rivals, missing = _fit(train, items, workers)
    most = {"full": _MULTIPLICATIONS // ((_RANKING_COST + multiplications) * items)}
    if listed:
        most = {"sampled": int(_LIST_COST / ((_GATHERING_COST + train.counts.mean()) * items)), **most}
    popularity = np.bincount(train.columns, minlength=items)
    standings = {}
    for protocol, bound in most.items():
        rows, own = (results or {}).get(protocol, (sorted_by_user(held_out), None))
        if own is None and scorer is None:
            continue
        names = np.arange(len(rows)) if listed else np.unique(rows.user_rows)
        index = sample(len(names), max(_LEAST_ROWS, bound))
        few = rows.take(index if listed else np.isin(rows.user_rows, names[index]))

        def values_of(scorer: Scorer, few: HeldOut = few, protocol: str = protocol) -> dict[str, Floats]:
            answers = answering_cold_users(scorer, dataset, popularity)
            if protocol == "sampled":
                return evaluate_sampled(answers, few, quick, workers).values
            if listed:
                return evaluate_full(answers, dataset, few, quick, workers).values
            return evaluate_top_k(answers, with_held_out(dataset, stage, few), stage, quick, workers).values

        if own is not None:
            values = {"model": {name: own.values[name][index] for name in metrics}}
        else:
            assert scorer is not None
            values = {"model": values_of(scorer)}
        values |= {name: values_of(rival) for name, rival in rivals.items()}
        users = few.user_rows if listed else None
        standings[protocol] = _standing(values, metrics, users, len(index), len(names))
    return Verdict(metrics[0], standings, missing)


def _fit(train: Csr, items: int, workers: Workers) -> tuple[dict[str, FittedBaseline], str]:
    """The rivals by name, and why the closed form is not among them."""
    fitted = {"popularity": POPULARITY.fit(train, items, {}, 0, workers)}
    needed = 16 * min(train.users, items, EXACT_LIMIT) ** 2
    if needed > free_memory():
        return fitted, f"it needs {needed / 2**30:.1f} GiB of memory."
    try:
        fitted["closed_form"] = EASE.fit(train, items, {}, 0, workers)
    except ConfigError as error:
        return fitted, str(error)
    return fitted, ""


def _standing(
    values: Mapping[str, Mapping[str, Floats]],
    metrics: tuple[str, ...],
    users: npt.NDArray[np.int32] | None,
    rows: int,
    total: int,
) -> Standing:
    """Means and p of the `values` by scorer and metric; the first metric is tested, by `users` if given."""
    decisive = {name: by_metric[metrics[0]] for name, by_metric in values.items()}
    return Standing(
        rows,
        total,
        {name: {m: float(by_metric[m].mean()) for m in metrics} for name, by_metric in values.items()},
        {
            name: paired_p_value(decisive[name], decisive["model"], users=users)
            for name in _TITLES
            if name in decisive
        },
    )
