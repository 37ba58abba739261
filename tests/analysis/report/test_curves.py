"""Learning curves: every history is drawn, and what is missing is said."""

import re

from ncf.analysis.report.curves import section
from reports import html

WATCHED = [
    {"epoch": n, "loss": 1 / n, "seconds": 1.5, "validation_hr@10": n / 10, "validation_ndcg@10": n / 20}
    for n in (1, 2, 3)
]
BLIND = [{"epoch": n, "loss": 1 / n, "seconds": 0.5} for n in (1, 2)]


def test_a_watched_run_has_loss_and_validation_and_the_epoch_kept() -> None:
    made = html(section({"mine": WATCHED}, "bce", "epoch 2, the best on validation"))
    assert made.count("<svg") == 1
    for words in (
        "Training: binary cross-entropy",
        "loss (nats per example)",
        "Validation HR@10",
        "mean NDCG@10",
    ):
        assert f">{words}<" in made
    assert "3 epochs in 4.5 seconds of training." in made
    assert "Weights kept: epoch 2, the best on validation." in made
    assert "There is no validation curve" not in made


def test_a_run_that_was_not_watched_says_so() -> None:
    made = html(section({"mine": BLIND}, "bpr", "epoch 2, the last"))
    assert "There is no validation curve" in made
    assert "Training: BPR" in made
    assert "Validation HR@10" not in made


def test_validation_at_some_epochs_only_is_drawn_at_those() -> None:
    history = [BLIND[0], WATCHED[1], {**BLIND[0], "epoch": 3}, {**WATCHED[2], "epoch": 4}]
    assert "Validation HR@10" in html(section({"mine": history}, "bce", "epoch 4, the last"))
    ending_blind = history[:3]
    assert "Validation HR@10" in html(section({"mine": ending_blind}, "bce", "epoch 3, the last"))


def test_halves_have_curves_of_their_own() -> None:
    made = html(section({"gmf": WATCHED, "mlp": BLIND, "mine": BLIND}, "bce", "epoch 1, the last"))
    assert re.findall("<h3>(.*?)</h3>", made) == [
        "GMF, the first half", "MLP, the second half", "mine, fused and trained on"
    ]  # fmt: skip
    assert made.count("<svg") == 3


def test_a_run_that_is_called_like_a_half_is_none() -> None:
    made = html(section({"gmf": BLIND}, "bce", "epoch 2, the last"))
    assert "<h3>" not in made
    assert '"Learning curves of gmf"' in made


def test_one_epoch_is_a_point_and_none_is_a_sentence() -> None:
    assert "1 epoch in 0.5 seconds" in html(section({"mine": BLIND[:1]}, "bce", "epoch 1, the last"))
    assert "There are no curves" in html(section({"mine": []}, "bce", "the start, not trained on"))
