"""The best k of a row of scores, in an order that does not depend on chance.

Higher scores come first; equal scores are in the order of their item rows. Minus infinity marks what may not appear.
"""

import torch
from torch import Tensor


def best(scores_BI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores and item rows [B, min(k, I)], best first; what may not appear comes last, with minus infinity."""
    k = min(k, scores_BI.shape[1])
    if k == 0:
        return scores_BI[:, :0], torch.zeros(len(scores_BI), 0, dtype=torch.int64)
    top, rows = scores_BI.topk(k, dim=1)
    crowded = (scores_BI >= top[:, -1:]).sum(1) > k
    if bool(crowded.any()):
        rows[crowded] = scores_BI[crowded].argsort(dim=1, descending=True, stable=True)[:, :k]
    rows = rows.sort(dim=1).values
    top = scores_BI.gather(1, rows)
    order = top.argsort(dim=1, descending=True, stable=True)
    return top.gather(1, order), rows.gather(1, order)
