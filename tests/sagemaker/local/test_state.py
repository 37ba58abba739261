"""Records: whole, found again, and safe with several processes."""

import subprocess
import sys
from pathlib import Path

from ncf.sagemaker.local.state import Store

MODEL = {"ModelName": "m", "Tags": [{"Key": "ncf:project", "Value": "ncf"}]}
COUNT = """
import sys
from pathlib import Path
from ncf.sagemaker.local.state import Store
store = Store(Path(sys.argv[1]), "us-east-1")
for _ in range(50):
    with store.editing("model", "m") as record:
        record["count"] = record.get("count", 0) + 1
"""


def test_what_is_written_is_read_by_another(store: Store) -> None:
    store.create("model", "m", MODEL, image="x")
    record = Store(store.home, store.region).read("model", "m")
    assert record is not None
    assert (record["request"], record["image"]) == ({"ModelName": "m"}, "x")
    assert record["tags"] == MODEL["Tags"]
    assert record["arn"] == "arn:aws:sagemaker:eu-west-1:000000000000:model/m"
    assert store.named(record["arn"]) == ("model", "m")


def test_all_are_in_the_order_of_their_making(store: Store) -> None:
    for name in "bac":
        store.create("model", name, {})
    assert [one["name"] for one in store.all("model")] == ["b", "a", "c"]


def test_what_is_not_there_is_none_and_stays_away_when_edited(store: Store) -> None:
    with store.editing("model", "gone") as record:
        record["status"] = "late"
    assert store.read("model", "gone") is None
    assert store.all("model") == []


def test_an_edit_that_fails_changes_nothing(store: Store) -> None:
    store.create("model", "m", {}, status="old")
    try:
        with store.editing("model", "m") as record:
            record["status"] = "new"
            raise KeyError
    except KeyError:
        found = store.read("model", "m")
    assert found is not None
    assert found["status"] == "old"


def test_two_processes_at_once_lose_no_change(store: Store, tmp_path: Path) -> None:
    store.create("model", "m", {})
    running = [subprocess.Popen([sys.executable, "-c", COUNT, str(store.home)]) for _ in range(2)]
    assert [one.wait() for one in running] == [0, 0]
    record = store.read("model", "m")
    assert record is not None
    assert record["count"] == 100
