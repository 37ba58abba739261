#!/usr/bin/env bash
# implicit 0.7.3: the K of an item-item recommender counts the item itself.
#
# Every item is its own nearest neighbour (cosine 1) and is kept among the K. With K=1 nothing but the item is left, so
# no user gets a score above zero; K=20, the default, has 19 neighbours. Whoever compares with another ItemKNN "at
# equal K" compares one neighbour more or fewer.
#
# Seen with implicit 0.7.3, scipy 1.16.3, numpy 2.3.5 on Python 3.11:
#   K=1: 1 stored per item, on the diagonal; best score 0.0
#   K=2: 2 stored per item, 1 of them on the diagonal; best score 0.5
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check 'implicit==0.7.3' 'scipy==1.16.3' 'numpy==2.3.5'
env/bin/python - <<'PY'
import warnings

import numpy as np
import scipy.sparse as sp

warnings.filterwarnings("ignore")  # about threads of BLAS
from implicit.nearest_neighbours import CosineRecommender

used = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], dtype=np.float32))
seen = {}
for k in (1, 2):
    model = CosineRecommender(K=k, num_threads=1)
    model.fit(used, show_progress=False)
    stored = model.similarity.tocsr()
    diagonal = int((stored.diagonal() > 0.99).sum())
    _, scores = model.recommend(0, used[0], N=2)
    seen[k] = (np.diff(stored.indptr).tolist(), diagonal, round(float(scores[0]), 3))
    print(f"K={k}: stored per item {seen[k][0]}, of them on the diagonal {diagonal} of 4; best score {seen[k][2]}")
assert seen[1] == ([1, 1, 1, 1], 4, 0.0), "K=1 has a neighbour other than the item itself"
assert seen[2][:2] == ([2, 2, 2, 2], 4) and seen[2][2] > 0.0, "K=2 no longer keeps the item and one neighbour"
PY
