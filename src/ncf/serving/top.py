"""The best k of scored items, in an order that does not depend on chance.

Higher scores come first; equal scores are in the order of their item rows. Minus infinity marks what may not appear.

The one decision worth knowing: score and row are packed into one integer that is larger the better the item is.
Integers are unique, so one partition and one sort give the whole order, ties included, for all users at once.

Legend: B users, C scored items of a user.
"""

import numpy as np
import numpy.typing as npt

from ncf.serving.network import Floats, Rows

_LOW = np.int64(0xFFFFFFFF)
_FEW = 512  # for one user a plain sort is faster up to here
_MAGNITUDE = np.int32(0x7FFFFFFF)


def best(scores_BC: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """Scores float32 and rows int64, both [B, min(k, C)], of `rows` [C] or [B, C] below 2**32, best first."""
    count = scores_BC.shape[1]
    k = min(k, count)
    if len(scores_BC) == 1 and count <= _FEW:
        rows_C = rows if rows.ndim == 1 else rows[0]
        order = np.lexsort((rows_C, -scores_BC[0]))[:k]
        return scores_BC[:, order], rows_C[order].astype(np.int64, copy=False)[None]
    keys = _keys(scores_BC, rows)
    if k < count:
        keys = np.partition(keys, count - k, axis=1)[:, count - k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    high = (keys >> 32).astype(np.int32)
    return _flipped(high).view(np.float32), _LOW - (keys & _LOW)


def _keys(scores_BC: Floats, rows: Rows) -> npt.NDArray[np.int64]:
    """[B, C]: the score's bits in an order of integers above, the row counted from the end below."""
    bits = (scores_BC + np.float32(0)).view(np.int32)
    return (_flipped(bits).astype(np.int64) << 32) | (_LOW - rows)


def _flipped(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Float bits to integers of the same order, and back: negative numbers have their magnitude turned around."""
    return bits ^ ((bits >> 31) & _MAGNITUDE)
