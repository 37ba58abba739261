"""The first values of a model: random, from a closed form of its data, or from trained models.

In: the data as the run sees them, the settings, and perhaps a trained GMF and MLP. Out: a model whose random
values are replaced. Trained models either become the branches of a NeuMF, or are distilled into a wider GMF,
whose tables are the truncated singular value decomposition of

    alpha (closed form + GMF) / 2 + (1 - alpha) MLP

over all users and items. The student is of its teachers' family, as in born-again networks (Furlanello et
al., ICML'18). The decision worth knowing: this is a decomposition, not a descent. It computes the
logits of all pairs, in blocks, two or three times.

Legend: U users, I items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import ConfigError
from ncf.models import GMF, MLP, HistoryGMF, Model, ModelScorer, NeuMF, build_model
from ncf.models.attention import AttentionGMF, PlacesGMF
from ncf.runtime import Workers, generator
from ncf.tracking.tracker import Tracker
from ncf.training.decomposition import Logits, Progress
from ncf.training.parallel.communicator import Communicator
from ncf.training.parallel.sharded_weights import draw, spread
from ncf.training.parallel.sharding import ShardedTables, rate_factor
from ncf.training.spectral_init import ClosedForm, ignore, init_spectral, init_tables

_HALVES: dict[type, str] = {
    HistoryGMF: "history-gmf",
    PlacesGMF: "history-gmf with history_places",
    AttentionGMF: "sasrec",
}


@dataclass(frozen=True)
class Initializer:
    """What they are made from: the data as the run sees them, and its settings."""

    dataset: Dataset
    experiment: Experiment
    tracker: Tracker
    pool: Workers
    logits: Logits | None = None
    """Those of the closed form, where it was fitted to these data already."""

    def fill(self, model: Model, pretrained: tuple[Model, Model] | None, begins: bool) -> None:
        """Replace the random values of `model`, perhaps with those of `pretrained`, a GMF and an MLP.

        Only a process that `begins` a run, rather than resuming it, does what takes long.
        """
        if pretrained is not None and isinstance(model, NeuMF):
            self._fuse(model, pretrained)
        elif begins and pretrained is not None:
            self._distill(model, pretrained)
        elif begins and self._is_spectral():
            self._init_spectral(model)

    def shard(self, model: Model, communicator: Communicator, fresh: bool) -> ShardedTables:
        """The tables of `model`, spread over the processes; in a `fresh` run they get first values."""
        users, items = len(self.dataset.users), len(self.dataset.items)
        config = self.experiment.train
        factor = rate_factor(config, len(self.dataset.train), users)
        tables = ShardedTables(model, users, items, communicator, factor)
        draw(tables, config.seed)
        if fresh and self._is_spectral():
            weights = None
            if communicator.rank == 0:  # a closed form needs the whole model anyway
                started = build_model(self.experiment.model, users, items, generator(config.seed, "init"))
                self._init_spectral(started)
                weights = {name: value.numpy() for name, value in started.state_dict().items()}
                tables.load_layers(weights)
            spread(tables, weights)
        return tables

    def _is_spectral(self) -> bool:
        """Whether the tables start from a closed form."""
        return self.experiment.train.init != "random"

    def _init_spectral(self, model: Model) -> None:
        """First values of the tables from a closed form of the same data."""
        self.tracker.log("Spectral start: fitting the closed-form model and taking its singular vectors.")
        closed = ClosedForm.of(self.dataset, self.experiment.train)
        with self.tracker.phase("closed form") as progress:
            init_spectral(model, closed, self.pool, progress, self.logits)

    def _distill(self, student: Model, teachers: tuple[Model, Model]) -> None:
        """First values of a GMF's tables from a closed form and two trained models."""
        gmf, mlp = teachers
        assert isinstance(student, GMF)
        assert self.experiment.pretraining is not None
        if type(gmf) is not GMF or not isinstance(mlp, MLP):
            raise ConfigError("--gmf takes a run of kind gmf and --mlp one of kind mlp.")
        self.tracker.log(
            "Distilled start: taking the singular vectors of a closed form, the GMF and the MLP together."
        )
        closed = ClosedForm.of(self.dataset, self.experiment.train)
        with self.tracker.phase("closed form") as progress:
            init_from_ensemble(
                student, gmf, mlp, self.experiment.pretraining.alpha, closed, self.pool, progress
            )

    def _fuse(self, model: NeuMF, pretrained: tuple[Model, Model]) -> None:
        """First values of a NeuMF from its trained branches."""
        gmf, mlp = pretrained
        assert self.experiment.pretraining is not None
        if type(gmf) is not type(model.gmf) or not isinstance(mlp, MLP):
            wanted = _HALVES.get(type(model.gmf), "gmf")
            raise ConfigError(f"--gmf takes a run of kind {wanted} and --mlp one of kind mlp.")
        assert isinstance(gmf, GMF)
        try:
            model.load_pretrained(gmf, mlp, self.experiment.pretraining.alpha)
        except RuntimeError as error:
            raise ConfigError(
                "The pre-trained models do not fit the NeuMF's sizes (factors, embedding, tower): "
                + str(error).splitlines()[-1].strip()
            ) from None


def init_from_ensemble(
    student: GMF,
    gmf: GMF,
    mlp: MLP,
    alpha: float,
    closed: ClosedForm,
    workers: Workers,
    progress: Progress = ignore,
) -> None:
    """Overwrite the tables and the output layer of `student` with the decomposed logits of its teachers.

    `alpha` is the share of the `closed` form and the `gmf`. `progress` is told how many of how many steps are
    done.
    """
    linear = closed.logits(student.output.numel(), progress)
    scorers = (ModelScorer(gmf), ModelScorer(mlp))

    def rows(part: slice) -> Tensor:
        everyone = torch.arange(part.start, part.stop)
        total = linear.rows(part).mul_(alpha / 2)
        for scorer, share in zip(scorers, (alpha / 2, 1.0 - alpha), strict=True):
            total.add_(scorer.catalogue(everyone), alpha=share)
        return total

    together = Logits(linear.users, linear.items, rows, linear.guess)
    init_tables(student, together, closed.seed, workers, progress)
