from __future__ import annotations

import json

from ncf.data import Dataset


def test_the_description_answers_the_same_questions(dataset: Dataset) -> None:
    description = dataset.description
    questions = "schema_version source time_unit split seed options dropped counts audit"
    assert set(description) == set(questions.split())
    assert set(description["audit"]) == {"validation", "test"}
    json.dumps(description)


def test_counts_are_those_of_the_parts(dataset: Dataset) -> None:
    counts = dataset.description["counts"]
    assert counts["train"] == len(dataset.train)
    assert counts["validation"] == len(dataset.validation)
    assert counts["test"] == len(dataset.test)
    assert (
        counts["interactions"]
        == len(dataset.known.columns)
        == counts["train"] + counts["validation"] + counts["test"]
    )
    assert counts["cold_items"] == int((dataset.popularity == 0).sum())


def test_drawn_lists_have_no_defect(dataset: Dataset) -> None:
    for audit in dataset.description["audit"].values():
        assert audit["lists"] > 0
        assert (
            sum(count for defect, count in audit.items() if defect.endswith(("duplicates", "negatives"))) == 5
        )
