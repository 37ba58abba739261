"""Norms by counts: bins double, a large table is sampled."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ncf.analysis.report import norms as module
from ncf.analysis.report.inputs import open_report_inputs
from ncf.analysis.report.norms import Norms, norms, section
from ncf.data import Dataset
from reports import html, trained
from support import experiment as small


def test_norms_are_one_a_row() -> None:
    table = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    found = norms(table, np.arange(20), 0)
    assert (found.norms.shape, found.norms.dtype, found.rows) == ((20,), np.float64, 20)
    np.testing.assert_allclose(
        found.norms, [sum(value**2 for value in row.tolist()) ** 0.5 for row in table], rtol=1e-6
    )


def test_bins_are_0_1_2_to_3_4_to_7() -> None:
    counts = np.array([0, 1, 2, 3, 4, 7, 8, 15])
    middles, quantiles = Norms(counts, counts.astype(float), 8).by_count()
    assert middles.tolist() == [0, 1, 2.5, 5.5, 11.5]
    assert quantiles.shape == (3, 5)
    assert quantiles[1].tolist() == [0, 1, 2.5, 5.5, 11.5]


@given(arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 10**6)))
def test_every_row_is_in_one_bin_and_quantiles_ascend(counts: np.ndarray) -> None:
    lengths = np.sqrt(counts + 1.0)
    middles, quantiles = Norms(counts, lengths, len(counts)).by_count()
    assert (np.diff(middles) > 0).all()
    assert (np.diff(quantiles, axis=0) >= 0).all()
    assert len(middles) == len({int(count).bit_length() for count in counts})


def test_of_a_large_table_a_sample_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VECTORS", 10)
    table = np.arange(50, dtype=np.float32)[:, None]
    found, again, other = (norms(table, np.arange(50), seed) for seed in (0, 0, 1))
    assert (len(found.norms), found.rows) == (10, 50)
    assert found.norms.tolist() == found.counts.tolist() == again.norms.tolist()
    assert found.norms.tolist() != other.norms.tolist()


def test_each_pair_of_tables_is_drawn(run: object) -> None:
    body = html(section(open_report_inputs(str(run))))
    assert body.count("<svg") == 2
    for words in (
        "GMF: users",
        "MLP: items",
        "Euclidean norm",
        "interactions of the item",
    ):
        assert f">{words}<" in body
    assert "90 users by training interactions; 60 items by training interactions." in body


@pytest.mark.parametrize(("kind", "drawings"), [("history-gmf", 1), ("history-neumf", 2)])
def test_a_table_of_histories_stands_beside_the_others(
    dataset: Dataset, tmp_path: Path, kind: str, drawings: int
) -> None:
    inputs = open_report_inputs(str(trained(dataset, small(kind, epochs=1), tmp_path, "run")))
    found = section(inputs)
    assert html(found).count("<svg") == drawings
    assert html(found).count(">GMF: items of a history<") == 1
    assert "60 items, 60 items of a history by training interactions." in html(found)
    assert "the sum of the user's own part and the history" in found.reading
    look_up = inputs.artifact.history_embedding
    assert look_up is not None
    drawn = norms(look_up.table_ID, inputs.item_counts, 0)
    np.testing.assert_allclose(drawn.norms, np.linalg.norm(look_up.table_ID, axis=1), rtol=1e-6)


def test_a_dot_product_is_named_so(dataset: Dataset, tmp_path: Path) -> None:
    found = section(open_report_inputs(str(trained(dataset, small("mf", epochs=1), tmp_path, "run"))))
    assert ">MF: users<" in html(found)
    assert "history" not in html(found)
