"""Products computed in parts against products computed whole."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from ncf.baselines import products
from ncf.baselines.products import Factors, SparseRows
from ncf.runtime import generator


@pytest.mark.parametrize("sparse", [True, False])
def test_sparse_rows_in_parts(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_SCORES_AT_ONCE", 30)
    random = np.random.default_rng(0)
    left = random.random((8, 5), dtype=np.float32)
    right = random.random((5, 11), dtype=np.float32)
    scorer = SparseRows(csr_matrix(left), csr_matrix(right) if sparse else right)
    users, items = torch.tensor([3, 0, 7, 3, 1]), torch.from_numpy(random.integers(0, 11, (5, 4)))
    expected = torch.from_numpy(left @ right)[users]
    torch.testing.assert_close(scorer.catalogue(users), expected)
    torch.testing.assert_close(scorer(users, items), expected.gather(1, items))
    assert scorer.bytes >= left.nbytes + right.nbytes


def test_factors_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_VALUES_AT_ONCE", 30)
    users_UD = torch.randn(8, 5, generator=generator(0, "u"))
    items_ID = torch.randn(11, 5, generator=generator(0, "i"))
    scorer = Factors(users_UD, items_ID)
    users, items = torch.tensor([3, 0, 7]), torch.tensor([[0, 10], [4, 4], [9, 2]])
    expected = (users_UD @ items_ID.T)[users]
    torch.testing.assert_close(scorer.catalogue(users), expected)
    torch.testing.assert_close(scorer(users, items), expected.gather(1, items))
    assert scorer.bytes == 4 * 5 * (8 + 11)
