"""The command line: what is printed where, and with which exit code. Most commands run in the tests' own
process."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ncf.cli import main
from ncf.serving.recommender import Recommender
from processes import wait_until

ENVIRONMENT = {**os.environ, "COLUMNS": "120", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
RECIPE = """
name = "small"
[model]
kind = "neumf"
factors = 8
embedding = 8
tower = [16, 8]
[train]
epochs = 3
batch_size = 256
threads = 1
learning_rate = 0.01
[evaluation]
bootstrap = 50
"""


def ncf(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `ncf` in this process, which has imported torch already, and check its exit code."""
    out, err, exit_code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["ncf", *map(str, arguments)])
        for name in ("COLUMNS", "OMP_NUM_THREADS"):
            patch.setenv(name, ENVIRONMENT[name])
        try:
            main()
        except SystemExit as ended:
            exit_code = int(ended.code or 0)
    assert exit_code == code, out.getvalue() + err.getvalue()
    return subprocess.CompletedProcess([], exit_code, out.getvalue(), err.getvalue())


def as_process(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `ncf` as a user does and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "ncf", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """The modules that a command has imported at its end."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from ncf.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def refused(*arguments: object, cwd: Path) -> str:
    """The one sentence of a refusal: exit code 2, nothing on standard output, no traceback."""
    done = ncf(*arguments, cwd=cwd, code=2)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("ncf: ")
    return sentence


def events(rows: int = 3000) -> pl.DataFrame:
    random = np.random.default_rng(0)
    taste = random.normal(size=(80, 3)) @ random.normal(size=(3, 60)) + random.gumbel(size=(80, 60))
    users, items = np.nonzero(np.argsort(np.argsort(-taste, axis=1), axis=1) < rows // 80)
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": items + 1000,
            "ts": random.permutation(len(users)) + 1_600_000_000,
        }
    )


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared data set and a trained run; tests only read it."""
    folder = tmp_path_factory.mktemp("project")
    events().write_csv(folder / "events.csv")
    titles = pl.DataFrame({"item_id": range(1000, 1060), "title": [f"Film {n}" for n in range(60)]})
    titles.write_csv(folder / "titles.csv")
    (folder / "small.toml").write_text(RECIPE)
    ncf("prepare", "--input", "events.csv", "--time", "ts", "--items", "titles.csv", "--negatives", 20,
        "--output", "data/mine", cwd=folder)  # fmt: skip
    ncf("train", "small.toml", "--data", "data/mine", "--output", "runs/small", cwd=folder)
    return folder


def parsed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object on standard output."""
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def test_help_is_quick_to_import_and_lists_the_commands(tmp_path: Path) -> None:
    done = as_process("--help", cwd=tmp_path)
    for command in ("prepare", "train", "evaluate", "compare", "recommend", "batch"):
        assert command in done.stdout
    heavy = {"torch", "scipy", "polars", "numpy", "pydantic", "rich", "requests"}
    assert not heavy & loaded("--help", cwd=tmp_path)
    assert not {"ncf.cli.sagemaker.jobs", "ncf.cli.sagemaker.upkeep"} & loaded("--help", cwd=tmp_path)


def test_one_recommendation_loads_neither_torch_nor_what_others_need(project: Path) -> None:
    modules = loaded("recommend", "runs/small", "--user", "u42", cwd=project)
    assert {"polars", "ncf.serving.recommender"} <= modules
    heavy = {"torch", "scipy", "requests", "pooch", "filelock", "psutil", "faiss", "rich.progress", "boto3"}
    ours = {"ncf.data.catalog", "ncf.data.readers", "ncf.serving.schemas", "ncf.cli.training", "ncf.models"}
    assert not (heavy | ours) & modules


def test_prepare_tells_what_it_did(project: Path, tmp_path: Path) -> None:
    done = ncf(
        "prepare",
        "--input",
        project / "events.csv",
        "--user",
        "user_id",
        "--item",
        "item_id",
        "--time",
        "ts",
        "--negatives",
        20,
        "--output",
        tmp_path / "out",
        cwd=tmp_path,
    )
    for word in ("read", "dropped", "kept", "split", "audit", "wrote"):
        assert f"{word} " in done.stdout


def test_evaluate_prints_a_table_and_one_json_object(project: Path) -> None:
    assert "ndcg@10" in ncf("evaluate", "runs/small", cwd=project).stdout
    result = parsed(ncf("evaluate", "runs/small", "--json", cwd=project))
    assert 0.0 < result["metrics"]["hr@10"] <= 1.0
    assert result["metrics"]["ndcg@10"] <= result["metrics"]["hr@10"]
    assert result["intervals"]["hr@10"][0] <= result["metrics"]["hr@10"] <= result["intervals"]["hr@10"][1]
    assert result["protocol"] == "sampled"
    full = parsed(ncf("evaluate", "runs/small", "--full", "-k", 5, "--json", cwd=project))
    assert full["protocol"] == "full"
    assert full["metrics"]["hr@5"] <= result["metrics"]["hr@5"]
    assert 0 < full["metrics"]["coverage@10"] <= 1


def test_evaluate_other_ties_and_splits(project: Path) -> None:
    validation = parsed(ncf("evaluate", "runs/small", "--split", "validation", "--json", cwd=project))
    assert validation["split"] == "validation"
    assert (
        parsed(ncf("evaluate", "runs/small", "--ties", "pessimistic", "--json", cwd=project))["ties"]
        == "pessimistic"
    )
    for option in ("--split", "--protocol", "--by", "--ties"):
        done = ncf("evaluate", "runs/small", option, "x", cwd=project, code=2)
        assert f"Invalid value for '{option}'" in done.stderr


def test_recommend_for_people_and_for_programs(project: Path) -> None:
    done = ncf("recommend", "runs/small", "--user", "u42", "-k", 5, cwd=project)
    assert "For user u42" in done.stdout
    assert "Film" in done.stdout
    answers = parsed(
        ncf("recommend", "runs/small", "--user", "u42", "--user", "stranger", "-k", 5, "--json", cwd=project)
    )
    known, unknown = answers["recommendations"]
    assert (known["user"], known["source"], unknown["source"]) == ("u42", "model", "popularity")
    assert [set(item) >= {"item", "score", "title"} for item in known["items"]] == [True] * 5
    assert all(isinstance(item["item"], int) for item in known["items"])
    used = set(events().filter(pl.col("user_id") == "u42")["item_id"])
    assert not used & {item["item"] for item in known["items"]}


def test_recommend_from_a_file_similar_items_and_filters(project: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text("u1\n\nu2\n")
    answers = parsed(ncf("recommend", "runs/small", "--users-file", users, "--json", cwd=project))[
        "recommendations"
    ]
    assert [answer["user"] for answer in answers] == ["u1", "u2"]
    similar = parsed(ncf("recommend", "runs/small", "--similar-to", 1005, "-k", 3, "--json", cwd=project))
    (answer,) = similar["recommendations"]
    assert (answer["item"], answer["source"], len(answer["items"])) == (1005, "similar", 3)
    filtered = ncf(
        "recommend",
        "runs/small",
        "--user",
        "u1",
        "--candidate",
        1003,
        "--candidate",
        77,
        "--include-seen",
        "--json",
        cwd=project,
    )
    assert [item["item"] for item in parsed(filtered)["recommendations"][0]["items"]] == [1003]
    assert parsed(filtered)["recommendations"][0]["ignored"] == ["77"]


def test_batch_writes_every_user(project: Path, tmp_path: Path) -> None:
    output = tmp_path / "recs.parquet"
    result = parsed(ncf("batch", "runs/small", "--output", output, "-k", 4, "--json", cwd=project))
    table = pl.read_parquet(output)
    assert result["rows"] == len(table) == 80 * 4
    alone = parsed(ncf("recommend", "runs/small", "--user", "u7", "-k", 4, "--json", cwd=project))
    expected = [item["item"] for item in alone["recommendations"][0]["items"]]
    assert table.filter(pl.col("user") == "u7").sort("rank")["item"].to_list() == expected


def test_compare_says_whether_two_runs_differ(project: Path, tmp_path: Path) -> None:
    ncf("train", "small.toml", "--data", "data/mine", "--output", tmp_path / "gmf", "--set", "model.kind=gmf",
        "--set", "train.epochs=1", cwd=project)  # fmt: skip
    assert "95% interval" in ncf("compare", "runs/small", tmp_path / "gmf", cwd=project).stdout
    same = parsed(ncf("compare", "runs/small", "runs/small", "--json", cwd=project))
    assert same["metrics"]["hr@10"]["p_value"] == 1.0


def test_the_same_seed_gives_the_same_figures(project: Path, tmp_path: Path) -> None:
    again = parsed(
        ncf(
            "train",
            "small.toml",
            "--data",
            "data/mine",
            "--output",
            tmp_path / "again",
            "--json",
            cwd=project,
        )
    )
    first = parsed(ncf("evaluate", "runs/small", "--json", cwd=project))
    assert again["test"]["metrics"] == first["metrics"]


def test_training_and_evaluation_end_with_the_verdict(project: Path, tmp_path: Path) -> None:
    command = ("train", "small.toml", "--data", "data/mine", "--output", tmp_path / "r")
    done = ncf(*command, "--set", "train.learning_rate=1e-9", "--set", "train.epochs=1", cwd=project)
    line = done.stdout.splitlines()[-1]
    recorded = json.loads((tmp_path / "r/artifact/metrics.json").read_text())["verdict"]
    assert line == recorded["line"]
    assert done.stderr.splitlines()[-1] == f"Warning: {recorded['warning']}"
    assert "does not beat the closed form in the candidate lists" in recorded["warning"], "it learned nothing"
    for more in ([], ["--protocol", "sampled"], ["--full"]):
        assert ncf("evaluate", tmp_path / "r", *more, cwd=project).stdout.splitlines()[-1] == line
    other = parsed(ncf("evaluate", tmp_path / "r", "-k", 5, "--json", cwd=project))["verdict"]
    assert other["metric"] == "hr@5"
    assert other["sampled"]["model"]["hr@5"] <= recorded["sampled"]["model"]["hr@10"]


def test_best_on_test_is_called_optimistic(project: Path, tmp_path: Path) -> None:
    done = ncf(
        "train",
        "small.toml",
        "--data",
        "data/mine",
        "--output",
        tmp_path / "r",
        "--report-best-on-test",
        cwd=project,
    )
    assert "Best epoch on test, as papers report it (optimistic)" in done.stdout
    assert (
        "Best epoch on test"
        not in ncf(
            "train", "small.toml", "--data", "data/mine", "--output", tmp_path / "s", cwd=project
        ).stdout
    )


def test_pretraining_trains_both_halves_or_takes_them(project: Path, tmp_path: Path) -> None:
    for kind in ("gmf", "mlp"):
        (tmp_path / f"{kind}.toml").write_text(
            RECIPE.replace('"small"', f'"{kind}"').replace('"neumf"', f'"{kind}"')
        )
    fused = tmp_path / "fused.toml"
    fused.write_text(RECIPE + '[pretraining]\ngmf = "gmf.toml"\nmlp = "mlp.toml"\nalpha = 0.5\n')
    data = ("--data", project / "data/mine")
    ncf("train", fused, *data, "--output", tmp_path / "fused", cwd=tmp_path)
    assert {path.name for path in (tmp_path / "fused").iterdir()} >= {"gmf", "mlp", "artifact"}
    taken = parsed(ncf("train", fused, *data, "--output", tmp_path / "taken", "--gmf", tmp_path / "fused/gmf",
                       "--mlp", tmp_path / "fused/mlp", "--json", cwd=tmp_path))  # fmt: skip
    half = json.loads((tmp_path / "fused/gmf/artifact/metrics.json").read_text())
    assert "verdict" in taken
    assert "verdict" not in half, "only the whole model is compared"
    whole = parsed(ncf("evaluate", tmp_path / "fused", "--json", cwd=tmp_path))
    assert taken["test"]["metrics"] == whole["metrics"]
    only = parsed(
        ncf(
            "train",
            fused,
            *data,
            "--output",
            tmp_path / "only",
            "--set",
            "train.epochs=0",
            "--json",
            cwd=tmp_path,
        )
    )
    assert only["selected"] == "the start, not trained on"
    swapped = refused("train", fused, *data, "--output", tmp_path / "x", "--gmf", tmp_path / "fused/mlp",
                      "--mlp", tmp_path / "fused/gmf", cwd=tmp_path)  # fmt: skip
    assert "--gmf takes a run of kind gmf" in swapped
    other = refused("train", fused, *data, "--output", tmp_path / "y", "--gmf", tmp_path / "fused/gmf",
                    "--mlp", tmp_path / "fused/mlp", "--set", "model.factors=4", cwd=tmp_path)  # fmt: skip
    assert "do not fit the NeuMF's sizes" in other
    assert "[pretraining] table" in refused(
        "train",
        project / "small.toml",
        *data,
        "--output",
        tmp_path / "z",
        "--gmf",
        tmp_path / "fused/gmf",
        cwd=tmp_path,
    )


LONG = ["train", "small.toml", "--data", "data/mine", "--set", "train.epochs=60", "--output"]


@pytest.fixture(scope="session")
def whole(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of a run of 60 epochs that was not disturbed."""
    return parsed(ncf(*LONG, tmp_path_factory.mktemp("whole") / "run", "--json", cwd=project))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_run_resumes_and_ends_like_one_that_was_not(
    project: Path, tmp_path: Path, whole: dict[str, Any], number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ncf", *LONG, str(tmp_path / "run")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project, env=ENVIRONMENT,
    )  # fmt: skip
    wait_until(lambda: len(list((tmp_path / "run" / "checkpoints").glob("epoch-*"))) > 0)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, errors
        assert "run the same command with --resume to continue" in errors
    assert "has not finished" in refused("evaluate", tmp_path / "run", cwd=project)
    resumed = parsed(ncf(*LONG, tmp_path / "run", "--resume", "--json", cwd=project))
    assert [row["epoch"] for row in resumed["history"]] == list(range(1, 61))
    assert [row["loss"] for row in resumed["history"]] == [row["loss"] for row in whole["history"]]
    assert resumed["test"] == whole["test"]


def test_a_second_run_over_the_first_is_refused_or_asked_for(project: Path, tmp_path: Path) -> None:
    arguments = (
        "train",
        "small.toml",
        "--data",
        "data/mine",
        "--set",
        "train.epochs=1",
        "--output",
        tmp_path / "run",
    )
    ncf(*arguments, cwd=project)
    before = (tmp_path / "run/artifact/manifest.json").read_bytes()
    assert "continue it with --resume, replace it with --overwrite" in refused(*arguments, cwd=project)
    assert (tmp_path / "run/artifact/manifest.json").read_bytes() == before
    ncf(*arguments, "--overwrite", cwd=project)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    sentence = refused(
        "train",
        "small.toml",
        "--data",
        "data/mine",
        "--output",
        tmp_path / "mine",
        "--overwrite",
        cwd=project,
    )
    assert "holds files that are not a run" in sentence
    assert (tmp_path / "mine/thesis.txt").read_text() == "precious"


def test_runs_without_an_output_get_names_of_their_own(project: Path, tmp_path: Path) -> None:
    arguments = ("train", project / "small.toml", "--data", project / "data/mine", "--set", "train.epochs=1")
    first, second = (parsed(ncf(*arguments, "--json", cwd=tmp_path))["run"] for _ in range(2))
    assert (first, second) == ("runs/small", "runs/small-2")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.csv", "", "empty"),
        ("columns.csv", "a,b\n1,2\n", "user"),
        ("text.csv", "user_id,item_id,ts\n1,2,yesterday\n2,3,4\n", "ts"),
        ("one-user.csv", "user_id,item_id,ts\n1,2,3\n1,3,4\n1,4,5\n", "user"),
        ("one-item.csv", "user_id,item_id,ts\n1,2,3\n2,2,4\n3,2,5\n", "item"),
        ("negative.csv", "user_id,item_id,ts\n1,2,-3\n2,3,4\n", "negative"),
        ("nan.csv", "user_id,item_id,ts\n1,NaN,3\n2,3,4\n", "item"),
        ("cut.csv", "user_id,item_id,ts\n1,2,3\n2,3,4\n3,", "cut|line|missing|empty"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_in_one_sentence(
    tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    import re

    (tmp_path / name).write_text(content)
    message = refused("prepare", "--input", name, "--time", "ts", "--output", "out", cwd=tmp_path)
    assert re.search(sentence, message), message
    assert not (tmp_path / "out").exists()


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(events().write_csv().encode())
    (tmp_path / "events.csv.gz").write_bytes(content[: len(content) // 2])
    refused("prepare", "--input", "events.csv.gz", "--output", "out", cwd=tmp_path)


def test_users_of_the_test_alone_are_kept_and_counted(project: Path, tmp_path: Path) -> None:
    lines = [f"{user}\t{item}\t1\t0" for user in range(5) for item in range(user, user + 6)]
    (tmp_path / "x.train.rating").write_text("\n".join(lines) + "\n")
    (tmp_path / "x.test.rating").write_text("".join(f"{user}\t{user + 7}\t1\t0\n" for user in range(6)))
    negatives = "".join(f"({user},{user + 7})\t20\t21\n" for user in range(6))
    (tmp_path / "x.test.negative").write_text(negatives)
    done = ncf("prepare", "--ncf", "x", "--output", "out", "--negatives", 3, cwd=tmp_path)
    assert "1 test users without a training interaction, kept" in done.stdout
    ncf("prepare", "--ncf", "x", "--output", "less", "--drop-unknown-users", "--negatives", 3, cwd=tmp_path)
    arguments = ("train", project / "small.toml", "--set", "train.epochs=1", "--quiet")
    done = ncf(*arguments, "--data", "out", "--output", "run", cwd=tmp_path)
    assert re.search(r"1 users are not in training.*Without them, test: HR@10 1.0000, NDCG@10 ", done.stdout)
    assert "HR@5, HR@10, HR@20 and recall there are 1 for any model" in done.stdout
    figures = parsed(ncf("evaluate", "run", "--protocol", "both", "--json", cwd=tmp_path))
    assert figures["sampled"]["cold_users"] == figures["full"]["cold_users"] == 1
    assert (
        "cold_users"
        not in ncf(*arguments, "--data", "less", "--output", "run2", "--json", cwd=tmp_path).stdout
    )


def test_a_split_without_lists_from_files_to_figures(project: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    own = [random.permutation(np.arange(user % 2, 60, 2)).tolist() for user in range(30)]
    for name, part in (("train", slice(4, None)), ("test", slice(0, 4))):
        lines = "".join(f"u{user} {' '.join(map(str, items[part]))}\n" for user, items in enumerate(own))
        (tmp_path / f"{name}.txt").write_text(lines + ("late 3 5\n" if name == "test" else ""))
    assert "give both" in refused("prepare", "--train", "train.txt", "--output", "data", cwd=tmp_path)
    done = ncf("prepare", "--train", "train.txt", "--test", "test.txt", "--output", "data", cwd=tmp_path)
    assert "protocol  full ranking" in done.stdout
    settings = ("--set", "train.epochs=3", "--set", "train.patience=2", "--report-best-on-test")
    done = ncf("train", project / "small.toml", "--data", "data", "--output", "run", *settings, cwd=tmp_path)
    line = r"Recall@20 0\.\d{4}, NDCG@20 0\.\d{4}"
    assert re.search(rf"best on validation: {line}", done.stdout)
    assert re.search(rf"1 users are not in training.*Without them, test: {line}", done.stdout)
    assert re.search(rf"Best epoch on test.*{line}", done.stdout)
    assert re.search(r"validation Recall@20 0\.\d{4} NDCG@20 0\.\d{4}", done.stderr)
    recorded = json.loads((tmp_path / "run" / "artifact" / "metrics.json").read_text())
    best = int(recorded["selected"].split()[1].rstrip(","))
    values = [row["validation_ndcg@10"] for row in recorded["history"]]
    assert values[best - 1] == max(values)
    figures = parsed(ncf("evaluate", "run", "--by", "activity", "--json", cwd=tmp_path))
    assert figures["protocol"] == "full"
    assert figures["metrics"] == pytest.approx(recorded["test"]["metrics"])
    assert figures["cold_users"] == 1
    assert (
        "recall@10"
        in ncf("evaluate", "run", "--by", "activity", "--split", "validation", cwd=tmp_path).stdout
    )
    compared = parsed(ncf("compare", "run", "run", "--json", cwd=tmp_path))
    assert set(compared["metrics"]) == {"recall@10", "ndcg@10"}
    for arguments in (("--cold",), ("--protocol", "sampled"), ("--by", "rarity"), ("--split", "time")):
        refused("evaluate", "run", *arguments, cwd=tmp_path)
    recommender = Recommender.open(tmp_path / "run")
    popular = recommender.recommend("nobody", k=6).items
    late = recommender.recommend(["u1", "late"], k=3)[1]
    assert late.source == "popularity"
    assert late.items == [item for item in popular if item not in (3, 5)][:3]
    assert recommender.recommend("late", k=3, history=[7]).source == "fold_in"
    rows = recommender.users.rows(["u1", "late"])
    assert recommender.items.ids_of(recommender.rank(rows, 3)[1][1]).tolist() == late.items
    assert "these data do not have" in refused("report", "run", cwd=tmp_path)
    assert "these data do not have" in refused("leaderboard", "data", "--output", "board", cwd=tmp_path)


def test_exactly_one_source_and_somewhere_to_write(tmp_path: Path) -> None:
    assert "Give exactly one of --input, --ncf, --train, --catalog; none was given" in refused(
        "prepare", cwd=tmp_path
    )
    both = refused("prepare", "--input", "a.csv", "--catalog", "ml-1m", "--output", "x", cwd=tmp_path)
    assert "--input and --catalog were given" in both
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,2\n")
    assert "Give --output FOLDER" in refused("prepare", "--input", "a.csv", cwd=tmp_path)
    unknown = ncf("prepare", "--catalog", "unheard-of", cwd=tmp_path, code=2)
    assert unknown.stdout == ""
    assert "Invalid value for '--catalog'" in unknown.stderr.splitlines()[-1]
    assert "unheard-of" in unknown.stderr.splitlines()[-1]


def test_mistakes_of_training_are_sentences(project: Path, tmp_path: Path) -> None:
    assert "There is no recipe" in as_process("train", "absent.toml", cwd=project, code=2).stderr
    assert "There is no recipe" in refused("train", "absent.toml", cwd=project)
    assert "No data set is named" in refused("train", "small.toml", cwd=project)
    assert "is not a prepared data folder" in refused("train", "small.toml", "--data", tmp_path, cwd=project)
    assert "train.epoch is not a setting" in refused(
        "train", "small.toml", "--set", "train.epoch=3", cwd=project
    )
    assert "--resume needs --output" in refused(
        "train", "small.toml", "--data", "data/mine", "--resume", cwd=project
    )
    spectral = (
        "train",
        "small.toml",
        "--data",
        "data/mine",
        "--set",
        "train.device=abacus",
        "--output",
        tmp_path / "x",
    )
    assert "train.device = 'abacus' is not usable here" in refused(*spectral, cwd=project)


def test_a_checkpoint_of_other_settings_is_refused(project: Path, tmp_path: Path) -> None:
    arguments = (
        "train",
        "small.toml",
        "--data",
        "data/mine",
        "--output",
        tmp_path / "run",
        "--set",
        "train.epochs=1",
    )
    ncf(*arguments, cwd=project)
    message = refused(*arguments, "--set", "train.learning_rate=0.5", "--resume", cwd=project)
    assert "belongs to another experiment (its settings differ)" in message


def test_a_damaged_artifact_and_foreign_data_are_refused(project: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(project / "runs/small", run)
    weights = run / "artifact/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 4
    weights.write_bytes(content)
    assert "model.safetensors was changed" in refused("recommend", run, "--user", "u1", cwd=project)
    ncf(
        "prepare",
        "--input",
        "events.csv",
        "--time",
        "ts",
        "--negatives",
        10,
        "--output",
        tmp_path / "other",
        cwd=project,
    )
    assert "on record of the model" in refused(
        "evaluate", "runs/small", "--data", tmp_path / "other", cwd=project
    )


def test_mistakes_of_recommending_are_sentences(project: Path, tmp_path: Path) -> None:
    assert "Give exactly one of --user" in refused("recommend", "runs/small", cwd=project)
    assert "--set train.trending=7d" in refused("recommend", "runs/small", "--trending", cwd=project)
    assert "k must be a whole number of at least 1" in refused(
        "recommend", "runs/small", "--user", "u1", "-k", 0, cwd=project
    )
    assert "does not know user 'x'" in refused(
        "recommend", "runs/small", "--user", "x", "--strict", cwd=project
    )
    assert "does not know item '77'" in refused("recommend", "runs/small", "--similar-to", 77, cwd=project)
    (tmp_path / "empty.txt").write_text("\n")
    assert "is empty" in refused(
        "recommend", "runs/small", "--users-file", tmp_path / "empty.txt", cwd=project
    )
    assert "There is no file" in refused(
        "recommend", "runs/small", "--users-file", tmp_path / "none.txt", cwd=project
    )
    assert "There is no" in refused("recommend", "runs/none", "--user", "u1", cwd=project)
    assert "must end in one of" in refused(
        "batch", "runs/small", "--output", tmp_path / "x.xlsx", cwd=project
    )


def test_a_full_disk_leaves_one_sentence_and_what_was_there(project: Path, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: writing beyond it fails in the middle of a file."""
    arguments = [
        "-m",
        "ncf",
        "prepare",
        "--input",
        str(project / "events.csv"),
        "--time",
        "ts",
        "--negatives",
        "20",
    ]
    limited = f"ulimit -f 4; trap '' XFSZ; exec {sys.executable} {' '.join(arguments)} --output out"
    done = subprocess.run(
        ["bash", "-c", limited], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("ncf: There is no space left to write out")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_gets_no_traceback(project: Path) -> None:
    command = f"{sys.executable} -m ncf recommend runs/small --users-file users.txt -k 50 | head -1"
    (project / "users.txt").write_text("".join(f"u{n}\n" for n in range(80)))
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=project, env=ENVIRONMENT
    )
    assert "Traceback" not in done.stderr
