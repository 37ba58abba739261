"""Settings by name, packages that are missing, and popularity."""

import sys

import pytest
import torch

from ncf.baselines import BASELINES
from ncf.errors import ConfigError
from ncf.runtime import Workers
from support import csr_of


def test_the_baselines_in_their_order() -> None:
    names = ["popularity", "trending", "random", "item-knn", "user-knn", "ials", "bpr", "ease"]
    assert list(BASELINES) == names


def test_settings_take_the_types_of_the_defaults() -> None:
    chosen = BASELINES["item-knn"].settings({"neighbours": 30.0, "shrink": 2})
    assert chosen == {"neighbours": 30, "shrink": 2.0}
    assert (type(chosen["neighbours"]), type(chosen["shrink"])) == (int, float)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(
        ConfigError, match=r"needs implicit, not installed here: pip install 'ncf\[evaluate\]'"
    ):
        BASELINES["bpr"].fit(csr_of([[0, 1], [1]]), 3, {}, 0, Workers(1))


def test_popularity_counts_training() -> None:
    model = BASELINES["popularity"].fit(csr_of([[0, 1], [1], [1, 3]]), 5, {}, 0, Workers(1))
    assert model.catalogue(torch.arange(2)).tolist() == [[1, 3, 0, 1, 0]] * 2
    assert model.bytes == 20
