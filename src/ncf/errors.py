"""One exception tree. Every message is one sentence that says what is wrong and what to do about it.

The command line prints an `NcfError` on standard error and exits with code 2. Any other exception is a bug in
ncf and keeps its traceback.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

_LONGEST, _END = 1_000, 300
"""Characters of a message, and of its end."""
_PACKAGES = {
    "faiss": "faiss-cpu", "moto": "moto[server]", "sagemaker": "sagemaker-core",
    "sagemaker_mlflow": "sagemaker-mlflow", "tomli_w": "tomli-w",
}  # fmt: skip
"""Packages that are not called as the module that they install."""


class NcfError(Exception):
    """A problem that the caller can solve; `str(error)` is a sentence for a person, without the middle of one
    that nobody could read."""

    def __init__(self, sentence: str = "") -> None:
        if len(sentence) > _LONGEST:  # The remedy is at the end.
            sentence = f"{sentence[: _LONGEST - _END]} … {sentence[-_END:]}"
        super().__init__(sentence)


class DataError(NcfError):
    """The interactions, candidate lists or a prepared data folder cannot be used as they are."""


class ConfigError(NcfError):
    """A recipe, an override or a command-line value is not valid."""


class CheckpointError(NcfError):
    """A checkpoint is damaged or belongs to another experiment."""


class ArtifactError(NcfError):
    """A model folder is damaged, incomplete or of another schema version."""


class UnknownIdError(NcfError):
    """A user or item id is not in the model, and the caller asked for strictness."""


class StorageError(NcfError):
    """A file could not be written: no space, no permission, or the target is in use."""


class Interrupted(NcfError):
    """Training was asked to stop (ctrl-C or SIGTERM) and has saved a checkpoint."""


class LostProcess(NcfError):
    """Another process of the same training was killed, hangs or failed; the message is that of its error."""


class TrackingError(NcfError):
    """A tracking server or database does not answer, or refuses a request."""


class CloudError(NcfError):
    """AWS or Docker refused a request, or a job failed: credentials, permissions, quotas, missing resources.

    `code`: the error code of AWS, or empty.
    """

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


def need(extra: str, *modules: str, hint: str = "") -> None:
    """Raise `ConfigError` unless all `modules`, which the `extra` of ncf installs, are there.

    Nothing is imported, so a command can ask before it does anything. `hint` continues the sentence.
    """
    absent = [_PACKAGES.get(module, module) for module in modules if find_spec(module) is None]
    if absent:
        names = f"{', '.join(absent[:-1])} and {absent[-1]}" if absent[1:] else absent[0]
        raise ConfigError(f"This needs {names}, not installed here: pip install 'ncf[{extra}]'{hint}.")


def imported(extra: str, module: str) -> Any:
    """The `module`, imported; raises `ConfigError` that names the `extra` of ncf where it is missing."""
    need(extra, module.partition(".")[0])
    try:
        return import_module(module)
    except ImportError as error:
        remedy = f"pip install --upgrade 'ncf[{extra}]'"
        raise ConfigError(f"{module} cannot be imported ({error}): {remedy}.") from error
