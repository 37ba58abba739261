"""Records: whole, found again, and safe with several processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ncf.sagemaker.local.requests import Refusal
from ncf.sagemaker.local.state import Store

MODEL = {"ModelName": "m", "Tags": [{"Key": "ncf:project", "Value": "ncf"}]}
COUNT = """
import sys
from pathlib import Path
from ncf.sagemaker.local.state import Store
store = Store(Path(sys.argv[1]), "us-east-1")
record = store.get("Model", "m")
for _ in range(50):
    with store.locked():
        record.reload()
        record.set(count=record.state.get("count", 0) + 1)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", "eu-west-1")


def test_what_is_written_is_read_by_another(store: Store) -> None:
    store.add("Model", "m", MODEL, image="x")
    record = Store(store.home, store.region).get("Model", "arn:aws:sagemaker:eu-west-1:000000000000:model/m")
    assert (record.request, record.state) == ({"ModelName": "m"}, {"image": "x"})
    assert record.tags == {"ncf:project": "ncf"}
    assert record.arn == "arn:aws:sagemaker:eu-west-1:000000000000:model/m"


def test_all_are_in_the_order_of_their_making(store: Store) -> None:
    for kind, name in (("Model", "b"), ("ModelPackage", "g/1"), ("Model", "c"), ("ModelPackage", "g/2")):
        store.add(kind, name, {})
    assert [record.name for record in store.all("Model")] == ["b", "c"]
    assert [record.name for record in store.all()] == ["b", "g/1", "c", "g/2"]


def test_what_was_deleted_stays_away_when_it_is_changed(store: Store) -> None:
    record = store.add("Model", "gone", {})
    store.remove(record)
    record.set(status="late")
    assert store.all() == []
    with pytest.raises(Refusal, match="Could not find model"):
        store.get("Model", "gone")


def test_a_name_does_not_lead_out_of_the_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(Refusal, match="Could not find model"):
        store.get("Model", "../..")


def test_two_processes_at_once_lose_no_change(store: Store) -> None:
    record = store.add("Model", "m", {})
    running = [subprocess.Popen([sys.executable, "-c", COUNT, str(store.home)]) for _ in range(2)]
    assert [command.wait() for command in running] == [0, 0]
    record.reload()
    assert record.state["count"] == 100
