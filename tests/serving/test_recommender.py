"""The recommender speaks the caller's ids, leaves out what it should, and says where an answer comes from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ncf.data import Vocabulary
from ncf.errors import ArtifactError, ConfigError, UnknownIdError
from ncf.serving.artifact import write_artifact
from ncf.serving.batch import write_batch
from ncf.serving.recommender import Recommender
from support import checkerboard, dataset_of, experiment, model_of


@pytest.fixture
def recommender(tmp_path: Path) -> Recommender:
    """Users 100..139, items 500..529, random weights."""
    model = model_of("neumf", 40, 30, tower=[16, 8])
    return Recommender.open(
        write_artifact(tmp_path / "artifact", model, experiment("neumf"), checkerboard(), {"test": {}}, "")
    )


def exact_order(recommender: Recommender, user: int) -> list[int]:
    """Ids in the order of the model's scores, what is seen left out."""
    scores = recommender.artifact.model.catalogue(torch.tensor([user - 100]))[0]
    seen = set(recommender.artifact.seen.row(user - 100).tolist())
    return [500 + int(row) for row in scores.argsort(descending=True) if int(row) not in seen]


def test_one_id_gives_one_answer_and_several_give_a_list(recommender: Recommender) -> None:
    one = recommender.recommend(104, k=3)
    assert (one.subject, len(one), one.source) == (104, 3, "model")
    several = recommender.recommend([104, 105], k=3)
    assert [answer.subject for answer in several] == [104, 105]
    assert several[0].items == one.items
    assert several[0].scores == pytest.approx(one.scores)
    assert recommender.recommend([], k=3) == []


def test_the_order_is_the_models_with_what_is_seen_left_out(recommender: Recommender) -> None:
    for user in range(100, 140):
        assert recommender.recommend(user, k=10).items == exact_order(recommender, user)[:10]


def test_ids_are_of_the_callers_type_however_they_are_asked(recommender: Recommender) -> None:
    by_text, by_number, by_numpy = (recommender.recommend(user, k=2) for user in ("104", 104, np.int64(104)))
    assert by_text == by_number == by_numpy
    assert all(type(item) is int for item in by_text.items)


def test_k_beyond_what_is_left_gives_what_is_left(recommender: Recommender) -> None:
    assert len(recommender.recommend(100, k=10**9)) == 15
    assert len(recommender.recommend(100, k=10**9, exclude_seen=False)) == 30


@pytest.mark.parametrize("k", [0, -1, 2.5, "10", True, None])
def test_bad_k(recommender: Recommender, k: object) -> None:
    with pytest.raises(ConfigError, match="k must be a whole number of at least 1"):
        recommender.recommend(100, k=k)  # type: ignore[arg-type]


def test_candidates_and_exclusions(recommender: Recommender) -> None:
    wanted = exact_order(recommender, 100)
    some = [*wanted[3:8], 999]
    answer = recommender.recommend(100, k=10, candidates=some)
    assert answer.items == wanted[3:8]
    assert answer.ignored == [999]
    assert recommender.recommend(100, k=2, exclude=[wanted[0], "x"]).items == wanted[1:3]
    assert recommender.recommend(100, k=10, candidates=[]).items == []
    assert recommender.recommend(100, k=5, candidates=some, exclude=some).items == []


def test_unknown_users_get_the_popular_and_are_told(recommender: Recommender) -> None:
    answer = recommender.recommend("nobody", k=30)
    popularity = recommender.artifact.item_columns["popularity"].to_list()
    assert (answer.subject, answer.source) == ("nobody", "popularity")
    assert answer.items == sorted(range(500, 530), key=lambda item: (-popularity[item - 500], item))
    mixed = recommender.recommend([104, "nobody"], k=2)
    assert [one.source for one in mixed] == ["model", "popularity"]
    with pytest.raises(UnknownIdError, match="does not know user 'nobody' and 1 others"):
        recommender.recommend(["nobody", 104, 7], strict=True)


def test_what_is_trending_is_the_fallback_and_a_list_of_its_own(
    recommender: Recommender, tmp_path: Path
) -> None:
    dataset, recipe = checkerboard(), experiment("neumf", trending="7d")
    lately = pl.Series("trending", np.random.default_rng(0).integers(0, 3, 30))
    dataset = replace(dataset, item_columns=dataset.item_columns.with_columns(lately))
    model = model_of("neumf", 40, 30, tower=[16, 8])
    folder = write_artifact(tmp_path / "trending", model, recipe, dataset, {"test": {}}, "")
    trending, popularity = Recommender.open(folder), dataset.popularity
    order = sorted(range(500, 530), key=lambda i: (-lately[i - 500], -popularity[i - 500], i))
    answer = trending.trending(30, exclude=[order[1], "nothing"])
    assert (answer.subject, answer.source, answer.ignored) == (None, "trending", ["nothing"])
    assert answer.items == [order[0], *order[2:]]
    assert answer.scores[0] == lately.max()
    assert trending.trending(3, candidates=[order[9], order[4]]).items == [order[4], order[9]]
    for fallback in (trending.recommend("nobody", 30), trending.recommend_visitor([], 30)):
        assert (fallback.items, fallback.source) == (order, "trending")
    assert trending.recommend(104, 3).items == recommender.recommend(104, 3).items
    with pytest.raises(ConfigError, match=r"trained without a window .* --set train\.trending=7d"):
        recommender.trending()
    write_artifact(tmp_path / "lacks", model, recipe, checkerboard(), {"test": {}}, "")
    with pytest.raises(ArtifactError, match="the trending of an item is no number"):
        Recommender.open(tmp_path / "lacks")


def test_scores_of_pairs(recommender: Recommender) -> None:
    scores = recommender.score([104, 104, 110], [500, 501, 529])
    assert scores.shape == (3,)
    assert scores.dtype == np.float32
    catalogue = recommender.artifact.model.catalogue(torch.tensor([4, 10]))
    expected = [catalogue[0, 0], catalogue[0, 1], catalogue[1, 29]]
    np.testing.assert_allclose(scores, [float(value) for value in expected], rtol=1e-5, atol=1e-6)
    with pytest.raises(UnknownIdError, match="does not know item 999"):
        recommender.score([104], [999])
    with pytest.raises(ConfigError, match="as many users as items"):
        recommender.score([104], [])


def test_similar_items_by_cosine(recommender: Recommender) -> None:
    vectors = torch.nn.functional.normalize(recommender.artifact.model.item_vectors(), dim=1).detach()
    cosine = vectors @ vectors[7]
    cosine[7] = -2
    answer = recommender.similar_items(507, k=4)
    assert answer.items == [500 + int(row) for row in cosine.argsort(descending=True)[:4]]
    assert answer.source == "similar"
    with pytest.raises(UnknownIdError, match="does not know item 'x'"):
        recommender.similar_items("x")


def test_descriptions_have_titles_where_there_are_any(recommender: Recommender) -> None:
    known, unknown = recommender.describe([503, 999])
    assert (known["id"], known["title"]) == (503, "Item 3")
    assert unknown == {"id": 999}


@pytest.mark.parametrize("at_once", [1, 7, 256])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_batch_has_the_rows_of_recommend(
    recommender: Recommender, tmp_path: Path, at_once: int, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncf.serving.batch._USERS_AT_ONCE", at_once)
    output = tmp_path / f"recs{suffix}"
    written = write_batch(recommender, output, k=4)
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    table = read(output)
    assert (written.users, written.rows, len(table)) == (40, 160, 160)
    assert table.columns == ["user", "rank", "item", "score"]
    for answer in recommender.recommend(list(range(100, 140)), k=4):
        rows = table.filter(pl.col("user") == answer.subject)
        assert rows["item"].to_list() == answer.items
        assert rows["rank"].to_list() == [1, 2, 3, 4]


def test_a_batch_without_withdrawn_items(recommender: Recommender, tmp_path: Path) -> None:
    written = write_batch(recommender, tmp_path / "recs.csv", k=4, exclude=[503, "517", 999])
    table = pl.read_csv(tmp_path / "recs.csv")
    assert (written.rows, written.unknown) == (160, 1)
    assert not {503, 517} & set(table["item"])
    for answer in recommender.recommend([100, 139], k=4, exclude=[503, 517]):
        assert table.filter(pl.col("user") == answer.subject)["item"].to_list() == answer.items


def test_batch_formats_are_named(recommender: Recommender, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in one of .parquet, .csv, .jsonl"):
        write_batch(recommender, tmp_path / "recs.xlsx")


def test_a_visitor_is_answered_from_the_history(recommender: Recommender) -> None:
    answer = recommender.recommend_visitor([503, "505", 999], k=5)
    assert (answer.subject, answer.source, answer.ignored) == (None, "fold_in", [999])
    assert len(answer) == 5
    assert not {503, 505} & set(answer.items)
    assert recommender.recommend_visitor(["505", 503], k=5).items == answer.items
    assert {503, 505} <= set(recommender.recommend_visitor([503, 505], k=30, exclude_seen=False).items)


@pytest.mark.parametrize("history", [[], [999], ["x", "y"]])
def test_an_empty_history_falls_back_on_popularity(recommender: Recommender, history: list[object]) -> None:
    answer = recommender.recommend_visitor(history, k=3)
    assert (answer.source, answer.ignored) == ("popularity", history)
    assert answer.items == recommender.recommend("nobody", k=3).items


def test_a_history_of_items_nobody_used_falls_back_on_popularity(tmp_path: Path) -> None:
    dataset = dataset_of([(user, item) for user in range(20) for item in range(8)], 20, 10)
    model = model_of("neumf", 20, 10, tower=[16, 8])
    recommender = Recommender.open(
        write_artifact(tmp_path / "a", model, experiment("neumf"), dataset, {"test": {}}, "")
    )
    answer = recommender.recommend_visitor([508, 509], k=20)
    assert (answer.source, answer.ignored, len(answer)) == ("popularity", [], 8)
    assert recommender.recommend_visitor([508, 503], k=20).source == "fold_in"


def test_an_unknown_user_with_history_is_a_visitor_with_a_name(recommender: Recommender) -> None:
    answer = recommender.recommend("nobody", k=4, history=[503, 505])
    assert (answer.subject, answer.source) == ("nobody", "fold_in")
    assert answer.items == recommender.recommend_visitor([503, 505], k=4).items


def test_a_known_user_with_history_has_both(recommender: Recommender) -> None:
    plain = recommender.recommend(104, k=5)
    new = [501, 503, 507]
    both = recommender.recommend("104", k=5, history=new)
    assert (both.subject, both.source) == (104, "fold_in")
    assert not set(new) & set(both.items)
    assert both.scores != plain.scores
    seen = [500 + int(row) for row in recommender.artifact.seen.row(4)]
    nothing_new = recommender.recommend(104, k=5, history=seen[:3])
    assert (nothing_new.items, nothing_new.source) == (plain.items, "model")
    assert recommender.recommend(104, k=5, history=["x"]).source == "model"
    with pytest.raises(ConfigError, match="A history belongs to one user, but there are 2"):
        recommender.recommend([104, 105], history=new)


@pytest.mark.parametrize("exact", [True, False])
def test_exact_and_candidates_agree(recommender: Recommender, exact: bool) -> None:
    opened = Recommender.open(recommender.artifact.folder, exact=exact)
    assert opened.recommend(107, k=6).items == exact_order(opened, 107)[:6]


def test_everything_excluded_leaves_nothing(recommender: Recommender) -> None:
    everything = list(range(500, 530))
    for user in (104, "nobody"):
        assert recommender.recommend(user, exclude=everything).items == []
    assert recommender.recommend_visitor([503], exclude=everything).items == []
    assert recommender.similar_items(503, exclude=everything).items == []


def test_duplicate_candidates_count_once(recommender: Recommender) -> None:
    assert recommender.recommend(104, candidates=[501, 501, "501", 503], k=10).items in (
        [501, 503],
        [503, 501],
    )


def test_similar_items_take_filters(recommender: Recommender) -> None:
    ranked = recommender.similar_items(507, k=29).items
    assert recommender.similar_items(507, k=3, exclude=ranked[:2]).items == ranked[2:5]
    assert recommender.similar_items(507, k=9, candidates=[ranked[5], ranked[1], 507]).items == [
        ranked[1],
        ranked[5],
    ]


def test_scores_of_many_pairs_and_of_none(recommender: Recommender) -> None:
    users, items = [100 + n % 40 for n in range(700)], [500 + n % 30 for n in range(700)]
    scores = recommender.score(users, items)
    assert scores.shape == (700,)
    assert scores[600] == pytest.approx(recommender.score(users[600:601], items[600:601])[0], rel=1e-5)
    assert recommender.score([], []).shape == (0,)


@pytest.mark.parametrize("users", ["integer", "string"])
def test_text_ids_come_back_as_text(tmp_path: Path, users: str) -> None:
    dataset = checkerboard()
    names = [f"ü{row:02}" for row in range(40)] if users == "string" else list(range(100, 140))
    items = [f"i {row:02}" for row in range(30)]
    columns = dataset.item_columns.with_columns(pl.Series("id", items))
    dataset = replace(
        dataset, users=Vocabulary.build(names), items=Vocabulary.build(items), item_columns=columns
    )
    folder = write_artifact(
        tmp_path / "a",
        model_of("neumf", 40, 30, tower=[16, 8]),
        experiment("neumf"),
        dataset,
        {"test": {}},
        "",
    )
    answer = Recommender.open(folder).recommend(names[4], k=3, exclude=["i 01", "ü"])
    assert answer.subject == names[4]
    assert all(isinstance(item, str) for item in answer.items)
    assert answer.ignored == ["ü"]
