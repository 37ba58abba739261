"""What the columns of an item say of its vectors: for items that nobody has used.

In: the table of items. Out: features, and a ridge regression on them. Numbers are standardised, and texts are
taken as words: a category or a genre is a word of its own, and so is each word of a title, weighted by how
rare it is. The decision worth knowing: the penalty is the one with the least error by generalised
cross-validation (Golub et al., Technometrics '79), so there is nothing to set.

Legend: I items, F features, P values of an item.
"""

import numpy as np
import polars as pl

from ncf.data.item_table import OWN_COLUMNS
from ncf.serving.numpy_model import Floats

_MOST_WORDS = 500
_LEAST_ITEMS = 2
"""A word of one item alone says nothing of others."""
_PENALTIES = np.logspace(-2, 4, 13)


def item_features(items: pl.DataFrame) -> Floats | None:
    """[I, F] of the table of items; None where it has no column to learn from.

    Of words the 500 that most items have are kept; among equally frequent ones, the first by column and
    alphabet.
    """
    shown = items.drop(name for name in OWN_COLUMNS if name in items.columns)
    numbers = [
        shown[name]
        for name in shown.columns
        if shown[name].dtype.is_numeric() or shown[name].dtype == pl.Boolean
    ]
    texts = [shown[name] for name in shown.columns if shown[name].dtype == pl.String]
    parts = [part for part in (*map(_standardised, numbers), _words(texts, len(items))) if part is not None]
    return np.concatenate(parts, axis=1) if parts else None


def _standardised(column: pl.Series) -> Floats | None:
    """[I, 1 or 2]: the numbers, with the mean for missing ones, and which are missing."""
    values = column.cast(pl.Float64).to_numpy().astype(np.float64, copy=True)
    missing = ~np.isfinite(values)
    if missing.all() or float(values[~missing].std()) == 0.0:
        return None
    values = np.where(missing, 0.0, (values - values[~missing].mean()) / values[~missing].std())
    columns = [values, missing] if missing.any() else [values]
    return np.stack(columns, 1).astype(np.float32)


def _words(texts: list[pl.Series], items: int) -> Floats | None:
    """[I, at most 500]: the words of each text, of length one together."""
    tables = [
        pl.DataFrame({"item": pl.int_range(items, eager=True), "column": number, "word": text})
        .with_columns(pl.col("word").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+"))
        .explode("word")
        .drop_nulls()
        .unique()
        for number, text in enumerate(texts)
    ]
    if not tables:
        return None
    words = pl.concat(tables)
    counts = words.group_by("column", "word").len().filter(pl.col("len") >= _LEAST_ITEMS)
    counts = counts.sort(["len", "column", "word"], descending=[True, False, False]).head(_MOST_WORDS)
    counts = counts.with_columns(pl.int_range(pl.len()).alias("feature"))
    found = words.join(counts, on=["column", "word"])
    if not len(found):
        return None
    features = np.zeros((items, len(counts)), np.float32)
    features[found["item"].to_numpy(), found["feature"].to_numpy()] = (
        np.log(items / found["len"].to_numpy()) + 1
    )
    for number in range(len(texts)):
        own = counts.filter(pl.col("column") == number)["feature"].to_numpy()
        lengths = np.linalg.norm(features[:, own], axis=1, keepdims=True)
        features[:, own] /= np.maximum(lengths, 1e-9)
    return features


def from_columns(
    features_IF: Floats, known: np.ndarray, values_KP: Floats, weights_K: Floats, wanted: np.ndarray
) -> Floats:
    """[len(wanted), P]: the ridge regression of `values_KP` of the items at `known`, at those at `wanted`.

    `weights_K` say how much each known item counts.
    """
    roots = np.sqrt(weights_K / weights_K.sum())[:, None]
    x, y = features_IF[known].astype(np.float64), values_KP.astype(np.float64)
    mean_x, mean_y = (roots**2 * x).sum(0), (roots**2 * y).sum(0)
    spread = y.std(0) + 1e-9
    left, singular, right = np.linalg.svd(roots * (x - mean_x), full_matrices=False)
    target = roots * (y - mean_y) / spread
    projected = left.T @ target
    total, size = float((target**2).sum()), len(known)
    best, least = float(_PENALTIES[0]), np.inf
    for penalty in _PENALTIES / size:
        kept = singular**2 / (singular**2 + penalty)
        error = total - float(((2 * kept - kept**2)[:, None] * projected**2).sum())
        score = error / max(size - 1 - float(kept.sum()), 1e-9) ** 2  # one item alone leaves 0
        if score < least:
            best, least = float(penalty), score
    weights = right.T @ ((singular / (singular**2 + best))[:, None] * projected)
    predicted = mean_y + (features_IF[wanted] - mean_x) @ weights * spread
    return np.asarray(predicted, np.float32)
