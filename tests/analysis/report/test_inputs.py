"""What of an artifact, its run and its data is there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ncf.analysis.report.inputs import open_report_inputs
from ncf.data import Dataset
from ncf.errors import ArtifactError, DataError
from reports import trained
from support import checkerboard
from support import experiment as small


def test_a_run_knows_its_data_and_its_curves(run: Path, dataset: Dataset) -> None:
    inputs = open_report_inputs(run)
    assert (inputs.run, inputs.missing, inputs.counted) == (run, "", "training interactions")
    assert list(inputs.histories) == ["small-neumf"]
    assert len(inputs.histories["small-neumf"]) == 4
    assert inputs.user_counts.shape == (90,)
    assert inputs.user_counts.dtype == np.int64
    assert inputs.user_counts.tolist() == [len(dataset.seen_in_training.row(user)) for user in range(90)]
    assert inputs.held_out.user_rows.tolist() == sorted(dataset.test.user_rows.tolist())


def test_validation_counts_where_it_was_trained_on(dataset: Dataset, tmp_path: Path) -> None:
    run = trained(dataset, small("gmf", epochs=1, validation="include"), tmp_path, "gmf")
    expected = dataset.with_validation_in_training()
    inputs = open_report_inputs(run)
    assert inputs.user_counts.tolist() == expected.train.user_counts(90).tolist()
    assert inputs.item_counts.tolist() == expected.popularity.tolist()


def test_an_artifact_alone_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "artifact", tmp_path / "model")
    inputs = open_report_inputs(tmp_path / "model")
    assert (inputs.run, inputs.dataset) == (None, None)
    assert inputs.missing == (
        "Some sections are left out, as the training data were not found: give --data with made-up."
    )
    assert len(inputs.held_out) == 0
    assert inputs.counted == "known interactions, including those held out"


def test_data_that_have_moved_or_changed_are_a_sentence_and_given_ones_an_error(
    run: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    document = json.loads((moved / "run.json").read_text())
    document["data"]["path"] = str(tmp_path / "gone")
    (moved / "run.json").write_text(json.dumps(document))
    assert f"are not in {tmp_path / 'gone'} any more" in open_report_inputs(moved).reason
    checkerboard().save(tmp_path / "gone")
    assert "give --data with the folder it was trained on" in open_report_inputs(moved).reason
    with pytest.raises(DataError, match="give --data with the folder it was trained on"):
        open_report_inputs(moved, tmp_path / "gone")
    with pytest.raises(DataError, match="is not a prepared data folder"):
        open_report_inputs(moved, tmp_path / "nothing")


def test_a_fused_model_has_the_curves_of_its_halves(fused: Path, tmp_path: Path) -> None:
    histories = open_report_inputs(fused).histories
    assert {name: len(curve) for name, curve in histories.items()} == {"gmf": 2, "mlp": 2, "small-neumf": 2}
    run = Path(shutil.copytree(fused, tmp_path / "fused"))
    shutil.rmtree(run / "gmf")
    assert list(open_report_inputs(run).histories) == ["mlp", "small-neumf"]


def test_anything_but_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="There is no"):
        open_report_inputs(tmp_path / "nothing")
