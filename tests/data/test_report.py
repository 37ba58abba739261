from __future__ import annotations

from pathlib import Path

from ncf.data import Dataset, PrepareOptions, PrepareReport, prepare_file


def test_the_report_says_what_was_read_dropped_and_made(events: Path) -> None:
    with events.open("a") as file:
        file.write("u1,105,5,99\nu1,105,5,98\n")
    _, report = prepare_file(events, PrepareOptions(negatives=5, min_rating=2, min_user=3, seed=4))
    text = "\n".join(report.lines())
    assert text.startswith("read      402 interactions from events.csv\n")
    assert "columns   user = user_id, item = item_id, time = timestamp, rating = rating" in text
    assert "repeated (user, item) pairs, the latest kept" in text
    assert "interactions below the least rating" in text
    assert "split     leave one out, the latest of each user; train " in text
    assert "seed 4" in text
    assert "audit     test: " in text
    assert "(drawn): no defect" in text


def test_nothing_dropped(events: Path) -> None:
    assert "dropped   nothing" in prepare_file(events, PrepareOptions(negatives=5))[1].lines()


def test_the_report_can_be_printed_from_a_folder(events: Path, tmp_path: Path) -> None:
    dataset, report = prepare_file(events, PrepareOptions(negatives=5))
    dataset.save(tmp_path / "out")
    assert PrepareReport(Dataset.open(tmp_path / "out").description).lines() == report.lines()
