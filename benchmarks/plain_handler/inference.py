"""The peer of the serving benchmark: an inference handler as the workshop has one, under TorchServe.

Written for this comparison. It has what such a handler has: json in; the torch module (`benchmarks/port.py`,
the trained weights) over pairs of the repeated user with all items, or with those that were given; seen items
masked; top k; json out. Nothing slows it down: ids are looked up in dictionaries, tensors that do not depend
on the request are made once, and the number of torch's threads is what measured best (PLAIN_THREADS).
"""

import json
import os
from dataclasses import dataclass
from typing import Any

import torch

from ncf.data import Csr
from ncf.models import NeuMF
from ncf.serving.artifact import open_artifact
from port import PlainNeuMF


@dataclass
class Plain:
    """The torch module, and what turns ids into rows and back."""

    model: PlainNeuMF
    user_rows: dict[str, int]
    item_rows: dict[str, int]
    item_ids: list[Any]
    all_items: torch.Tensor
    seen: Csr


def model_fn(model_dir: str) -> Plain:
    """Load the weights."""
    torch.set_num_threads(int(os.environ.get("PLAIN_THREADS", "1")))
    artifact = open_artifact(model_dir)
    items = artifact.items.ids.tolist()
    config = artifact.experiment.model
    trained = artifact.model
    assert isinstance(trained, NeuMF)
    model = PlainNeuMF(len(artifact.users), len(items), config.width, config.embedding, config.tower)
    return Plain(
        model=model.take(trained).eval(),
        user_rows={str(user): row for row, user in enumerate(artifact.users.ids.tolist())},
        item_rows={str(item): row for row, item in enumerate(items)},
        item_ids=items,
        all_items=torch.arange(len(items)),
        seen=artifact.seen,
    )


def input_fn(body: str, content_type: str) -> Any:  # noqa: ARG001 - as the toolkit calls it
    """Parse the body."""
    return json.loads(body)


def predict_fn(request: Any, plain: Plain) -> list[dict[str, Any]]:
    """The best k of all items, or of those that were given, for one user."""
    k = request.get("k", 10)
    if "users" in request:
        user = plain.user_rows[str(request["users"][0])]
        items = plain.all_items
    else:
        user = plain.user_rows[str(request["user"][0])]
        items = torch.tensor([plain.item_rows[str(item)] for item in request["item"]])
    with torch.inference_mode():
        scores = plain.model(torch.full_like(items, user), items)
        if "users" in request:
            scores[torch.from_numpy(plain.seen.row(user).copy()).long()] = -torch.inf
        best = torch.topk(scores, min(k, len(scores)))
    return [
        {"item": plain.item_ids[row], "score": round(score, 6)}
        for row, score in zip(items[best.indices].tolist(), best.values.tolist(), strict=True)
    ]


def output_fn(prediction: list[dict[str, Any]], accept: str) -> str:  # noqa: ARG001 - as the toolkit calls it
    """Write the answer."""
    return json.dumps({"recommendations": prediction})
