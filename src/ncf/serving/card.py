"""The model card in Markdown: what to know before using the artifact (Mitchell et al., FAT*'19)."""

from typing import Any

from ncf.config import Experiment
from ncf.data import Dataset


def model_card(experiment: Experiment, dataset: Dataset, metrics: dict[str, Any], parameters: int) -> str:
    """The text of `MODEL_CARD.md`."""
    sections = [
        f"# {experiment.name}",
        f"{_KINDS[experiment.model.kind]}, trained by ncf on `{dataset.name}`. {parameters:,} parameters.",
        "## Figures",
        _figures(metrics),
        "## Data",
        _data(dataset),
        "## Settings",
        "```json\n" + experiment.model_dump_json(indent=2, include={"model", "train"}) + "\n```",
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


_KINDS = {
    "gmf": "Generalized matrix factorization (GMF; He et al., WWW'17)",
    "mlp": "Multi-layer perceptron (MLP; He et al., WWW'17)",
    "neumf": "Neural matrix factorization (NeuMF; He et al., WWW'17)",
    "mf": "Matrix factorization: a dot product and item biases (MF; Rendle et al., RecSys'20)",
    "history-gmf": "GMF of users who are an own vector and their history (SVD++ form; Koren, KDD'08)",
    "history-neumf": "NeuMF whose GMF branch has users of an own vector and their history "
    "(SVD++ form; Koren, KDD'08)",
    "sasrec": "Self-attention over a user's latest items (SASRec; Kang & McAuley, ICDM'18)",
    "sasrec-neumf": "NeuMF whose GMF branch is self-attention over a user's latest items "
    "(SASRec; Kang & McAuley, ICDM'18)",
}

_LIMITS = """\
- Scores are logits: they order the items of one user. They are not probabilities to compare between users.
- Users who were not in training are answered by popularity.
- The metrics are those of the protocol named with them. A full ranking of the catalogue gives smaller ones
  and can order models differently (Krichene & Rendle, KDD'20).
- The model knows only observed interactions: not what a user was shown, nor why something was not used. It
  tends to recommend popular items more often than they are used."""


def final_sentence(metrics: dict[str, Any]) -> str:
    """What there is to know of the figures of a final fit; empty for any other model."""
    final = metrics.get("final")
    if not final:
        return ""
    return (
        f"This is a final fit: all {final['interactions']:,} interactions were trained on, test included, so "
        "none is left to judge it by. Its judged twin is "
        f"`{final['twin']}` (weights `{final['weights'][:16]}`)."
    )


def _figures(metrics: dict[str, Any]) -> str:
    if final := final_sentence(metrics):
        quoted = _figures({name: value for name, value in metrics.items() if name != "final"})
        return f"{final}\n\n**These figures are those of the twin, not of this model.** {quoted}"
    test = metrics.get("test")
    if not test or not test["metrics"]:
        return "No test interactions were held out, so there are none."
    lines = [
        f"Test split, {test['protocol']} protocol, {test['ties']} ties, "
        f"{test['rows']:,} held-out interactions; weights of {metrics['selected']}.",
        "",
        "| metric | value | 95% interval |",
        "| --- | --- | --- |",
    ]
    for name, value in test["metrics"].items():
        low, high = test["intervals"].get(name, (None, None))
        lines.append(f"| {name} | {value:.4f} | {'' if low is None else f'{low:.4f} – {high:.4f}'} |")
    return "\n".join(lines)


def _data(dataset: Dataset) -> str:
    licence = dataset.description.get("licence")
    return (
        f"{len(dataset.users):,} users, {len(dataset.items):,} items, "
        f"{len(dataset.train):,} training interactions; digest `{dataset.digest[:16]}`."
        + (f" Licence: {licence}" if licence else "")
    )
