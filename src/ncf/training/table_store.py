"""Where the embedding tables are between steps: whole in the model, or spread over the processes.

In: a model, and `ShardedTables` where they hold its tables. Out: what scores, what is remembered as the best epoch, and
what a checkpoint has besides the model's weights. The decision worth knowing: a run has one store from its start, so
the loop never asks where the tables are.

Legend: B users, C candidates.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ncf.models import Model, ModelScorer
from ncf.training.checkpoint import Checkpoints
from ncf.training.parallel.sharded_checkpoint import forget_tables, load_tables, save_tables
from ncf.training.parallel.sharding import ShardedTables

Score = Callable[[Tensor, Tensor], Tensor]
"""From users [B] and items [B, C] to logits [B, C]."""


class TableStore:
    """Tables that lie whole in the model on every process: the model's own weights are all there is."""

    parameters = 0
    """Trained numbers that are not the model's own."""
    collective = False
    """Whether all processes must call the scorer equally often."""

    def scorer(self, model: Model) -> Score:
        """The logits of `model` as it is now."""
        return ModelScorer(model)

    def keep_best(self) -> None:
        """Remember the tables as they are now."""

    def take_best(self) -> None:
        """Go back to the tables that were remembered."""

    def save(self, _checkpoints: Checkpoints, _epoch: int, _step: int) -> dict[str, Any]:
        """Write the tables of (epoch, step); what the checkpoint's state must say about them. Collective."""
        return {}

    def load(self, _checkpoints: Checkpoints, _state: dict[str, Any]) -> None:
        """Read the tables that `save` described as `_state`. Collective."""

    def forget(self, _checkpoints: Checkpoints) -> None:
        """Remove the tables of checkpoints that are gone. Only process 0 calls it."""


class ShardedStore(TableStore):
    """Tables whose rows are spread over the processes."""

    collective = True

    def __init__(self, sharded: ShardedTables) -> None:
        self._sharded, self.parameters = sharded, sharded.parameters

    def scorer(self, _: Model) -> Score:
        return self._sharded.score

    def keep_best(self) -> None:
        self._sharded.keep_best()

    def take_best(self) -> None:
        self._sharded.take_best()

    def save(self, checkpoints: Checkpoints, epoch: int, step: int) -> dict[str, Any]:
        return save_tables(self._sharded, checkpoints, epoch, step)

    def load(self, checkpoints: Checkpoints, state: dict[str, Any]) -> None:
        load_tables(self._sharded, checkpoints, state)

    def forget(self, checkpoints: Checkpoints) -> None:
        forget_tables(checkpoints)
