"""A trained model, ready to score: what depends on items alone is computed once, and layers run in place.

In: a model, as it is now. Out: logits of candidates or of all items. The decision worth knowing: it is equal
to the model's own `forward` and `catalogue` up to the last bits of float32 (tests/models/test_inference.py),
and several times as fast, as evaluation needs it.

Legend: B batch, C candidates of a user, I items, H hidden width.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr
from ncf.models.build import Model, branches, frozen_branch
from ncf.models.gmf import GMF
from ncf.models.mlp import MLP
from ncf.runtime import spans

_CHUNK_SCORES = 8192
_PRODUCT_SCORES = 2**20
_DEVICE_CHUNK_SCORES = 2**16  # 32 MB of 128 hidden units: within the cache of a large GPU


class ModelScorer:
    """Scores in float32 from a snapshot of the model's item side; after more training, make a new one."""

    def __init__(self, model: Model) -> None:
        with torch.inference_mode():
            self._branches = [
                _GmfScorer(branch) if isinstance(branch, GMF) else _MlpScorer(branch)
                for branch in map(frozen_branch, branches(model))
            ]

    @property
    def has_layers(self) -> bool:
        """Whether a score costs layers, some 50 times the time of a product."""
        return any(isinstance(branch, _MlpScorer) for branch in self._branches)

    @property
    def multiplications(self) -> int:
        """How many a score takes, by which callers bound what they rank."""
        return sum(branch.multiplications for branch in self._branches)

    @torch.inference_mode()
    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for each user."""
        return self._in_chunks(
            users_B, items_BC.shape[1], lambda branch, part: branch.pairs(users_B[part], items_BC[part])
        )

    @torch.inference_mode()
    def catalogue(self, users_B: Tensor) -> Tensor:
        """Logits [B, I] of every item."""
        return self._in_chunks(
            users_B,
            self._branches[0].items,
            lambda branch, part: branch.catalogue(users_B[part]),
            # A product of many users reads the items once; layers want their activations in the cache.
            _CHUNK_SCORES if self.has_layers else _PRODUCT_SCORES,
        )

    def _in_chunks(
        self,
        users_B: Tensor,
        width: int,
        score: Callable[["_Branch", slice], Tensor],
        on_cpu: int = _CHUNK_SCORES,
    ) -> Tensor:
        logits = torch.empty(len(users_B), width, device=users_B.device)
        at_once = on_cpu if users_B.device.type == "cpu" else _DEVICE_CHUNK_SCORES
        chunks = -(-len(users_B) * width // at_once)
        for part in spans(len(users_B), chunks) if len(users_B) else []:
            first, *others = (score(branch, part) for branch in self._branches)
            logits[part] = first
            for more in others:
                logits[part] += more
        return logits


class _GmfScorer:
    def __init__(self, model: GMF) -> None:
        self._users, self._items = model.user_table, model.item_table
        self._output, self._bias, self._item_bias = model.output, model.bias, model.item_bias
        self.items = len(model.item_table)
        self.multiplications = self._output.numel()

    def pairs(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        vectors = self._items.index_select(0, items_BC.reshape(-1)).view(*items_BC.shape, -1)
        weighted = self._users.index_select(0, users_B) * self._output
        logits = vectors.mul_(weighted[:, None]).sum(2).add_(self._bias)
        return logits if self._item_bias is None else logits.add_(self._item_bias[items_BC])

    def catalogue(self, users_B: Tensor) -> Tensor:
        bias = self._bias if self._item_bias is None else self._bias + self._item_bias
        return torch.addmm(bias, self._users.index_select(0, users_B) * self._output, self._items.T)


class _MlpScorer:
    def __init__(self, model: MLP) -> None:
        self._first, self._users = model.first, model.user_table
        self._layers = [(layer.weight.T, layer.bias) for layer in model.tower.linears()]
        self._output, self._bias = model.output, model.bias
        self._item_half = model.first.item_half(model.item_table)
        self.items = len(model.item_table)
        self.multiplications = self._output.numel() + sum(weight.numel() for weight, _ in self._layers)

    def pairs(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        hidden = self._item_half.index_select(0, items_BC.reshape(-1)).view(*items_BC.shape, -1)
        return self._tower(users_B, hidden)

    def catalogue(self, users_B: Tensor) -> Tensor:
        return self._tower(users_B, self._item_half.repeat(len(users_B), 1, 1))

    def _tower(self, users_B: Tensor, hidden_BCH: Tensor) -> Tensor:
        """The items' halves of the first layer become the activations: they are overwritten."""
        shape = hidden_BCH.shape[:2]
        hidden_BCH += self._first.user_half(self._users.index_select(0, users_B))[:, None]
        hidden = hidden_BCH.view(-1, hidden_BCH.shape[2]).relu_()
        for weight, bias in self._layers:
            hidden = torch.addmm(bias, hidden, weight).relu_()
        return (hidden @ self._output).view(shape).add_(self._bias)


def mask_items(scores_BI: Tensor, items_of: Csr, users_B: np.ndarray) -> None:
    """Set the scores of each user's items to minus infinity, in place; a user row of -1 has none."""
    known_B = np.maximum(users_B, 0)
    begin = items_of.offsets[known_B]
    lengths = np.where(users_B >= 0, items_of.offsets[known_B + 1] - begin, 0)
    rows = np.repeat(np.arange(len(users_B)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    columns = items_of.columns[np.repeat(begin, lengths) + within]
    scores_BI[torch.from_numpy(rows), torch.from_numpy(columns.astype(np.int64))] = -torch.inf


_Branch = _GmfScorer | _MlpScorer
