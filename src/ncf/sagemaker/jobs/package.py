"""What AWS's PyTorch containers need of us: model.tar.gz with the code that serves it, and the code that trains.

| in the archive | what |
| --- | --- |
| the artifact's files | at the top level, where the container's model folder has them |
| `code/inference.py` | imports the four functions of `ncf.sagemaker.container.inference` |
| `code/ncf/`, `code/ncf-….dist-info/` | this package as it is here, and its version |
| `code/requirements.txt` | what `code/ncf` needs to serve; the container installs it when it starts |
| `code/wheels/` | where wheels are given, these and no others are installed, without a network |

The code that trains (script mode) is `train.py`, `ncf/`, `requirements.txt` and, where they are given, `wheels/`, in a
folder or in the sourcedir.tar.gz that `sagemaker_submit_directory` names; `sagemaker_program` is `train.py`.

The one decision worth knowing: the package travels as source next to the model. The container has `code/` on its path,
so it needs no registry that has ncf, and what serves is what the artifact was packed with. torch is not among the
requirements: the containers have theirs.
"""

import re
from importlib.metadata import distribution, requires
from pathlib import Path

import ncf
from ncf.data.files import atomic_folder
from ncf.errors import ConfigError
from ncf.serving.archive import pack
from ncf.serving.artifact import open_artifact

SERVING_NEEDS = ("numpy", "polars", "pydantic", "safetensors", "filelock", "threadpoolctl")
INFERENCE = '''"""What the container calls."""

from ncf.sagemaker.container.inference import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
'''
TRAIN = '''"""What the container runs."""

import sys

from ncf.sagemaker.container.train import main

sys.exit(main(arguments=sys.argv[1:]))
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


def pack_training_code(target: Path, *, wheels: Path | None = None) -> Path:
    """Write the code that trains: an archive where the name ends in `.tar.gz`, else a folder, whole or not at all.

    A folder of that name is replaced if it holds such code, and otherwise a `ConfigError`.
    """
    contents = training_files(wheels)
    if target.name.endswith(".tar.gz"):
        return pack(contents, target)
    if target.exists() and not (target / "train.py").is_file():
        raise ConfigError(f"{target} is there and holds no training code: give the name of a new folder.")
    with atomic_folder(target) as temporary:
        for name, content in contents.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return target


def code_files(wheels: Path | None = None) -> dict[str, Path | bytes]:
    """Name in the archive -> file, of everything in `code/`."""
    contents = _package_files(wheels) | {"inference.py": INFERENCE.encode()}
    return {f"code/{name}": content for name, content in contents.items()}


def training_files(wheels: Path | None = None) -> dict[str, Path | bytes]:
    """Name -> file, of everything in the source folder of a training job."""
    return _package_files(wheels) | {"train.py": TRAIN.encode()}


def _package_files(wheels: Path | None) -> dict[str, Path | bytes]:
    """The package with its metadata (artifacts tell the version that wrote them), its requirements, and the wheels."""
    source = Path(ncf.__file__).parent
    contents: dict[str, Path | bytes] = {
        f"ncf/{path.relative_to(source).as_posix()}": path
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    written = distribution("ncf")
    contents[f"ncf-{written.version}.dist-info/METADATA"] = (written.read_text("METADATA") or "").encode()
    contents["requirements.txt"] = _requirements(wheels is not None).encode()
    if wheels is not None:
        contents |= {f"wheels/{path.name}": path for path in _wheels_in(wheels)}
    return contents


def serving_requirements() -> list[str]:
    """What serving and training need, torch aside, of the dependencies of ncf, with the versions that ncf declares."""
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
