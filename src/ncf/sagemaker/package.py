"""model.tar.gz for AWS's PyTorch inference containers: an artifact, and the code that serves it.

| in the archive | what |
| --- | --- |
| the artifact's files | at the top level, where the container's model folder has them |
| `code/inference.py` | imports the four functions of `ncf.sagemaker.inference` |
| `code/ncf/` | this package as it is here |
| `code/requirements.txt` | what `code/ncf` needs to serve; the container installs it when it starts |
| `code/wheels/` | where wheels are given, these and no others are installed, without a network |

The one decision worth knowing: the package travels as source next to the model. The container has `code/` on its path,
so it needs no registry that has ncf, and what serves is what the artifact was packed with.
"""

import re
from importlib.metadata import requires
from pathlib import Path

import ncf
from ncf.errors import ConfigError
from ncf.serving.archive import pack
from ncf.serving.artifact import open_artifact

SERVING_NEEDS = ("numpy", "polars", "pydantic", "safetensors", "filelock", "threadpoolctl")
INFERENCE = '''"""What the container calls."""

from ncf.sagemaker.inference import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
'''


def pack_model(run: str | Path, target: Path, *, code: bool = False, wheels: Path | None = None) -> Path:
    """Verify the artifact of `run` and pack it; raises `ArtifactError` for a damaged one."""
    artifact = open_artifact(run)
    contents: dict[str, Path | bytes] = {
        name: artifact.folder / name for name in ("manifest.json", *artifact.manifest["files"])
    }
    if code or wheels is not None:
        contents |= code_files(wheels)
    return pack(contents, target)


def code_files(wheels: Path | None = None) -> dict[str, Path | bytes]:
    """Name in the archive -> file, of everything in `code/`."""
    source = Path(ncf.__file__).parent
    contents: dict[str, Path | bytes] = {
        f"code/ncf/{path.relative_to(source).as_posix()}": path
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    contents["code/inference.py"] = INFERENCE.encode()
    contents["code/requirements.txt"] = _requirements(wheels is not None).encode()
    if wheels is not None:
        contents |= {f"code/wheels/{path.name}": path for path in _wheels_in(wheels)}
    return contents


def serving_requirements() -> list[str]:
    """What serving needs of the dependencies of ncf, with the versions that ncf declares."""
    declared = [line.partition(";")[0].strip() for line in requires("ncf") or () if "extra ==" not in line]
    named = {re.split(r"[^\w-]", line, maxsplit=1)[0]: line for line in declared}
    return [named.get(name, name) for name in SERVING_NEEDS]


def _requirements(offline: bool) -> str:
    options = ["--no-index", "--find-links wheels"] if offline else []
    return "".join(f"{line}\n" for line in (*options, *serving_requirements()))


def _wheels_in(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise ConfigError(
            f"{folder} has no wheels: fill it with 'pip download --only-binary :all: --dest {folder} "
            f"{' '.join(SERVING_NEEDS)}', for the Python of the container."
        )
    return found
