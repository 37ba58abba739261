"""The arithmetic of a trained model in numpy: what a request costs, and nothing else.

In: the weights of an artifact (mapped) and rows or vectors of users. Out: logits, equal to the torch modules
of `ncf.models` up to the last bits of float32 (tests/serving/test_numpy_model.py).

The one decision worth knowing: serving does without torch. A request works on a few hundred numbers at a
time, where what counts is the cost of a call and not of a product; a server without torch starts in a
fraction of the time and holds a fraction of the memory. docs/decisions.md has the figures.

A user is a *vector*, the concatenation of what the halves of the model keep of a user, known or folded in. A
vector becomes a *query* once a request: h * p_u for GMF, the user's half of the first layer for MLP. Items
have a *side*, what the halves need of an item.

Legend: B users, C items, I items of the catalogue, W width of a user vector, Q width of a query, S of an
item's side, D factors, E embedding width, H hidden width.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.integer]

_CACHED_BYTES = 32 * 2**20
_ITEMS_AT_ONCE = 8192
_ZERO = np.float32(0)


class Branch(Protocol):
    """A part of a model; the logits of the parts add up."""

    user_table: Floats
    item_table: Floats
    query_width: int
    side_width: int
    similar_width: int
    """How many columns of a side tell what an item is like."""

    def queries(self, vectors_BW: Floats) -> Floats:
        """[B, W] -> [B, Q]."""

    def side(self, vectors_CE: Floats) -> Floats:
        """[..., E] -> [..., S], of vectors of the item table."""

    def scores(self, queries_BQ: Floats, side_CS: Floats) -> Floats:
        """[B, C] of the same C items [C, S] for each user, or of items [B, C, S] of each user's own."""


class GmfBranch:
    """h * p_u is the query, q_i the side, their inner product the logit (He et al., WWW'17, equation 9).

    An item's own bias, where the model has them, is one more column of the item table, which meets a one in
    the query.
    """

    def __init__(self, weights: Mapping[str, Floats], prefix: str) -> None:
        self.user_table, self.item_table = weights[f"{prefix}user_table"], weights[f"{prefix}item_table"]
        self.output, self.bias = np.array(weights[f"{prefix}output"]), np.float32(weights[f"{prefix}bias"][0])
        self.similar_width = self.item_table.shape[1]
        self._biased = f"{prefix}item_bias" in weights
        if self._biased:
            self.item_table = np.column_stack([self.item_table, weights[f"{prefix}item_bias"]])
        self.query_width = self.side_width = self.item_table.shape[1]

    def queries(self, vectors_BW: Floats) -> Floats:
        """[B, D], or [B, D + 1] where items have biases."""
        queries: Floats = np.multiply(vectors_BW, self.output)
        if not self._biased:
            return queries
        return np.concatenate([queries, np.ones((len(queries), 1), np.float32)], axis=1)

    def side(self, vectors_CE: Floats) -> Floats:
        """The item vectors themselves."""
        return vectors_CE

    def scores(self, queries_BQ: Floats, side_CS: Floats) -> Floats:
        """[B, C]."""
        if side_CS.ndim == 2:
            logits: Floats = queries_BQ @ side_CS.T
        else:
            logits = np.matmul(side_CS, queries_BQ[:, :, None])[:, :, 0]
        logits += self.bias
        return logits


class MlpBranch:
    """The user's half of the first layer is the query, the item's half the side, the tower follows (equation
    10).
    """

    def __init__(self, weights: Mapping[str, Floats], prefix: str) -> None:
        self.user_table, self.item_table = weights[f"{prefix}user_table"], weights[f"{prefix}item_table"]
        self.user_weight, self.item_weight = (
            np.ascontiguousarray(weights[f"{prefix}first.{of}_weight"].T) for of in ("user", "item")
        )
        self.first_bias = np.array(weights[f"{prefix}first.bias"])
        self.layers = _layers(weights, f"{prefix}tower.layers.")
        self.output, self.bias = np.array(weights[f"{prefix}output"]), np.float32(weights[f"{prefix}bias"][0])
        self.query_width = self.side_width = self.similar_width = len(self.first_bias)

    def queries(self, vectors_BW: Floats) -> Floats:
        """[B, H]: W_user p_u + b."""
        return vectors_BW @ self.user_weight + self.first_bias

    def side(self, vectors_CE: Floats) -> Floats:
        """[..., H]: W_item q_i."""
        return vectors_CE @ self.item_weight

    def scores(self, queries_BQ: Floats, side_CS: Floats) -> Floats:
        """[B, C]."""
        hidden_BCH = side_CS + queries_BQ[:, None]
        hidden: Floats = hidden_BCH.reshape(-1, hidden_BCH.shape[2])
        np.maximum(hidden, _ZERO, out=hidden)
        for weight, bias in self.layers:
            hidden = hidden @ weight
            hidden += bias
            np.maximum(hidden, _ZERO, out=hidden)
        logits: Floats = hidden @ self.output
        logits += self.bias
        return logits.reshape(hidden_BCH.shape[:2])


def _layers(weights: Mapping[str, Floats], prefix: str) -> list[tuple[Floats, Floats]]:
    """Weights [H_in, H_out] and biases of the tower, in order."""
    count = sum(name.startswith(prefix) and name.endswith(".weight") for name in weights)
    return [
        (np.ascontiguousarray(weights[f"{prefix}{n}.weight"].T), np.array(weights[f"{prefix}{n}.bias"]))
        for n in range(count)
    ]


class NumpyModel:
    """A model of any kind from its weights; the kind is read from their names."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.branches: list[Branch] = []
        for kind, prefix in _branches_of(weights):
            self.branches.append(GmfBranch(weights, prefix) if kind == "gmf" else MlpBranch(weights, prefix))
        self.users, self.items = len(self.branches[0].user_table), len(self.branches[0].item_table)
        self.widths = [branch.user_table.shape[1] for branch in self.branches]
        self._parts = _slices([branch.query_width for branch in self.branches])
        self._sides: list[Floats] | None = None
        if 4 * self.items * sum(branch.side_width for branch in self.branches) <= _CACHED_BYTES:
            self._sides = [branch.side(branch.item_table) for branch in self.branches]
        self._queries_UQ: Floats | None = None
        if 4 * self.users * sum(branch.query_width for branch in self.branches) <= _CACHED_BYTES:
            self._queries_UQ = self.queries(self.user_vectors(slice(None)))

    @property
    def width(self) -> int:
        """W, the width of a user vector."""
        return sum(self.widths)

    def user_vectors(self, user_rows: Rows | slice) -> Floats:
        """[B, W] of rows of the user tables."""
        return np.concatenate([branch.user_table[user_rows] for branch in self.branches], axis=1)

    def queries(self, vectors_BW: Floats) -> Floats:
        """[B, Q], what scoring needs of a user; computed once a request."""
        parts = _slices(self.widths)
        return np.concatenate(
            [branch.queries(vectors_BW[:, part]) for branch, part in zip(self.branches, parts, strict=True)],
            axis=1,
        )

    def user_queries(self, user_rows: Rows) -> Floats:
        """[B, Q] of known users, computed beforehand where there are few."""
        if self._queries_UQ is not None:
            return self._queries_UQ.take(user_rows, axis=0)
        return self.queries(self.user_vectors(user_rows))

    def sides(self, items: Rows | slice) -> list[Floats]:
        """What each half needs of items: [C, S] or, for rows [B, C], [B, C, S]."""
        if self._sides is None:
            return [branch.side(branch.item_table[items]) for branch in self.branches]
        if isinstance(items, slice):
            return [side[items] for side in self._sides]
        return [side.take(items, axis=0) for side in self._sides]

    def scores(self, queries_BQ: Floats, sides: list[Floats]) -> Floats:
        """Logits [B, C] from what `queries` and `sides` gave."""
        logits = [
            branch.scores(queries_BQ[:, part], side)
            for branch, part, side in zip(self.branches, self._parts, sides, strict=True)
        ]
        return logits[0] if len(logits) == 1 else logits[0] + logits[1]

    def catalogue(self, queries_BQ: Floats) -> Floats:
        """Logits [B, I] of every item, a bounded number of items at a time."""
        logits = np.empty((len(queries_BQ), self.items), np.float32)
        step = max(1, _ITEMS_AT_ONCE // max(1, len(queries_BQ)))
        for start in range(0, self.items, step):
            part = slice(start, start + step)
            logits[:, part] = self.scores(queries_BQ, self.sides(part))
        return logits


def _slices(widths: list[int]) -> list[slice]:
    """Columns that follow one another."""
    ends = np.cumsum(widths).tolist()
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]


def _branches_of(weights: Mapping[str, Floats]) -> list[tuple[str, str]]:
    """(kind, prefix of the names) of each branch."""
    if "gmf.output" in weights:
        return [("gmf", "gmf."), ("mlp", "mlp.")]
    return [("mlp" if "first.bias" in weights else "gmf", "")]


def mapped_weights(path: Path) -> dict[str, Floats]:
    """The tensors of a safetensors file (a length, a JSON header, numbers) as views of the mapped file.

    Raises `ValueError` or `KeyError` where it holds anything but float32.
    """
    content = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    begin = 8 + int(content[:8].view("<u8")[0])
    header = json.loads(content[8:begin].tobytes())
    header.pop("__metadata__", None)
    if any(tensor["dtype"] != "F32" for tensor in header.values()):
        raise ValueError(f"{path.name} has numbers that are not float32")
    return {
        name: content[begin + tensor["data_offsets"][0] : begin + tensor["data_offsets"][1]]
        .view("<f4")
        .reshape(tensor["shape"])
        for name, tensor in header.items()
    }
