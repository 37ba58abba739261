"""What AWS's PyTorch containers need from us: model.tar.gz with the code that serves it, and the code that
trains.

| in the archive | what |
| --- | --- |
| the artifact's files | at the top level, where the container's model folder has them |
| `code/inference.py` | imports the four functions of `ncf.sagemaker.container.inference` |
| `code/ncf/`, `code/ncf-….dist-info/` | this package as it is here, and its version |
| `code/requirements.txt` | what `code/ncf` needs to serve; the container installs it when it starts |
| `code/wheels/` | where wheels are given, only these are installed, without a network |

The code that trains (script mode) is `train.py`, `ncf/`, `requirements.txt` and, where they are given,
`wheels/`, in a folder or in the sourcedir.tar.gz that `sagemaker_submit_directory` names; `sagemaker_program`
is `train.py`.

The one decision worth knowing: the package travels as source next to the model. The container has `code/` on
its path, so it needs no registry that has ncf, and serves with the code that the artifact was packed with.
torch is not among the requirements: the containers have their own.
"""

from collections.abc import Sequence
from importlib.metadata import distribution, requires
from pathlib import Path

from packaging.requirements import Requirement

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
    """Verify the artifact of `run`, pack it into the archive `target`, and return that path.

    `code` adds what AWS's PyTorch images need to serve it, `wheels` a folder of packages to install without a
    network. Raises `ArtifactError` for a damaged artifact.
    """
    artifact = open_artifact(run)
    contents: dict[str, Path | bytes] = {
        name: artifact.folder / name for name in ("manifest.json", *artifact.manifest["files"])
    }
    if code or wheels is not None:
        contents |= code_files(wheels)
    return pack(contents, target)


def pack_training_code(target: Path, *, wheels: Path | None = None) -> Path:
    """Write the code that trains to `target`: an archive where the name ends in `.tar.gz`, otherwise a
    folder.

    A folder of that name is replaced if it holds such code; raises `ConfigError` if it holds something else.
    `wheels` as in `pack_model`.
    """
    contents = training_files(wheels)
    if target.name.endswith(".tar.gz"):
        return pack(contents, target)
    if target.exists() and not (target / "train.py").is_file():
        raise ConfigError(f"{target} exists and holds no training code: give the name of a new folder.")
    with atomic_folder(target) as temporary:
        for name, content in contents.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return target


def code_files(wheels: Path | None = None) -> dict[str, Path | bytes]:
    """Every file of `code/`, by its name in the archive; `wheels` as in `pack_model`."""
    contents = _package_files(wheels) | {"inference.py": INFERENCE.encode()}
    return {f"code/{name}": content for name, content in contents.items()}


def training_files(wheels: Path | None = None) -> dict[str, Path | bytes]:
    """Every file of a training job's source folder, by its name; `wheels` as in `pack_model`."""
    return _package_files(wheels) | {"train.py": TRAIN.encode()}


def _package_files(wheels: Path | None) -> dict[str, Path | bytes]:
    """The package with its metadata (artifacts name the version of ncf), requirements, and wheels."""
    source = Path(ncf.__file__).parent
    contents: dict[str, Path | bytes] = {
        f"ncf/{path.relative_to(source).as_posix()}": path
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    installed = distribution("ncf")
    metadata = (installed.read_text("METADATA") or "").encode()
    contents[f"ncf-{installed.version}.dist-info/METADATA"] = metadata
    contents["requirements.txt"] = _requirements(wheels is not None).encode()
    if wheels is not None:
        contents |= {f"wheels/{path.name}": path for path in wheels_in(wheels)}
    return contents


def serving_requirements() -> list[str]:
    """The requirements of ncf without torch and extras, with the versions that ncf declares."""
    declared = {
        requirement.name: f"{requirement.name}{requirement.specifier}"
        for requirement in map(Requirement, requires("ncf") or ())
        if "extra ==" not in str(requirement.marker)
    }
    return [declared.get(name, name) for name in SERVING_NEEDS]


def _requirements(offline: bool) -> str:
    options = ["--no-index", "--find-links wheels"] if offline else []
    return "".join(f"{line}\n" for line in (*options, *serving_requirements()))


def wheels_in(folder: Path, words: Sequence[str] = SERVING_NEEDS) -> list[Path]:
    """The wheels in a folder; raises `ConfigError` where it has none. `words` complete pip's command."""
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise ConfigError(
            f"{folder} has no wheels: fill it with 'pip download --only-binary :all: --dest {folder} "
            f"{' '.join(words)}', for the Python of the container."
        )
    return wheels
