"""The program of a pipeline's processing containers: `pipeline_steps prepare|evaluate|promote NAME=VALUE…`.

It reads and writes only files below /opt/ml/processing, so the image needs no AWS library and the program
runs anywhere.

| step | `input/` | `output/` |
| --- | --- | --- |
| prepare | `raw/`: one table of interactions, or a prepared folder, which is copied | `data/prepared/` |
| evaluate | `data/`, `model/model.tar.gz`, `champion/` | `evaluation/evaluation.json`, `MODEL_CARD.md` |
| promote | `model/model.tar.gz` | `champion/`: an approved model, where the next run finds it |

It exits with 0 on success, otherwise with 1 and one sentence on standard error and in `output/message`, which
SageMaker reads as the job's ExitMessage (`/opt/ml/output/message`, "Build Your Own Processing Container").
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ncf.data import Dataset, PrepareOptions, prepare_file
from ncf.data.files import json_text, sha256_of, storage_errors, write_text
from ncf.data.options import read_options, read_value
from ncf.errors import ConfigError, DataError
from ncf.sagemaker.container.environment import ROOT
from ncf.sagemaker.container.exit_status import exit_code
from ncf.serving.artifact import open_artifact

CHAMPION = "champion.json"
"""The file that names the champion; next to it is its model.tar.gz, if there is a champion."""
MODEL = "model.tar.gz"
LONGEST_MESSAGE = 1024


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run the step that `arguments` name below `root`, and return the exit code of the container."""
    message = root / "output" / "message"
    return exit_code(lambda: _run(arguments, root / "processing"), message, LONGEST_MESSAGE)


def prepare(folder: Path, values: Mapping[str, str]) -> None:
    """Make a prepared folder from `input/raw`; `values` are fields of `PrepareOptions`, and `name`."""
    raw, target = folder / "input" / "raw", folder / "output" / "data" / "prepared"
    folders = _folders_with(raw, "dataset.json")
    if folders:
        dataset = Dataset.open(_only(folders, "prepared data folders in InputData"))
        _log(f"{dataset.name} is prepared already.")
    else:
        options, name = _options(values, raw), values.get("name")
        dataset, report = prepare_file(_table(raw, options), options, name)
        for line in report.lines():
            _log(line)
    dataset.save(target)


def evaluate(folder: Path, values: Mapping[str, str]) -> None:
    """Evaluate the new model against the champion and write the results; `values` are promotion criteria."""
    from ncf.sagemaker.container.criteria import PromotionCriteria
    from ncf.sagemaker.container.promotion import evaluate

    prepared = _only(_folders_with(folder / "input" / "data", "dataset.json"), "prepared data folders")
    artifact = open_artifact(folder / "input" / "model" / MODEL)
    packed = folder / "input" / "champion" / MODEL
    champion = open_artifact(packed) if packed.is_file() else None
    names = [name for name in ("minimum_gain", "alpha", "floor") if name in values]
    criteria = PromotionCriteria(**{name: float(read_value(name, values[name], "float")) for name in names})
    document = evaluate(artifact, Dataset.open(prepared), champion, criteria)
    document["candidate"]["sha256"] = sha256_of(folder / "input" / "model" / MODEL)
    target = folder / "output" / "evaluation"
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / "evaluation.json", json_text(document, 2))
        shutil.copy(artifact.folder / "MODEL_CARD.md", target / "MODEL_CARD.md")
    _log(document["verdict"]["sentence"])


def promote(folder: Path, values: Mapping[str, str]) -> None:
    """Put an approved model where the next run's `evaluate` finds it; one that awaits approval is only
    recorded.

    `values` are the ARN of the `package`, the URI of the `model` and its approval `status`.
    """
    target, model = folder / "output" / "champion", folder / "input" / "model" / MODEL
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        note = {"package": values.get("package", ""), "model": values.get("model", "")}
        if values.get("status") == "Approved":
            shutil.copy(model, target / MODEL)
            write_text(target / CHAMPION, json.dumps(note, indent=2))
            _log("Approved: the next run is compared with this model.")
        else:
            write_text(target / "candidate.json", json.dumps(note, indent=2))
            _log("Registered; it awaits approval: ncf sagemaker models approve.")


_STEPS: dict[str, Callable[[Path, Mapping[str, str]], None]] = {
    "prepare": prepare, "evaluate": evaluate, "promote": promote,
}  # fmt: skip


def _run(arguments: Sequence[str], folder: Path) -> None:
    step = _STEPS.get(arguments[0] if arguments else "")
    if step is None:
        raise ConfigError(f"The step must be one of {', '.join(_STEPS)}.")
    pairs = [text.partition("=") for text in arguments[1:]]
    step(folder, {name: value for name, _, value in pairs})


def _options(values: Mapping[str, str], raw: Path) -> PrepareOptions:
    """The options in `values`; a table of items is named relative to the folder `raw`."""
    given = read_options({name: text for name, text in values.items() if name != "name"})
    items = given.get("items_file")
    return PrepareOptions(**given | ({"items_file": str(raw / items)} if items else {}))


def _table(raw: Path, options: PrepareOptions) -> Path:
    """The one file of interactions in `raw`."""
    files = sorted(path for path in raw.rglob("*") if path.is_file()) if raw.is_dir() else []
    tables = [path for path in files if str(path) != options.items_file and not path.name.startswith(".")]
    return _only(tables, "tables of interactions in InputData")


def _folders_with(folder: Path, name: str) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"**/{name}")) if folder.is_dir() else []


def _only(paths: list[Path], what: str) -> Path:
    if len(paths) == 1:
        return paths[0]
    names = f" ({', '.join(path.name for path in paths[:4])})" if paths else ""
    raise DataError(f"There must be one and not {len(paths)} {what}{names}: give the address of one.")


def _log(sentence: str) -> None:
    print(f"[ncf] {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
