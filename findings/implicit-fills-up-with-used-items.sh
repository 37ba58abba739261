#!/usr/bin/env bash
# implicit 0.7.3: an item-item recommender fills a list up with items that the user has used, although
# filter_already_liked_items=True (the default). Their score is 0, and they come after the others.
#
# It happens where fewer than N items have a neighbour among the user's: with small catalogues, small K or short
# histories. A recall or a coverage that counts such lists as they come counts used items as recommended ones.
# AlternatingLeastSquares marks the same case with a score of about -3.4e38 instead.
#
# Seen with implicit 0.7.3, scipy 1.16.3, numpy 2.3.5 on Python 3.11:
#   item-item: the user has used [0, 1] and gets [2, 3, 1, 0] with the last two scores 0.0
#   ALS: the same user gets two items with a score above -1e38
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check 'implicit==0.7.3' 'scipy==1.16.3' 'numpy==2.3.5'
env/bin/python - <<'PY'
import warnings

import numpy as np
import scipy.sparse as sp

warnings.filterwarnings("ignore")  # about threads of BLAS
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender

rows = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1]]
used = sp.csr_matrix(np.array(rows, dtype=np.float32))
knn = CosineRecommender(K=3, num_threads=1)
knn.fit(used, show_progress=False)
items, scores = knn.recommend(0, used[0], N=4, filter_already_liked_items=True)
print("item-item:", items.tolist(), np.round(scores, 3).tolist())
assert set(items.tolist()) == {0, 1, 2, 3}, "the list no longer holds the used items 0 and 1"
assert (scores[2:] == 0.0).all() and set(items[2:].tolist()) == {0, 1}
als = AlternatingLeastSquares(factors=2, iterations=3, random_state=0, num_threads=1)
als.fit(used, show_progress=False)
items, scores = als.recommend(0, used[0], N=4, filter_already_liked_items=True)
print("ALS:", items.tolist(), scores.tolist())
assert int((scores > -1e38).sum()) == 2, "ALS no longer marks what is filtered by its score"
PY
