"""A double of Amazon's closed library: a backend of its name, with its one group a process, that is gloo
inside.

Importing it registers the backend, as the library's documentation says ("Use the SMDDP library in your
PyTorch training script", SageMaker Developer Guide): `torch.distributed.init_process_group("smddp")` works
afterwards, and `new_group` does not. Each group that is made writes a line to the file in SMDDP_DOUBLE_LOG.
"""

import os
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

made = 0


def _group(store: dist.Store, rank: int, size: int, timeout: timedelta) -> dist.ProcessGroupGloo:
    global made
    made += 1
    with Path(os.environ.get("SMDDP_DOUBLE_LOG", os.devnull)).open("a") as log:
        log.write(f"group {made} of process {rank} of {size}\n")
    if made > 1:
        raise RuntimeError("The smddp backend does not make subgroups (torch.distributed.new_group).")
    return dist.ProcessGroupGloo(store, rank, size, timeout)


dist.Backend.register_backend("smddp", _group, devices=["cpu"])
