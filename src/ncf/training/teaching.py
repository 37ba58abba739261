"""A GMF that begins at what a whole committee knows: a closed form, a GMF and an MLP, as one pair of tables.

In: a trained GMF and a trained MLP of the same training interactions. Out: first values of a (wider) GMF: the truncated
singular value decomposition of

    alpha (closed form + GMF) / 2 + (1 - alpha) MLP

over all users and items. The student is of its teachers' family and as good as all of them together, as in born-again
networks (Furlanello et al., ICML'18); here it is a decomposition, not a descent. The decision worth knowing: the full logits
of all pairs are held, so the limits are those of the spectral start.

Legend: U users, I items.
"""

import torch
from torch import Tensor

from ncf.data import Csr
from ncf.models import GMF, MLP, Scorer
from ncf.runtime import Workers, spans
from ncf.training.warm_start import Logits, closed_form_logits, refuse_too_large, start_gmf

_USERS_AT_ONCE = 64


def start_taught(
    student: GMF,
    gmf: GMF,
    mlp: MLP,
    alpha: float,
    train: Csr,
    negatives: int,
    seed: int,
    workers: Workers,
    exponent: float = 0.0,
) -> None:
    """Overwrite the tables and the output layer of `student`. Raises `ConfigError` for data too large for a closed form."""
    items = len(student.item_table)
    refuse_too_large(train.users, items, "leave [pretraining] out and set train.start = 'random'")
    closed = closed_form_logits(train, items, negatives, seed, workers, exponent)
    taught = closed.centred.add_(closed.mean).mul_(alpha / 2)
    taught.add_(all_logits(gmf, train.users, workers), alpha=alpha / 2)
    taught.add_(all_logits(mlp, train.users, workers), alpha=1.0 - alpha)
    mean = taught.mean().item()
    with torch.no_grad():
        start_gmf(student, Logits(taught.sub_(mean), mean), seed)


def all_logits(model: GMF | MLP, users: int, workers: Workers) -> Tensor:
    """[U, I] float32: the model's logits of every pair."""
    scorer = Scorer(model)
    logits = torch.empty(users, len(model.item_table))

    def score(part: slice) -> None:
        logits[part] = scorer.catalogue(torch.arange(part.start, part.stop))

    workers.map(score, spans(users, -(-users // _USERS_AT_ONCE)))
    return logits
