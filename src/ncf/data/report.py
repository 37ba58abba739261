"""The report of a preparation: what it read, dropped and made.

In: the description that is stored with the data set. Out: `PrepareReport.lines()`. The decision worth
knowing: the report is a view of that description, so it can be printed again from any prepared folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REASONS = {
    "duplicates": "repeated (user, item) pairs, the latest kept",
    "repeats_summed": "repeated (user, item) pairs, the latest kept with the weights of all",
    "below_min_rating": "interactions below the least rating",
    "k_core_interactions": "interactions of users or items below the k-core",
    "k_core_users": "users below the k-core",
    "k_core_items": "items below the k-core",
    "unknown_after_cut": "interactions after the cut whose user or item training does not know",
    "unknown_test_users": "test users that do not occur in training",
    "test_duplicates": "repeated (user, item) pairs of the test",
    "test_positives_in_train": "training rows that are test positives, taken out of training",
}


@dataclass(frozen=True)
class PrepareReport:
    """`description` is `Dataset.description`."""

    description: dict[str, Any]

    def lines(self) -> list[str]:
        """One fact a line: source, what was dropped and why, counts, split, audit, licence."""
        facts = self._source() + self._dropped() + self._counts()
        return facts + self._split() + self._audit() + self._licence()

    def _source(self) -> list[str]:
        source = self.description["source"]
        columns = ", ".join(f"{purpose} = {name}" for purpose, name in source.get("columns", {}).items())
        lines = [f"read      {source['rows']:,} interactions from {source['from']}"]
        lines += [f"columns   {columns}"] if columns else []
        return lines + [f"left out  {sentence}" for sentence in source.get("left_out", ())]

    def _dropped(self) -> list[str]:
        dropped = {key: count for key, count in self.description["dropped"].items() if count}
        if not dropped:
            return ["dropped   nothing"]
        return [f"dropped   {count:,} {REASONS.get(key, key)}" for key, count in dropped.items()]

    def _counts(self) -> list[str]:
        counts = self.description["counts"]
        lines = [
            f"kept      {counts['users']:,} users, {counts['items']:,} items, "
            f"{counts['interactions']:,} interactions (density {counts['density']:.3%})"
        ]
        lines += [
            f"{name:9} {self.description[name]}" for name in ("ids", "items") if self.description.get(name)
        ]
        if counts["cold_items"]:
            lines.append(f"cold      {counts['cold_items']:,} items without a training interaction")
        if cold_users := self.description["split"].get("cold_users"):
            lines.append(f"cold      {cold_users:,} test users without a training interaction, kept")
        return lines

    def _split(self) -> list[str]:
        split, counts = self.description["split"], self.description["counts"]
        lines = [
            f"split     {split['test']}; train {counts['train']:,}, validation {counts['validation']:,} "
            f"({split['validation']}), test {counts['test']:,}; seed {self.description['seed']}"
        ]
        lines += [f"          {note}" for note in split["notes"]]
        if tied := split.get("tied_users"):
            lines.append(
                f"          {tied:,} users have several items at their latest time: one is drawn at random"
            )
        if protocol := self.description.get("protocol"):
            lines.append(f"protocol  {protocol}: test and validation have no candidate lists")
        return lines

    def _audit(self) -> list[str]:
        return [line for stage in ("validation", "test") for line in self._audit_of(stage)]

    def _audit_of(self, stage: str) -> list[str]:
        audit = self.description["audit"][stage]
        if not audit["lists"] or not audit["negatives"]:
            return []
        wrong = {
            "with duplicates": audit["with_duplicates"],
            "with the positive among the negatives": audit["positive_among_negatives"],
            "with training positives among the negatives": audit["training_positives_among_negatives"],
            "with other known positives among the negatives": audit["known_positives_among_negatives"]
            - audit["training_positives_among_negatives"],
        }
        faults = [f"{count:,} {what}" for what, count in wrong.items() if count > 0]
        return [
            f"audit     {stage}: {audit['lists']:,} lists of 1 + {audit['negatives']} items"
            f" ({self.description['split'][f'{stage}_lists']}): {'; '.join(faults) or 'no defect'}"
        ]

    def _licence(self) -> list[str]:
        licence = self.description.get("licence")
        return [f"licence   {licence}"] if licence else []
