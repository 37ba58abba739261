"""Whether users are known to have used items, for millions of pairs at once.

In: the items of each user. Out: one bool a pair, exact. Small vocabularies are answered from a bitmap of
users x items, one bit a pair. The decision worth knowing: large ones are answered from a Bloom filter with
one hash (Bloom, CACM'70) of 16 bits or more a positive. A pair whose bit is not set is no positive. The other
pairs, among them at most one negative in sixteen, are looked up by bisection in the sorted items of their
user.

Legend: N pairs, U users, I items.
"""

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr

_BITMAP_LIMIT_BYTES = 256 * 2**20
_FILTER_BITS_A_POSITIVE = 16
_HASH = -7046029254386353131  # 2^64 / golden ratio, as a signed number (Knuth, volume 3, section 6.4)
_AT_ONCE = 2**22


class KnownPositives:
    """Answers, for many pairs at once, whether a user is known to have used an item."""

    def __init__(
        self,
        known: Csr,
        items: int,
        device: torch.device | str = "cpu",
        bitmap_limit: int = _BITMAP_LIMIT_BYTES,
    ) -> None:
        """`known` has the items (below `items`) of each user; `bitmap_limit` is in bytes."""
        self.items, self.device = items, torch.device(device)
        self._known = known
        self._stride = -(-items // 8)
        self._bitmap: Tensor | None = None
        if known.users * self._stride <= bitmap_limit:
            self._bitmap = _bitmap(known, items).to(device)
            return
        self._offsets = torch.from_numpy(np.array(known.offsets)).to(device)
        self._columns = torch.from_numpy(np.append(known.columns, np.int32(-1))).to(device)  # never empty
        self._longest = int(known.counts.max(initial=0))
        self._filter_bits = max(10, int(_FILTER_BITS_A_POSITIVE * len(known.columns)).bit_length())
        self._filter = _bloom_filter(known, items, self._filter_bits).to(device)

    def contains(self, users_N: Tensor, items_N: Tensor) -> Tensor:
        """[N] bool: whether each user is known to have used each item; both int64."""
        if self._bitmap is not None:
            return _bits(self._bitmap, users_N * (8 * self._stride) + items_N)
        known_N = _bits(self._filter, _hashes(users_N * self.items + items_N, self._filter_bits))
        # The filter has no false negatives, so only pairs with a set bit need the exact look-up.
        suspects = known_N.nonzero().squeeze(1)
        known_N[suspects] = self._bisect(users_N[suspects], items_N[suspects])
        return known_N

    def negatives_of(self, user: int) -> Tensor:
        """Every item the user is not known to have used, ascending."""
        return torch.from_numpy(np.setdiff1d(np.arange(self.items), self._known.row(user)))

    def _bisect(self, users_N: Tensor, items_N: Tensor) -> Tensor:
        """[N] bool: whether each item is among its user's sorted items; all searches go in step."""
        low, high = self._offsets[users_N], self._offsets[users_N + 1]
        end = high
        last = len(self._columns) - 1
        # As many halvings as the longest list needs; searches that are done (low == high) no longer move.
        for _ in range(max(1, self._longest).bit_length()):
            middle = (low + high) >> 1
            smaller = (self._columns[middle.clamp(max=last)] < items_N) & (low < high)
            low = torch.where(smaller, middle + 1, low)
            high = torch.where(smaller, high, middle)
        return (low < end) & (self._columns[low.clamp(max=last)] == items_N)


def _bits(table: Tensor, numbers_N: Tensor) -> Tensor:
    """[N] bool: the bits with these numbers in a table of bytes."""
    bytes_N = table[numbers_N >> 3] >> (numbers_N & 7).to(torch.uint8)
    return torch.ne(bytes_N & 1, 0)


def _hashes(keys: Tensor, bits: int) -> Tensor:
    """Multiplicative hashing: the highest `bits` bits of each product, which may overflow."""
    return torch.bitwise_and((keys * _HASH) >> (64 - bits), 2**bits - 1)


def _bloom_filter(known: Csr, items: int, bits: int) -> Tensor:
    """[2^bits / 8] uint8: the filter, with the bit of every positive set."""
    table = np.zeros(2 ** (bits - 3), dtype=np.uint8)
    for start in range(0, len(known.columns), _AT_ONCE):
        columns = known.columns[start : start + _AT_ONCE].astype(np.int64)
        positions = np.arange(start, start + len(columns))
        users = np.searchsorted(known.offsets, positions, side="right") - 1
        hashes = _hashes(torch.from_numpy(users * items + columns), bits).numpy()
        # `at`, since several positives may share a byte.
        np.bitwise_or.at(table, hashes >> 3, np.left_shift(1, hashes & 7).astype(np.uint8))
    return torch.from_numpy(table)


def _bitmap(known: Csr, items: int) -> Tensor:
    """[U * ceil(I / 8)] uint8, bit i & 7 of byte i >> 3 for item i; built a slice of users at a time."""
    users = known.users
    step = max(1, _BITMAP_LIMIT_BYTES // (8 * items))
    parts = []
    for start in range(0, users, step):
        stop = min(users, start + step)
        counts = np.diff(known.offsets[start : stop + 1])
        used = np.zeros((stop - start, items), dtype=np.bool_)
        columns = known.columns[known.offsets[start] : known.offsets[stop]]
        used[np.repeat(np.arange(stop - start), counts), columns] = True
        parts.append(np.packbits(used, axis=1, bitorder="little").ravel())
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.uint8))
