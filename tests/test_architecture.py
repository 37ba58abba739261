"""The import rule of the house, read from the source: a file imports only from its own wing and those before
it."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ncf"
CORE = (
    "errors",
    "config",
    "runtime",
    "data",
    "models",
    "evaluation",
    "baselines",
    "tracking",
    "training",
    "serving",
)
WINGS = {
    "errors": set(),
    "recipe_files": {"errors"},
    "config": {"errors", "recipe_files"},
    "runtime": {"errors"},
    "data": {"errors", "runtime"},
    "tracking": {"errors", "config", "data"},
    "models": {"errors", "config", "runtime", "data"},
    "evaluation": {"errors", "config", "runtime", "data", "models"},
    "baselines": {"errors", "config", "runtime", "data", "evaluation"},
    "training": {"errors", "config", "runtime", "data", "models", "evaluation", "baselines", "tracking"},
    "serving": {"errors", "config", "runtime", "data", "models"},
    "renewal": {*CORE},
    "experiment": {*CORE, "renewal"},
    "analysis": {*CORE, "experiment", "renewal"},
    "estimators": {*CORE, "experiment", "recipe_files"},
    "tuning": {*CORE, "experiment", "analysis", "recipe_files"},
    "leaderboard": {*CORE, "experiment", "tuning", "analysis"},
    "sagemaker": {*CORE, "experiment", "tuning"},
    "cli": {*CORE, "experiment", "renewal", "tuning", "analysis", "leaderboard", "sagemaker", "recipe_files"},
    "__init__": {"errors", "config", "data", "serving", "experiment", "analysis", "estimators"},
    "__main__": {"cli"},
}
"""Which other wings a wing may import, in the order in which data flow."""
ROOMS = {
    "local": {"local", "pipelines"},
    "container": {"container"},
    "jobs": {"container", "jobs", "endpoints"},
    "endpoints": {"jobs", "endpoints"},
    "pipelines": {"container", "jobs", "pipelines"},
    "account": {"jobs", "endpoints", "local", "account"},
}
"""Which rooms of `sagemaker/` a room of it may import; all may import its files on the ground floor."""
ONLY_IN = {
    "boto3": "sagemaker/",
    "botocore": "sagemaker/",
    "sagemaker": "sagemaker/",
    "mlflow": "tracking/mlflow.py",
    "optuna": "tuning/",
    "implicit": "baselines/",
    "matplotlib": ("analysis/report/", "leaderboard/plots.py"),
    "horovod": "training/parallel/horovod.py",
    "typer": "cli/",
    "rich": ("cli/", "tracking/console.py"),
    "uvicorn": ("serving/server.py", "serving/connections.py", "serving/workers.py"),
    "starlette": ("serving/app.py", "serving/server.py"),
    "faiss": "serving/retrieval/ivf.py",
    "pyspark": "data/out_of_core/spark",
    "torchrec": "training/parallel/torchrec.py",
    "fbgemm_gpu": "training/parallel/torchrec.py",
    "prometheus_client": "serving/metrics.py",
}
NEVER_BELOW_THE_APP = {"http", "starlette", "uvicorn", "requests", "httpx", "socket", "socketserver"}
SAME_NAMES = {"GMF", "MLP", "NeuMF", "HistoryGMF"}
"""The models of the papers: networks in `models/`, and what Python people fit in `estimators.py`."""
SMALL_FILES: set[str] = set()
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute module names that a file imports, wherever it does so, those for type checking included."""
    return {name for node in ast.walk(ast.parse(path.read_text("utf-8"))) for name in imports_of(node)}


def imports_of(node: ast.AST) -> set[str]:
    """Absolute module names that one statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{node.module} is imported relatively"
        return {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return set()


def wing(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_what_comes_before_it(path: Path) -> None:
    own = wing(path)
    for name in imports(path):
        root, _, rest = name.partition(".")
        if root == "ncf" and rest:
            other = rest.split(".")[0]
            known = other in WINGS
            assert not known or other == own or other in WINGS[own], f"{path.name} imports {name}"
            if own == other == "sagemaker" and (room := path.relative_to(SOURCE).parts[1]) in ROOMS:
                room_of_name = f"{rest}.".split(".")[1]
                assert room_of_name not in ROOMS or room_of_name in ROOMS[room], f"{path.name} imports {name}"
        allowed = ONLY_IN.get(root)
        assert allowed is None or str(path.relative_to(SOURCE)).startswith(allowed), (
            f"{path.name} imports {name}"
        )


@pytest.mark.parametrize("path", [p for p in FILES if wing(p) == "data"], ids=lambda path: path.stem)
def test_data_knows_nothing_of_torch(path: Path) -> None:
    assert not any(name.split(".")[0] == "torch" for name in imports(path))


def test_nothing_below_the_app_speaks_http() -> None:
    """But the download of known data sets, local mode, which looks for a free port, and processes that train
    together."""
    speaking = {
        str(path.relative_to(SOURCE))
        for path in FILES
        if {name.split(".")[0] for name in imports(path)} & NEVER_BELOW_THE_APP
    }
    assert speaking <= {
        "data/catalog.py",
        "serving/app.py",
        "serving/server.py",
        "serving/connections.py",
        "serving/workers.py",
        "sagemaker/local/docker.py",
        "sagemaker/container/rendezvous.py",
        "sagemaker/container/mpirun.py",
        "training/parallel/horovod.py",
        "training/parallel/launcher.py",
        "training/parallel/watchdog.py",
    }


@pytest.mark.parametrize(
    "path", [p for p in FILES if wing(p) == "serving" and p.stem != "card"], ids=lambda path: path.stem
)
def test_serving_loads_without_torch(path: Path) -> None:
    """torch may only be named for the artifact's `model`, which evaluation asks for."""
    top = {
        name
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imports_of(node)
    }
    assert not any(name.split(".")[0] == "torch" or name.startswith("ncf.models") for name in top)


def module_name(path: Path) -> str:
    """Dotted name of a file; a package's `__init__.py` has the package's name."""
    parts = ("ncf", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported_files(path: Path) -> set[str]:
    """Modules of the package that a file imports. `from package import module` is the module, not the
    package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names} & MODULES.keys()
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else str(node.module))
    return names - {module_name(path)}


GRAPH = {module: imported_files(path) for module, path in MODULES.items()}


def test_imports_run_in_no_circle() -> None:
    """Remove what imports nothing that is left, again and again: what remains is a circle, or stands on
    one."""
    left = dict(GRAPH)
    while ready := [module for module, names in left.items() if not names & left.keys()]:
        for module in ready:
            del left[module]
    assert not left


def test_no_two_public_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for path in FILES
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in classes.items() if count > 1} <= SAME_NAMES


def test_a_small_file_has_more_than_one_reader() -> None:
    """A file under 60 lines that one file alone imports belongs into that file."""
    importers = Counter(name for names in GRAPH.values() for name in names)
    small = {
        module
        for module, path in MODULES.items()
        if path.name != "__init__.py"
        and importers[module] == 1
        and len(path.read_text("utf-8").splitlines()) < 60
    }
    assert small <= SMALL_FILES


def test_nothing_draws_from_a_global_generator() -> None:
    forbidden = ("torch.manual_seed", "np.random.seed", "random.seed(", "np.random.rand")
    for path in FILES:
        text = path.read_text("utf-8")
        assert not any(call in text for call in forbidden), path


def test_every_module_says_what_it_is_for() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_importing_ncf_imports_neither_torch_nor_the_command_line() -> None:
    import subprocess

    code = "import ncf, sys; print([m for m in ('torch', 'polars', 'typer', 'boto3') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
