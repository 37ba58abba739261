from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data import PrepareOptions, catalog, prepare_catalog
from ncf.data.catalog import CATALOG, RemoteFile, cache_folder, content_digest, entry, locate
from ncf.data.published import PublishedSplit
from ncf.data.sources import Loaded
from ncf.errors import ConfigError, DataError

REPOSITORY_DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no data lay in a checkout."""
    monkeypatch.setattr(catalog, "_data_folders", list)


def write_both_forms(bundled: Path, text: Path) -> None:
    """300 users of ML-1M as they are bundled, and as the authors publish them: with ratings and times,
    unsorted.
    """
    train, test = (pl.read_parquet(REPOSITORY_DATA / f"ml-1m.{part}.parquet") for part in ("train", "test"))
    lists = pl.read_parquet(REPOSITORY_DATA / "ml-1m.negatives.parquet")["item"]
    train, test = train.filter(pl.col("user") < 300), test[:300]
    assert test["user"].to_list() == list(range(300))
    lists = lists[: 300 * 99]
    for folder in (bundled, text):
        folder.mkdir()
    train.write_parquet(bundled / "ml-1m.train.parquet")
    test.write_parquet(bundled / "ml-1m.test.parquet")
    lists.to_frame().write_parquet(bundled / "ml-1m.negatives.parquet")
    for part, table in (("train", train.sample(fraction=1, shuffle=True, seed=0)), ("test", test)):
        table = table.select("user", "item", rating=pl.lit(5), time=pl.int_range(pl.len()))
        table.write_csv(text / f"ml-1m.{part}.rating", separator="\t", include_header=False)
    with (text / "ml-1m.test.negative").open("w") as file:
        for (user, item), negatives in zip(test.iter_rows(), lists.to_numpy().reshape(300, -1), strict=True):
            file.write(f"({user},{item})\t" + "\t".join(map(str, negatives)) + "\n")


def test_every_entry_has_licence_citation_and_addresses() -> None:
    for name, known in CATALOG.items():
        assert known.name == name
        assert known.licence
        assert known.citation
        assert known.remote
        assert all(file.url.startswith("https://") and file.url.endswith(file.name) for file in known.remote)
        forms = [set(form.files) for form in known.forms]
        assert {file.name for file in known.remote} in forms


@pytest.mark.parametrize("name", ["ml-1m", "ml-100k"])
def test_weights_of_a_known_data_set_are_refused(name: str) -> None:
    options = PrepareOptions(weight="rating", repeats="sum")
    with pytest.raises(ConfigError, match="--weight, --repeats cannot be used with a "):
        prepare_catalog(name, options)


@pytest.mark.parametrize("name", [name for name, known in CATALOG.items() if known.bundled])
def test_bundled_sets_have_the_known_content(name: str) -> None:
    folder, form = locate(entry(name))
    assert folder == REPOSITORY_DATA
    assert content_digest(form.load(folder)) == form.content


def test_text_and_bundled_form_give_the_same_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_both_forms(tmp_path / "bundled", tmp_path / "text")
    known = CATALOG["ml-1m"]
    digests = {
        content_digest(form.load(tmp_path / name))
        for form, name in zip(known.forms, ("bundled", "text"), strict=True)
    }
    assert len(digests) == 1
    forms = tuple(
        replace(form, content=digest) for form, digest in zip(known.forms, 2 * [*digests], strict=True)
    )
    monkeypatch.setitem(CATALOG, "ml-1m", replace(known, forms=forms))
    from_text, from_bundled = (
        prepare_catalog("ml-1m", source=tmp_path / name)[0] for name in ("text", "bundled")
    )
    assert from_text.digest == from_bundled.digest
    assert from_text.description["source"]["from"].startswith("ml-1m (ml-1m.train.rating")


def test_other_content_is_refused(tmp_path: Path) -> None:
    for path in REPOSITORY_DATA.glob("ml-1m.*"):
        shutil.copy(path, tmp_path)
    test = pl.read_parquet(tmp_path / "ml-1m.test.parquet")
    test.reverse().write_parquet(tmp_path / "ml-1m.test.parquet")
    with pytest.raises(DataError, match=r"files of ml-1m in .* do not have the known content: remove them"):
        prepare_catalog("ml-1m", source=tmp_path)


def test_a_source_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"does not hold the files of lastfm: it needs \(lastfm\.train\.rating, "
    ):
        prepare_catalog("lastfm", source=tmp_path)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="There is no data set 'x' in the catalogue"):
        entry("x")


def test_the_folder_of_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in REPOSITORY_DATA.glob("ml-100k.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setenv("NCF_DATA", str(tmp_path))
    assert locate(entry("ml-100k"))[0] == tmp_path


def test_the_current_folder_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert tmp_path / "data" in catalog._data_folders()


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NCF_CACHE", raising=False)
    assert cache_folder() == tmp_path / "ncf"
    monkeypatch.setenv("NCF_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder(tmp_path / "asked") == tmp_path / "asked"


@pytest.mark.usefixtures("nowhere")
def test_what_is_nowhere_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = tmp_path / "publisher"
    publisher.mkdir()
    remote = CATALOG["lastfm"].remote
    train, test, lists = "0\t1\t1\n0\t2\t1\n1\t3\t1\n1\t1\t1\n", "0\t3\t1\n1\t2\t1\n", "(0,3)\t4\n(1,2)\t5\n"
    for file, text in zip(remote, (train, test, lists), strict=True):
        (publisher / file.name).write_text(text)
    forms = (replace(CATALOG["lastfm"].forms[0], content=None),)
    monkeypatch.setitem(CATALOG, "lastfm", replace(CATALOG["lastfm"], forms=forms))
    fetched: list[str] = []

    def fetch(url: str, target: Path, *_: object) -> Path:
        fetched.append(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(publisher / target.name, target))

    monkeypatch.setattr(catalog, "fetch", fetch)
    options, cache = PrepareOptions(negatives=1), tmp_path / "cache"
    digests = {prepare_catalog("lastfm", options, cache)[0].digest for _ in range(2)}
    assert len(digests) == 1
    assert fetched == [file.url for file in remote]
    assert sorted(path.name for path in (cache / "lastfm").iterdir()) == sorted(file.name for file in remote)


@pytest.mark.usefixtures("nowhere")
def test_a_download_that_fails_is_a_sentence(tmp_path: Path) -> None:
    unreachable = replace(CATALOG["lastfm"], remote=(RemoteFile("f", "http://127.0.0.1:9/f"),))
    with pytest.raises(DataError, match=r"could not be downloaded .*--source"):
        locate(unreachable, cache=tmp_path)


def test_content_digest_ignores_the_order_of_training_rows() -> None:
    draws = np.random.default_rng(0)
    users, items = np.arange(60) // 6, draws.integers(0, 30, 60)
    split = PublishedSplit(users, items, None, np.arange(10), np.arange(10), draws.integers(0, 30, (10, 4)))
    turned = replace(split, train_users=users[::-1], train_items=items[::-1])
    assert content_digest(Loaded(turned)) == content_digest(Loaded(split))
    assert split.negatives is not None
    others = (
        replace(split, negatives=np.roll(split.negatives, 1)),
        replace(split, train_items=items + 1),
        replace(split, test_items=split.test_items[::-1]),
    )
    assert len({content_digest(Loaded(other)) for other in (split, *others)}) == 4


@pytest.mark.sources
@pytest.mark.parametrize(
    ("name", "users", "items", "train", "audit"),
    [
        ("ml-1m", 6_040, 3_706, 994_169, (0, 156, 0)),
        ("ml-100k", 943, 1_682, 99_057, (0, 0, 0)),
        ("pinterest-20", 37_501, 9_836, 962_653, (0, 0, 0)),
        ("lastfm", 1_741, 2_665, 67_408, (0, 86, 1_269)),
    ],
)
def test_golden_counts_of_files_that_are_not_bundled(
    name: str, users: int, items: int, train: int, audit: tuple[int, int, int]
) -> None:
    dataset, _ = prepare_catalog(name, PrepareOptions(), source=os.environ["NCF_TEST_SOURCES"])
    assert (len(dataset.users), len(dataset.items)) == (users, items)
    assert len(dataset.train) + len(dataset.validation) == train
    counts = dataset.description["audit"]["test"]
    defects = ("with_duplicates", "positive_among_negatives", "training_positives_among_negatives")
    assert tuple(counts[defect] for defect in defects) == audit
