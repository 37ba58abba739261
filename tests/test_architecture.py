"""The import rule of the house, read from the source: a file imports only from its own wing and those before it."""

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ncf"
WINGS = {
    "errors": set(),
    "config": {"errors"},
    "runtime": {"errors"},
    "data": {"errors"},
    "models": {"errors", "config", "runtime", "data"},
    "evaluation": {"errors", "config", "runtime", "data", "models"},
    "training": {"errors", "config", "runtime", "data", "models", "evaluation"},
    "serving": {"errors", "config", "runtime", "data", "models"},
    "first_values": {"errors", "config", "runtime", "data", "models", "training"},
    "experiment": {"errors", "config", "runtime", "data", "models", "evaluation", "training", "serving", "first_values"},
    "judging": {"errors", "config", "runtime", "data", "models", "evaluation", "training", "serving", "experiment"},
    "tuning": {"errors", "config", "runtime", "data", "models", "evaluation", "training", "serving", "experiment"},
    "report": {"errors", "config", "runtime", "data", "models", "evaluation", "training", "serving", "experiment", "tuning", "judging"},
    "leaderboard": {"errors", "config", "runtime", "data", "models", "evaluation", "training", "serving", "experiment", "tuning", "judging", "report"},
    "console": {"errors", "training"},
    "sagemaker": {"errors", "config", "runtime", "data", "models", "evaluation", "training", "serving", "experiment", "tuning", "judging"},
    "cli": {"errors", "config", "runtime", "data", "training", "serving", "experiment", "tuning", "judging", "report", "leaderboard", "sagemaker", "console"},
    "__init__": {"errors", "config", "data", "serving", "experiment", "judging"},
    "__main__": {"cli"},
}  # fmt: skip
ONLY_IN = {
    "boto3": "sagemaker/", "botocore": "sagemaker/", "sagemaker": "sagemaker/", "mlflow": "training/mlflow.py",
    "optuna": "tuning/", "implicit": "evaluation/baselines/", "matplotlib": ("report/", "leaderboard/plots.py"), "horovod": "training/horovod.py", "typer": "cli/",
    "rich": ("console.py", "cli/"), "uvicorn": "serving/server.py", "starlette": ("serving/app.py", "serving/server.py"),
    "faiss": "serving/ivf.py", "pyspark": "data/spark/",
    "torchrec": "training/sharded_torchrec.py", "fbgemm_gpu": "training/sharded_torchrec.py", "prometheus_client": "serving/monitor.py",
}  # fmt: skip
NEVER_BELOW_THE_APP = {"http", "starlette", "uvicorn", "requests", "httpx", "socket", "socketserver"}
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
        allowed = ONLY_IN.get(root)
        assert allowed is None or str(path.relative_to(SOURCE)).startswith(allowed), (
            f"{path.name} imports {name}"
        )


@pytest.mark.parametrize("path", [p for p in FILES if wing(p) == "data"], ids=lambda path: path.stem)
def test_data_knows_nothing_of_torch(path: Path) -> None:
    assert not any(name.split(".")[0] == "torch" for name in imports(path))


def test_nothing_below_the_app_speaks_http() -> None:
    """But the download of known data sets, local mode, which looks for a free port, and processes that train together."""
    speaking = {
        str(path.relative_to(SOURCE))
        for path in FILES
        if {name.split(".")[0] for name in imports(path)} & NEVER_BELOW_THE_APP
    }
    assert speaking <= {
        "data/download.py",
        "serving/app.py",
        "serving/server.py",
        "sagemaker/local/docker.py",
        "sagemaker/arrival.py",
        "sagemaker/meeting.py",
        "sagemaker/mpi.py",
        "training/horovod.py",
        "training/launch.py",
        "training/watch.py",
    }


@pytest.mark.parametrize(
    "path", [p for p in FILES if wing(p) == "serving" and p.stem != "card"], ids=lambda path: path.stem
)
def test_serving_loads_without_torch(path: Path) -> None:
    """torch may only be named for the artifact's `model`, which those who judge ask for."""
    top = {name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)
           for name in imports_of(node)}  # fmt: skip
    assert not any(name.split(".")[0] == "torch" or name.startswith("ncf.models") for name in top)


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
