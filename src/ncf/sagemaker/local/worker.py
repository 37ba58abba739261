"""`python -m ncf.sagemaker.local.worker HOME REGION KIND NAME TASK LOCK`: one job or an endpoint's fleet.

In: the record to run, and the file descriptor of the lock that shows that the worker lives.
Out: the record's last state.
"""

import os
import signal
import sys
import traceback
from pathlib import Path


def _detach(descriptor: int) -> None:
    """Go on in a session of its own, and let the command that waits go on too."""
    child = os.fork()
    if child:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(child).encode(), 0)
        os._exit(0)
    os.setsid()
    os.set_inheritable(descriptor, False)


def main(words: list[str]) -> None:
    """Run the task that the words name, and exit without cleaning up twice."""
    home, region, kind, name, task, lock = words
    # Stops come through the record; a terminal's ctrl-C is not for workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _detach(int(lock))
    # Imported only now: the command waits until here, and others for its lock.
    from ncf.sagemaker.local.client import local_plane

    plane = local_plane(Path(home), region)
    with plane.store.locked():
        record = plane.store.find(kind, name)
    try:
        if record is not None:
            plane.run(record, task)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
