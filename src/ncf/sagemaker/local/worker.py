"""`python -m ncf.sagemaker.local.worker HOME REGION KIND NAME LOCK`: the process that one job or deployment lives in.

In: a record that says what to run, and a file descriptor with the lock that says that we live. Out: the record's last
state; its containers are gone by then. Whatever goes wrong becomes the job's FailureReason.
"""

import os
import shutil
import sys
import traceback
from pathlib import Path

from ncf.errors import NcfError
from ncf.sagemaker.local import docker, endpoints, jobs, pipelines, process
from ncf.sagemaker.local.state import Record, Store
from ncf.sagemaker.local.watch import heed_signals


def main(words: list[str]) -> None:
    """Go on alone and run what the words name."""
    home, region, kind, name, lock = words
    heed_signals()
    process.detach(int(lock))
    store = Store(Path(home), region)
    with store.locked():
        record = store.read(kind, name)
    if record is None:
        return
    try:
        _run(store, record)
    except Exception as error:
        traceback.print_exc()
        _fail(
            store, record, str(error) if isinstance(error, NcfError) else f"{type(error).__name__}: {error}"
        )
    finally:
        folder = store.folder(kind, name)
        docker.remove(folder)
        for rest in ("root", "model"):
            shutil.rmtree(folder / rest, ignore_errors=True)
        sys.stdout.flush()
        os._exit(0)


def _run(store: Store, record: Record) -> None:
    from ncf.sagemaker.local import pipeline_run, serving, training, transform

    runs = {
        "training-job": training.run_training,
        "processing-job": training.run_processing,
        "transform-job": transform.run_transform,
        "deployment": serving.run_deployment,
        "pipeline-execution": pipeline_run.run_execution,
    }
    runs[record["kind"]](store, record)


def _fail(store: Store, record: Record, reason: str) -> None:
    if record["kind"] == endpoints.DEPLOYMENT:
        endpoints.failed(store, record, reason)
    elif record["kind"] == pipelines.EXECUTION:
        pipelines.ended(store, record["name"], "Failed", reason)
    else:
        jobs.move(store, record["kind"], record["name"], "Failed", "Failed", reason=reason)


if __name__ == "__main__":
    main(sys.argv[1:])
