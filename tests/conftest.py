"""Tests run side by side, one torch thread each; hypothesis draws the same examples in every run."""

import os

import hypothesis
import torch

os.environ.setdefault("POLARS_MAX_THREADS", "1")
torch.set_num_threads(1)
hypothesis.settings.register_profile("ncf", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("ncf")
