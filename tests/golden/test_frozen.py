"""What ncf does today, written down line by line, so that moving files and renaming classes changes nothing
unseen.

`frozen.json` beside this file has one line a fact: a digest, a few figures, or names in clear. What is meant
to change is written down anew with `.venv/bin/python tests/golden/test_frozen.py`, and the difference of that
file then says what did.

Sums of floating-point numbers differ between families of processors, which have other vector widths and
libraries with other orders of summation. So weights and ids are held to the last bit only on the processor
and with the libraries that are written down under `made with/numbers`; elsewhere the same facts are held to a
tolerance, which no defect that matters has stayed within. In the same way the wording of help and schemas is
held by digest only with the versions under `made with/texts`, for typer and pydantic word a part of it; the
names of options, paths and schemas are held everywhere.
"""

import functools
import hashlib
import inspect
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from safetensors.numpy import load_file
from starlette.testclient import TestClient
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

import ncf
from ncf.cli import app
from ncf.config import Experiment
from ncf.data import Dataset, PrepareOptions, prepare_catalog
from ncf.experiment import Run, RunOptions, train
from ncf.sagemaker.account import iam
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.sagemaker.container.distribution import Distribution
from ncf.sagemaker.endpoints import autoscaling
from ncf.sagemaker.endpoints import requests as endpoint_requests
from ncf.sagemaker.jobs import transform, tuning
from ncf.sagemaker.jobs.requests import TrainingOptions, training_request
from ncf.sagemaker.pipelines import execution
from ncf.sagemaker.pipelines.definition import definition
from ncf.sagemaker.session import Session, Settings
from ncf.serving.app import State, create_app
from ncf.serving.recommender import Recommender
from ncf.tuning import Space

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("frozen.json")
FROZEN: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}

KINDS: dict[str, dict[str, Any]] = {
    "mf": {"kind": "mf"},
    "gmf": {"kind": "gmf"},
    "mlp": {"kind": "mlp"},
    "neumf": {"kind": "neumf"},
    "history-gmf": {"kind": "history-gmf"},
    "history-neumf": {"kind": "history-neumf"},
    "recent-history-gmf": {"kind": "history-gmf", "history_half_life": 5},
    "recent-history-neumf": {"kind": "history-neumf", "history_half_life": 5},
}
FUSED = {
    "neumf fused": ("neumf", "gmf"),
    "history-neumf fused": ("history-neumf", "history-gmf"),
    "gmf taught": ("gmf", "gmf"),
}
"""Name to kind, and to the kind of the first half; the second half is an MLP. Both are runs with a random
start."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "mf bpr": ("train.loss='bpr'",),
    "gmf lazy": ("train.optimizer='lazy'",),
    "gmf averaged": ("train.averaging=0.9",),
    "mlp dropout": ("model.dropout=0.2",),
    "mlp bfloat16": ("train.precision='bfloat16'",),
    "neumf bpr": ("train.loss='bpr'",),
    "neumf softmax": ("train.loss='softmax'",),
    "neumf popularity": ("train.sampler='popularity'", "train.init='spectral'"),
    "neumf known excluded": ("train.exclude='known'",),
    "neumf with validation": ("train.validation='include'",),
    "neumf patient": ("train.epochs=3", "train.patience=1"),
    "neumf in parts": ("train.parts=4", "train.threads=2"),
    "neumf scaled and decayed": (
        "train.learning_rate_scaling='sqrt'",
        "train.schedule='constant'",
        "train.weight_decay=0.01",
        "train.l2_mlp=0.01",
    ),
    "history-gmf dropout": ("model.history_dropout=0.3", "model.history_exponent=1.0"),
    "history-gmf softmax": ("train.loss='softmax'", "train.history_every=3"),
}
"""One setting each, or two; the kind is the first word."""
RUNS = (*(f"{kind} {start}" for kind in KINDS for start in ("random", "spectral")), *FUSED, *SETTINGS)
WHOLE, OTHER, LARGEST = (f"{one}, all of ml-100k" for one in ("gmf spectral", "gmf random", "neumf spectral"))
"""On all users and items: the run that is served, one to compare it with, and one of both halves. The others
train on `core`, whose closed form takes a fraction of the time."""
SERVED = (WHOLE, "neumf spectral", "recent-history-gmf spectral")
LOSS, FIGURE, SCORE, SAME_OF_TEN = 1e-3, 0.02, 0.1, 8
"""Tolerances on other processors: of the loss (relative), HR and NDCG, a score; and of ten items as many are
the same."""
HISTORY = [50, 172, 181, 174, 1, 999_999]
ASKED: dict[str, Callable[[Recommender], Any]] = {
    "user 1": lambda it: it.recommend(1),
    "user 42": lambda it: it.recommend(42, exclude=[50], exclude_seen=False),
    "user 900": lambda it: it.recommend(900, candidates=list(range(1, 200))),
    "user 1 with a history": lambda it: it.recommend(1, history=HISTORY),
    "user 999999": lambda it: it.recommend(999_999),
    "visitor": lambda it: it.recommend_visitor(HISTORY),
    "visitor of nothing known": lambda it: it.recommend_visitor([999_999]),
    "similar to 50": lambda it: it.similar_items(50),
}
FROM_EACH = ("user 1", "visitor", "user 1 with a history", "similar to 50", "scores")
HTTP: dict[str, tuple[str, Any]] = {
    "about": ("/explorer/about", None),
    "items": ("/explorer/items?query=star&limit=3", None),
    "a user": ("/explorer/users/1", None),
    "a missing path": ("/nowhere", None),
    "for users": ("/invocations", {"users": [1, 999_999], "k": 3, "describe": True}),
    "for a visitor": ("/invocations", {"history": [50, 172], "k": 3}),
    "similar": ("/invocations", {"similar_to": 50, "k": 3}),
    "pairs": ("/invocations", {"pairs": [[1, 50]]}),
    "a mistake": ("/invocations", {"users": [1], "k": 0}),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "RECIPE", "--data", "DATA", "--output", "OUTPUT/trained", "--report-best-on-test"),
    "evaluate": ("evaluate", "RUN"),
    "evaluate in groups": (
        "evaluate",
        "RUN",
        "--protocol",
        "both",
        "--by",
        "activity",
        "--by",
        "popularity",
        "--cold",
    ),
    "compare": ("compare", "RUN", "OTHER"),
    "recommend to users": ("recommend", "RUN", "--user", "1", "--user", "stranger", "-k", "3"),
    "recommend to a visitor": ("recommend", "RUN", "--history", "50", "-k", "3"),
    "recommend similar": ("recommend", "RUN", "--similar-to", "50", "-k", "3"),
    "batch": ("batch", "RUN", "--output", "OUTPUT/batch.parquet"),
    "artifact pack": ("artifact", "pack", "RUN", "--output", "OUTPUT/model.tar.gz", "--code"),
    "report": ("report", "SMALL", "--output", "OUTPUT/report.html"),
    "doctor": ("doctor", "--local"),
}
POLICIES = {
    "user": {},
    "execution": {},
    "trust": {},
    "user with KMS": {"kms": True},
    "execution with KMS": {"kms": True},
    "execution in a VPC": {"vpc": True},
    "execution with both": {"kms": True, "vpc": True},
}
PROTECTED = {
    "kms_key": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "subnets": ("subnet-1",),
    "security_groups": ("sg-1",),
    "tags": {"team": "search"},
    "project": "shop",
}
IMAGE = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/ncf:1"


class Bench:
    """Measures facts; data and runs are made once, in `folder`, when a fact first needs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Any] = {}

    def data(self, name: str) -> Dataset:
        """A set of the catalogue with default options; `core` has the users and items of ml-100k with 80
        interactions."""
        options = PrepareOptions(min_user=80, min_item=80) if name == "core" else PrepareOptions()
        catalog = "ml-100k" if name == "core" else name
        return self._once(f"data {name}", lambda: prepare_catalog(catalog, options)[0])

    def data_folder(self, name: str) -> Path:
        """The same, saved."""
        folder = self.folder / "data" / name
        self._once(f"saved {name}", lambda: self.data(name).save(folder))
        return folder

    def run(self, name: str) -> Run:
        """A run of one epoch."""
        return self._once(f"run {name}", lambda: self._train(name))

    def recommender(self, name: str) -> Recommender:
        """What answers from a run."""
        return self._once(f"recommender {name}", lambda: Recommender.open(self.run(name).artifact))

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _train(self, name: str) -> Run:
        halves: dict[str, Any] = {}
        if name in FUSED:
            halves = {
                "gmf": self.run(f"{FUSED[name][1]} random").folder,
                "mlp": self.run("mlp random").folder,
            }
        data = "ml-100k" if name.endswith(", all of ml-100k") else "core"
        folder = self.folder / "runs" / name.replace(" ", "-").replace(",", "")
        options, where = RunOptions(serves=name in SERVED), self.data_folder(data)
        return train(self.data(data), recipe(name), folder, data_path=where, options=options, **halves)


def recipe(name: str) -> Experiment:
    """The settings of a run, which leave nothing to the machine."""
    kind, _, start = name.removesuffix(", all of ml-100k").partition(" ")
    values = {
        "name": "frozen",
        "model": {"factors": 8, "embedding": 8, "tower": [16, 8], **KINDS[kind]},
        "train": {
            "epochs": 1,
            "batch_size": 1024,
            "learning_rate": 0.01,
            "init": start if start in ("random", "spectral") else "random",
            "threads": 1,
            "parts": 1,
            "precision": "float32",
            "device": "cpu",
            "seed": 3,
        },
        "evaluation": {"cutoffs": [5, 10], "bootstrap": 0},
    }
    experiment = Experiment.parse(values, SETTINGS.get(name, ()))
    if name not in FUSED:
        return experiment
    halves = {
        half: recipe(f"{one} random").model_dump(mode="json")
        for half, one in (("gmf", FUSED[name][1]), ("mlp", "mlp"))
    }
    return Experiment.parse({**experiment.model_dump(mode="json"), "pretraining": halves})


def session(**settings: Any) -> Session:
    """A hosted session that has found out everything already and calls nobody."""
    made = Session(Settings(**settings))
    made.__dict__.update(
        account="123456789012", region="eu-west-1", role="arn:aws:iam::123456789012:role/ncf", bucket="mine"
    )
    return made


def digest(value: Any) -> str:
    """sha256 of bytes, of a text, or of a value as JSON."""
    if not isinstance(value, bytes | str):
        value = json.dumps(value, sort_keys=True)
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def paths(value: Any, before: str = "") -> list[str]:
    """The keys of a JSON value at any depth, as `a.b[].c`, sorted; what is not a key is left out."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{before}.{key}" if before else str(key)
            found |= {here, *paths(inner, here)}
    elif isinstance(value, list):
        found.update(one for inner in value for one in paths(inner, f"{before}[]"))
    return sorted(found)


def weights_of(run: Run) -> str:
    """Names, shapes and bytes of the weights of a run's artifact."""
    whole = hashlib.sha256()
    for name, tensor in sorted(load_file(run.artifact / "model.safetensors").items()):
        whole.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode() + tensor.tobytes())
    return whole.hexdigest()


# Each group: the names of its facts, and how one is measured.


def the_machine(bench: Bench, name: str) -> Any:
    """What digests of numbers and of texts go with."""
    if name == "texts":
        return {package: version(package) for package in ("click", "pydantic", "typer")}
    file, found = Path("/proc/cpuinfo"), {}
    for line in file.read_text().splitlines() if file.exists() else ():
        found.setdefault(line.partition(":")[0].strip(), line.partition(":")[2].strip())
    named = [found[word] for word in ("model name", "cpu family", "model") if word in found]
    return {
        "processor": ", ".join(named) or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def prepared(bench: Bench, name: str) -> Any:
    """The digest is over all arrays, ids and the item table, and not over the description."""
    made, folder = bench.data(name), bench.data_folder(name)
    about = made.description
    return {
        "digest": made.digest, "counts": about["counts"], "split": about["split"], "audit": about["audit"],
        "description": sorted(about), "files": sorted(path.name for path in folder.iterdir()),
    }  # fmt: skip


def trained(bench: Bench, name: str) -> Any:
    """Figures, and a digest of the weights."""
    run = bench.run(name)
    figures = run.metrics["test"]["metrics"]
    return {
        "loss": run.metrics["history"][-1]["loss"], "hr@10": figures["hr@10"], "ndcg@10": figures["ndcg@10"],
        "epochs": len(run.metrics["history"]), "weights": weights_of(run),
    }  # fmt: skip


def tensors(bench: Bench, name: str) -> Any:
    """Names and shapes of what is stored, by which older artifacts and checkpoints are read."""
    kind, _, where = name.partition(" in ")
    run = bench.run(f"{kind} random")
    [file] = (
        (run.folder / "checkpoints").glob("*/*.safetensors")
        if where == "a checkpoint"
        else [run.artifact / "model.safetensors"]
    )
    return {name: list(tensor.shape) for name, tensor in sorted(load_file(file).items())}


def files(bench: Bench, name: str) -> Any:
    """What a run leaves: the names of files, and the keys of a JSON file."""
    folder = bench.run(WHOLE).folder
    if name == "names":
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    lines = (folder / name).read_text("utf-8")
    return paths(
        [json.loads(line) for line in lines.splitlines()] if name.endswith("l") else json.loads(lines)
    )


def answered(bench: Bench, name: str) -> Any:
    """A list of recommendations, or a few scores."""
    subject, _, run = name.partition(" from ")
    recommender = bench.recommender(run or WHOLE)
    if subject == "exactly to user 1":
        recommender = Recommender.open(bench.run(WHOLE).artifact, exact=True)
        subject = "user 1"
    if subject == "scores":
        return {"scores": [round(float(one), 5) for one in recommender.score([1, 1, 42], [50, 172, 1])]}
    answer = ASKED[subject](recommender)
    return {
        "items": answer.items,
        "scores": [round(score, 5) for score in answer.scores],
        "source": answer.source,
        "subject": answer.subject,
        "ignored": answer.ignored,
    }


def served(bench: Bench, name: str) -> Any:
    """Answers of the HTTP server in memory, over no network."""
    with TestClient(create_app(State(bench.recommender(WHOLE)))) as client:
        if name == "openapi.json":
            document = client.get("/openapi.json").json()
            del document["info"]["version"]
            schemas = {
                one: sorted(schema.get("properties", ()))
                for one, schema in document["components"]["schemas"].items()
            }
            return {"digest": digest(document), "paths": sorted(document["paths"]), "schemas": schemas}
        if name == "metrics":
            client.post("/invocations", json={"users": [1]})
            lines = client.get("/metrics").text.splitlines()
            return sorted(line.removeprefix("# TYPE ") for line in lines if line.startswith("# TYPE "))
        path, body = HTTP[name]
        reply = client.get(path) if body is None else client.post(path, json=body)
        return {
            "status": reply.status_code,
            "type": reply.headers["content-type"],
            "keys": paths(reply.json()),
        }


@functools.cache
def contexts() -> dict[str, Any]:
    """A context of every command and subcommand of the command line, by what is typed."""
    found: dict[str, Any] = {}

    def walk(command: Any, typed: str, name: str, parent: Any) -> None:
        wide = {"terminal_width": 200, "max_content_width": 200, "color": False}
        found[typed] = command.context_class(command, info_name=name, parent=parent, **wide)
        for one, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{typed} {one}", one, found[typed])

    walk(typer.main.get_command(app), "ncf", "ncf", None)
    return found


def helped(bench: Bench, name: str) -> Any:
    """The text of --help as digest, and what can be given."""
    context = contexts()[name]
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
            patch.setenv(variable, value)
        text = context.get_help()
    given = context.command.params
    options = sorted(text for one in given for text in (*one.opts, *one.secondary_opts))
    return {
        "digest": digest(text),
        "options": options,
        "required": sorted(one.name for one in given if one.required),
    }


def printed(bench: Bench, name: str) -> Any:
    """The keys of what a command prints with --json; of `prepare`, which has none, the first word of each
    line."""
    words = {
        "RUN": bench.run(WHOLE).folder,
        "SMALL": bench.run("gmf random").folder,
        "OUTPUT": bench.folder / "output",
    }
    (bench.folder / "output").mkdir(exist_ok=True)
    if name == "prepare":
        typed = ["prepare", "--catalog", "ml-100k", "--output", str(bench.folder / "output" / "data")]
        return [line.split()[0] for line in said(typed).splitlines()]
    if name == "train":
        words |= {"RECIPE": bench.folder / "recipe.json", "DATA": bench.data_folder("core")}
        words["RECIPE"].write_text(recipe("mf random").model_dump_json())
    if name == "compare":
        words["OTHER"] = bench.run(OTHER).folder
    typed = list(COMMANDS[name])
    for word, path in words.items():
        typed = [text.replace(word, str(path)) if text.split("/")[0] == word else text for text in typed]
    return paths(json.loads(said([*typed, "--json"])))


def said(typed: list[str]) -> str:
    """What a command prints on standard output, on a machine without AWS and Docker."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in (
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_ENDPOINT_URL",
        ):
            patch.delenv(variable, raising=False)
        for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(variable, "/dev/null")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        if typed[0] == "doctor":
            patch.setenv("PATH", "/nowhere")
        done = CliRunner().invoke(app, typed)
    assert done.exit_code == 0 or typed[0] == "doctor", done.output + repr(done.exception)
    return done.stdout


def policies(bench: Bench, name: str) -> Any:
    """The text as digest, and the actions."""
    document = iam.document(name.split()[0], **POLICIES[name])
    found: set[str] = set()
    for statement in document["Statement"]:
        actions = statement["Action"]
        found.update([actions] if isinstance(actions, str) else actions)
    sids = [statement.get("Sid") for statement in document["Statement"]]
    return {"digest": digest(document), "statements": sids, "actions": sorted(found)}


def requests() -> dict[str, Callable[[], Any]]:
    """Requests for fixed inputs, as the pure functions make them."""
    plain, protected, small = session(), session(**PROTECTED), recipe("gmf random")
    usual = TrainingOptions("ncf-job", data="s3://mine/ncf/data/d1", image=IMAGE)
    full = TrainingOptions(
        "ncf-job",
        data="s3://mine/ncf/data/d1/",
        image=IMAGE,
        instance_type="ml.m5.xlarge",
        instance_count=2,
        volume_gb=100,
        max_run=100,
        spot=True,
        pretrained="s3://mine/ncf/pretrained/x",
        environment={"A": "b"},
        distribution=Distribution("horovod", 2, 60),
    )
    script = TrainingOptions(
        "ncf-job",
        data="s3://mine/d",
        image=IMAGE,
        instance_type="ml.p4d.24xlarge",
        keep_alive=600,
        code="s3://mine/ncf/code/c/sourcedir.tar.gz",
        checkpoints="s3://other/place",
        distribution=Distribution("smddp"),
    )
    hosting, transforming = endpoint_requests.Hosting, transform.TransformOptions(image=IMAGE)
    model, config, update = (
        endpoint_requests.model_request,
        endpoint_requests.config_request,
        endpoint_requests.update_request,
    )
    uri = "s3://mine/ncf/models/m/model.tar.gz"
    canary = hosting(traffic="canary", step=20, alarms=("errors",))
    space = Space.load(ROOT / "recipes" / "spaces" / "default.toml")
    scaling = autoscaling.Scaling(1, 4, 100.0)
    return {
        "training job": lambda: training_request(plain, small, usual),
        "training job with all options": lambda: training_request(protected, small, full),
        "training job in script mode": lambda: training_request(plain, small, script),
        "model": lambda: model(plain, "m", "ncf", IMAGE, uri, hosting()),
        "model in a VPC": lambda: model(protected, "m", None, IMAGE, uri, hosting(workers=2)),
        "model in AWS's image": lambda: model(
            plain, "m", "ncf", IMAGE, uri, hosting(workers=2, aws_image=True)
        ),
        "endpoint config": lambda: config(plain, "c", "ncf", "m", hosting()),
        "endpoint config that records": lambda: config(
            protected, "c", "ncf", "m", hosting(capture=20, instance_count=2), "b"
        ),
        "endpoint config without servers": lambda: config(
            protected, "c", "ncf", "m", hosting(serverless_mb=2048)
        ),
        "endpoint config that answers later": lambda: config(
            protected, "c", "ncf", "m", hosting(asynchronous=True)
        ),
        "endpoint update": lambda: update("ncf", "c", hosting(), False),
        "endpoint update in steps": lambda: update("ncf", "c", canary, True),
        "transform job": lambda: transform.transform_request(plain, "j", "m", transforming),
        "transform job under a key": lambda: transform.transform_request(protected, "j", "m", transforming),
        "transform model": lambda: transform.model_request(plain, "j", uri, transforming),
        "tuning job": lambda: tuning.tuning_request(
            plain, recipe("neumf random"), space, usual, tuning.TunerOptions()
        ),
        "scaling target": lambda: autoscaling.target_request("ncf", "AllTraffic", scaling),
        "scaling policy": lambda: autoscaling.policy_request("ncf", "AllTraffic", scaling),
    }


def requested(bench: Bench, name: str) -> Any:
    """One of them, in full."""
    return requests()[name]()


def pipeline(bench: Bench, name: str) -> Any:
    """The definition as digest, and its keys, steps and parameters."""
    given: dict[str, Any] = {"image": IMAGE, "data": "s3://mine/ratings.csv"}
    options = execution.Options(**given)
    if name == "with all options":
        options = execution.Options(
            **given,
            spot=True,
            prepare={"min_user": "5"},
            fail_if_not_better=True,
            approve=True,
            bar=PromotionCriteria(0.01, 0.01, 0.2),
        )
    settings = PROTECTED if name == "with all options" else {}
    document = definition(execution.plan_of(session(**settings), recipe("neumf random"), options))
    return {
        "digest": digest(document), "steps": [f"{one['Name']} {one['Type']}" for one in document["Steps"]],
        "parameters": [one["Name"] for one in document["Parameters"]], "keys": paths(document),
    }  # fmt: skip


def configured(bench: Bench, name: str) -> Any:
    """Default settings in full; of a recipe the digest by which a run is gone on with."""
    if name == "defaults":
        return Experiment().model_dump(mode="json")
    return Experiment.load(ROOT / "recipes" / name).digest()


def offered(bench: Bench, name: str) -> Any:
    """What `import ncf` offers: parameters by name, and of classes the public methods with theirs."""
    thing = getattr(ncf, name)
    if not inspect.isclass(thing):
        return list(inspect.signature(thing).parameters)
    if issubclass(thing, Exception):
        return [base.__name__ for base in thing.__mro__[1:] if not base.__module__.startswith("ncf")]
    own = {
        key: value for key, value in vars(thing).items() if not key.startswith("_") and key != "model_config"
    }
    methods = {key: getattr(thing, key) for key in own if callable(getattr(thing, key, None))}
    public = {key: list(inspect.signature(value).parameters) for key, value in methods.items()}
    return {"made of": list(inspect.signature(thing).parameters), "has": dict(sorted(public.items()))}


Measure = Callable[[Bench, str], Any]
JSON_FILES = (
    "run.json",
    "events.jsonl",
    "artifact/manifest.json",
    "artifact/metrics.json",
    "artifact/config.json",
)
GROUPS: dict[str, tuple[Callable[[], list[str]], Measure]] = {
    "made with": (lambda: ["numbers", "texts"], the_machine),
    "api": (lambda: list(ncf.__all__), offered),
    "config": (lambda: ["defaults", *(path.name for path in (ROOT / "recipes").glob("*.toml"))], configured),
    "data": (lambda: ["ml-100k", "ml-1m", "core"], prepared),
    "train": (lambda: [*RUNS, WHOLE, OTHER, LARGEST], trained),
    "tensors": (
        lambda: [f"{kind} in {where}" for kind in KINDS for where in ("an artifact", "a checkpoint")],
        tensors,
    ),
    "files": (lambda: ["names", *JSON_FILES], files),
    "recommend": (
        lambda: [
            *ASKED,
            "scores",
            "exactly to user 1",
            *(f"{who} from {run}" for who in FROM_EACH for run in SERVED[1:]),
        ],
        answered,
    ),
    "http": (lambda: ["openapi.json", "metrics", *HTTP], served),
    "help": (lambda: list(contexts()), helped),
    "json": (lambda: ["prepare", *COMMANDS], printed),
    "iam": (lambda: list(POLICIES), policies),
    "requests": (lambda: list(requests()), requested),
    "pipeline": (lambda: ["plain", "with all options"], pipeline),
}


def measured(bench: Bench, key: str) -> Any:
    """The fact as JSON gives it back; on one thread, since the number of BLAS's changes the last bits of a
    fold-in's map."""
    group, _, name = key.partition("/")
    with threadpool_limits(1):
        return json.loads(json.dumps(GROUPS[group][1](bench, name)))


def frozen(*groups: str) -> pytest.MarkDecorator:
    """Parametrises a test by the lines of groups."""
    return pytest.mark.parametrize("key", [key for key in FROZEN if key.partition("/")[0] in groups])


def same(what: str) -> bool:
    """Whether this is the machine, or are the libraries, that `frozen.json` was made with."""
    found: bool = the_machine(Bench(Path()), what) == FROZEN[f"made with/{what}"]
    return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("frozen"))


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "made with"])
def test_each_group_has_the_facts_that_it_had(group: str) -> None:
    assert sorted(GROUPS[group][0]()) == sorted(
        key.partition("/")[2] for key in FROZEN if key.startswith(f"{group}/")
    )


@frozen("api", "config", "tensors", "files", "json", "iam", "requests", "pipeline")
def test_names_keys_requests_and_policies_are_what_they_were(bench: Bench, key: str) -> None:
    assert measured(bench, key) == FROZEN[key]


@frozen("data")
def test_prepared_data_are_the_same_to_the_byte(bench: Bench, key: str) -> None:
    assert measured(bench, key) == FROZEN[key]


@frozen("help", "http")
def test_helps_and_schemas_say_what_they_said(bench: Bench, key: str) -> None:
    """With other versions of typer or pydantic only the names are the same, for these word a part of the
    texts."""
    found, expected = measured(bench, key), FROZEN[key]
    if not same("texts") and "digest" in expected:
        found, expected = ({**one, "digest": ""} for one in (found, expected))
    assert found == expected


@frozen("train")
def test_an_epoch_ends_where_it_ended(bench: Bench, key: str) -> None:
    """To the last bit on the processor of `frozen.json`; on others, which sum in another order, within a
    tolerance."""
    found, expected = measured(bench, key), FROZEN[key]
    if same("numbers"):
        assert found == expected
    assert found["loss"] == pytest.approx(expected["loss"], rel=LOSS)
    assert found["epochs"] == expected["epochs"]
    for name in ("hr@10", "ndcg@10"):
        assert found[name] == pytest.approx(expected[name], abs=FIGURE)


@frozen("recommend")
def test_recommendations_are_the_ones_that_were_given(bench: Bench, key: str) -> None:
    """On another processor near ties may change places and scores their last digits, since the weights do."""
    found, expected = measured(bench, key), FROZEN[key]
    if same("numbers"):
        assert found == expected
    told = [{name: one.get(name) for name in ("source", "subject", "ignored")} for one in (found, expected)]
    assert told[0] == told[1]
    assert found["scores"] == pytest.approx(expected["scores"], abs=SCORE)
    assert len({*found.get("items", ())} & {*expected.get("items", ())}) >= min(
        SAME_OF_TEN, len(expected.get("items", ()))
    )


def write() -> None:
    """Measure everything and write `frozen.json`, sorted, a line a fact."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        keys = sorted(f"{group}/{name}" for group, (names, _) in GROUPS.items() for name in names())
        lines = [f"{json.dumps(key)}: {json.dumps(measured(bench, key), sort_keys=True)}" for key in keys]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(f"{len(lines)} facts: {FILE.name}", file=sys.stderr)


if __name__ == "__main__":
    write()
