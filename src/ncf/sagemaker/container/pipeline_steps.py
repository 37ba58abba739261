"""What the pipeline's processing containers run: `python -m ncf.sagemaker.container.pipeline_steps prepare|evaluate|promote NAME=VALUE…`.

Only files below /opt/ml/processing are read and written, so the image needs no AWS library and the programs run
anywhere.

| step | `input/` | `output/` |
| --- | --- | --- |
| prepare | `raw/`: one table of interactions, or a prepared folder, which is passed on | `data/prepared/` |
| evaluate | `data/`, `model/model.tar.gz`, `champion/` | `evaluation/evaluation.json`, `MODEL_CARD.md` |
| promote | `model/model.tar.gz` | `champion/`: the model where the next run finds it, if it is approved |

Exit 0 is success; otherwise 1 with one sentence on standard error and in `output/message`, which becomes the
job's ExitMessage where SageMaker collects it (`/opt/ml/output/message`, "Build Your Own Processing Container").
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ncf.data import Dataset, PrepareOptions, prepare_file
from ncf.data.files import sha256_of, storage_errors, write_text
from ncf.data.options import read_options, read_value
from ncf.errors import ConfigError, DataError
from ncf.sagemaker.container.environment import ROOT
from ncf.sagemaker.container.exit_status import ended
from ncf.serving.artifact import open_artifact

CHAMPION = "champion.json"
"""Says which model the champion is; beside it lies its model.tar.gz, if there is one."""
MODEL = "model.tar.gz"
LONGEST_MESSAGE = 1024


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run one step below `root`; the exit code of the container."""
    return ended(lambda: _run(arguments, root / "processing"), root / "output" / "message", LONGEST_MESSAGE)


def prepare(folder: Path, values: Mapping[str, str]) -> None:
    """Make a prepared folder of what lies in `input/raw`; values are fields of `PrepareOptions`, and `name`."""
    raw, target = folder / "input" / "raw", folder / "output" / "data" / "prepared"
    found = _folders_with(raw, "dataset.json")
    if found:
        dataset = Dataset.open(_only(found, "prepared data folders in InputData"))
        _say(f"{dataset.name} is prepared already and is passed on.")
    else:
        options, name = _options(values, raw), values.get("name")
        dataset, report = prepare_file(_table(raw, options), options, name)
        for line in report.lines():
            _say(line)
    dataset.save(target)


def evaluate(folder: Path, values: Mapping[str, str]) -> None:
    """Judge the new model against the champion and write what was found."""
    from ncf.sagemaker.container.criteria import PromotionCriteria
    from ncf.sagemaker.container.promotion import evaluate

    dataset = Dataset.open(
        _only(_folders_with(folder / "input" / "data", "dataset.json"), "prepared data folders")
    )
    artifact = open_artifact(folder / "input" / "model" / MODEL)
    standing = folder / "input" / "champion" / MODEL
    champion = open_artifact(standing) if standing.is_file() else None
    bar = PromotionCriteria(
        **{name: _number(values, name) for name in ("minimum_gain", "alpha", "floor") if name in values}
    )
    document = evaluate(artifact, dataset, champion, bar)
    document["candidate"]["sha256"] = sha256_of(folder / "input" / "model" / MODEL)
    target = folder / "output" / "evaluation"
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / "evaluation.json", json.dumps(document, indent=2))
        shutil.copy(artifact.folder / "MODEL_CARD.md", target / "MODEL_CARD.md")
    _say(document["verdict"]["sentence"])


def promote(folder: Path, values: Mapping[str, str]) -> None:
    """Put an approved model where the next run's `evaluate` finds it; one that waits for approval is only noted."""
    target, model = folder / "output" / "champion", folder / "input" / "model" / MODEL
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        note = {"package": values.get("package", ""), "model": values.get("model", "")}
        if values.get("status") == "Approved":
            shutil.copy(model, target / MODEL)
            write_text(target / CHAMPION, json.dumps(note, indent=2))
            _say("Approved: this model is what the next run is compared with.")
        else:
            write_text(target / "candidate.json", json.dumps(note, indent=2))
            _say("Registered, and waits for approval: ncf sagemaker models approve.")


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
    """The options of `ncf prepare`, by the names of their fields; a table of items is named beside the other."""
    given = read_options({name: text for name, text in values.items() if name != "name"})
    items = given.get("items_file")
    return PrepareOptions(**given | ({"items_file": str(raw / items)} if items else {}))


def _number(values: Mapping[str, str], name: str) -> float:
    return float(read_value(name, values[name], "float"))


def _table(raw: Path, options: PrepareOptions) -> Path:
    """The one file of interactions in `raw`."""
    files = sorted(path for path in raw.rglob("*") if path.is_file()) if raw.is_dir() else []
    tables = [path for path in files if str(path) != options.items_file and not path.name.startswith(".")]
    return _only(tables, "tables of interactions in InputData")


def _folders_with(folder: Path, name: str) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"**/{name}")) if folder.is_dir() else []


def _only(found: list[Path], what: str) -> Path:
    if len(found) == 1:
        return found[0]
    names = f" ({', '.join(path.name for path in found[:4])})" if found else ""
    raise DataError(f"There must be one and not {len(found)} {what}{names}: give the address of one.")


def _say(sentence: str) -> None:
    print(f"[ncf] {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
