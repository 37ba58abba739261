"""What one process under torchrun sees of `connect("smddp")`: a line of JSON, and whether a second group can
be had."""

import json
import os

import torch
import torch.distributed as dist

from ncf.training.parallel.connect import connect

with connect("smddp") as communicator:
    seen = {
        "backend": dist.get_backend(),
        "rank": communicator.rank,
        "all": communicator.all_gather_object(communicator.rank),
        "shared": communicator.broadcast(f"from {communicator.rank}"),
        "collected": communicator.all_gather_rows(torch.full((communicator.rank, 2), 7)).tolist(),
    }
    try:
        dist.new_group([0, 1])
    except RuntimeError as error:
        seen["second group"] = str(error)
    os.write(1, (json.dumps(seen) + "\n").encode())  # in one piece: the other process writes too
