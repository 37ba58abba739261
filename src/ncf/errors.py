"""One exception tree. Every message is one sentence that says what is wrong and what to do about it.

The command line turns an `NcfError` into that sentence on standard error and exit code 2; anything else is a
defect of ours and keeps its traceback.
"""


class NcfError(Exception):
    """Something the caller can mend; `str(error)` is a sentence for a person."""


class DataError(NcfError):
    """The interactions, candidate lists or a prepared data folder cannot be used as they are."""


class ConfigError(NcfError):
    """A recipe, an override or a command-line value is not valid."""


class CheckpointError(NcfError):
    """A checkpoint is damaged or belongs to another experiment."""


class ArtifactError(NcfError):
    """A model folder is damaged, incomplete or of another schema version."""


class UnknownIdError(NcfError):
    """A user or item id that the model has never seen, where the caller asked for strictness."""


class StorageError(NcfError):
    """A file could not be written: no space, no permission, or the target is in use."""


class Interrupted(NcfError):
    """Training was asked to stop (ctrl-C or SIGTERM) and has saved a checkpoint."""


class LostProcess(NcfError):
    """Another process of the same training was killed, hangs, or failed with the sentence that this one passes on."""


class TrackingError(NcfError):
    """A tracking server or database does not answer, or refuses what it is sent."""


class CloudError(NcfError):
    """AWS, Docker or a job said no: credentials, permissions, a quota, a failed job, a missing resource.

    `code` is AWS's own code for it, or empty.
    """

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code
