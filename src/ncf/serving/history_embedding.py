"""The look-up: the vector of a history-aware model's user, from the history and a table, with nothing to fit.

In: the history's table, and where the order counts the ages of what each user was trained on. Out: the first
coordinates of a visitor's vector, or how those of a known user change with new items.

The one decision worth knowing: a frozen vector holds an own part and a history that cannot be told apart any
more, so the change of a known user is the history as it is now minus the history as it was trained on, both
worked out in the request.

Legend: U users, I items, N items of all users, n items of one history, m new items, D factors, P places.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from ncf.serving.attention_encoder import ENCODER, NumpyEncoder
from ncf.serving.numpy_model import Floats, Rows, mapped_weights

Ages = npt.NDArray[np.int32]
_TABLE, _RULE, _AGES, _PLACES = "history.npy", "history_rule.npy", "history_ages.npy", "history_places.npy"


@dataclass(frozen=True)
class HistoryEmbedding:
    """A visitor's first D coordinates are the sum of what the items count times their rows of `table_ID`,
    over the sum of what they count to the power `exponent`.

    With a `half_life` an item with r later ones counts 2^(-r / half_life). With `log_weights_P` it counts
    e^(what stands at place r there), or nothing behind the last place. Else it counts one. `ages_N`: of the
    items that each user is known to have used, in the artifact's order of them, how many were later in
    training; -1 of those that were not in it.
    """

    table_ID: Floats
    exponent: float
    half_life: float = 0.0
    ages_N: Ages | None = None
    log_weights_P: Floats | None = None
    whole: ClassVar[bool] = False
    """Whether users have no part of their own in these coordinates."""

    @property
    def in_order(self) -> bool:
        """Whether the order of a history counts."""
        return self.half_life > 0 or self.log_weights_P is not None

    def save(self, folder: Path) -> None:
        """Write `history.npy`, `history_rule.npy` and, where the order counts, `history_ages.npy`."""
        np.save(folder / _TABLE, self.table_ID, allow_pickle=False)
        np.save(folder / _RULE, np.array([self.exponent, self.half_life]), allow_pickle=False)
        if self.ages_N is not None:
            np.save(folder / _AGES, self.ages_N, allow_pickle=False)
        if self.log_weights_P is not None:
            np.save(folder / _PLACES, self.log_weights_P, allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> "HistoryEmbedding | None":
        """Map what `save` wrote; None where there is none."""
        if (folder / ENCODER).is_file():
            encoder = NumpyEncoder(mapped_weights(folder / ENCODER))
            ages_N = _mapped(folder / _AGES)
            return AttentionEmbedding(_mapped(folder / _TABLE), 0.0, ages_N=ages_N, encoder=encoder)
        if not (folder / _TABLE).is_file():
            return None
        exponent, half_life = np.load(folder / _RULE, allow_pickle=False).tolist()
        places = _mapped(folder / _PLACES) if (folder / _PLACES).is_file() else None
        ages = _mapped(folder / _AGES) if half_life or places is not None else None
        return cls(_mapped(folder / _TABLE), exponent, half_life, ages, places)

    def weights(self) -> dict[str, Floats]:
        """What is trained here, by the names that training has for it."""
        if self.log_weights_P is None:
            return {"history_table": self.table_ID}
        return {"history_table": self.table_ID, "log_weights": self.log_weights_P}

    def ages_of(self, span: slice) -> Ages | None:
        """[n] of one user, whose items lie at `span`; None where all count alike."""
        return None if self.ages_N is None else self.ages_N[span]

    def vector(self, rows: Rows) -> Floats:
        """[D] of one history; its rows are distinct, and oldest first."""
        return self._of_ages(rows, _ages_in_order(len(rows)))

    def trained(self, seen: Rows, ages: Ages | None) -> Floats:
        """[D] of a known user's history as it was trained on."""
        if ages is None:
            return self.vector(seen)
        return self._of_ages(seen[ages >= 0], ages[ages >= 0])

    def change(self, seen: Rows, ages: Ages, new: Rows) -> Floats:
        """[D]: what `new` items change in the vector of a history; arguments are those of `after`."""
        return self.after(seen, ages, new) - self.trained(seen, ages)

    def after(self, seen: Rows, ages: Ages, new: Rows) -> Floats:
        """[D] of a history of `seen` items with these ages, and of `new` ones (distinct, oldest first).

        Everything ages by the number of new items, less those that it was older than before; an item that
        comes again is as young as its last use.
        """
        before, ages = seen[ages >= 0], ages[ages >= 0]
        again = np.isin(before, new)
        aged = ages + len(new) - np.searchsorted(np.sort(ages[again]), ages)
        rows = np.concatenate([before[~again], new])
        return self._of_ages(rows, np.concatenate([aged[~again], _ages_in_order(len(new))]))

    def _of_ages(self, rows: Rows, ages: npt.NDArray[Any]) -> Floats:
        if not self.in_order:
            total: Floats = np.add.reduce(self.table_ID[rows], axis=0)
            return total * np.float32(max(1, len(rows)) ** -self.exponent)
        if self.log_weights_P is None:
            weights = np.exp2(-ages / self.half_life).astype(np.float32)
        else:
            counts = ages < len(self.log_weights_P)
            rows, weights = rows[counts], np.exp(self.log_weights_P[ages[counts]])
        total = weights @ self.table_ID[rows]
        return total * np.float32(max(1.0, float(weights.sum())) ** -self.exponent)


@dataclass(frozen=True)
class AttentionEmbedding(HistoryEmbedding):
    """The coordinates are what `encoder` makes of the latest items, and there is nothing else in them."""

    encoder: NumpyEncoder = field(kw_only=True)
    whole = True
    in_order = True

    def save(self, folder: Path) -> None:
        """Write what other histories have too, and the encoder."""
        super().save(folder)
        save_file(dict(self.encoder.weights), folder / ENCODER)

    def weights(self) -> dict[str, Floats]:
        encoder = {f"encoder.{name}": value for name, value in self.encoder.weights.items()}
        return {"history_table": self.table_ID, **encoder}

    def _of_ages(self, rows: Rows, ages: npt.NDArray[Any]) -> Floats:
        oldest_first = rows[np.argsort(-ages, kind="stable")]
        return self.encoder.after(self.table_ID[oldest_first[-self.encoder.length :]])


def last_of_each(rows: Rows) -> Rows:
    """The rows once each, in the order of their last occurrence."""
    latest_first = rows[::-1]
    _, places = np.unique(latest_first, return_index=True)
    return latest_first[np.sort(places)[::-1]]


def _ages_in_order(count: int) -> npt.NDArray[np.int64]:
    """[n] of items that are oldest first."""
    return np.arange(count - 1, -1, -1)


def _mapped(path: Path) -> npt.NDArray[Any]:
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return mapped
