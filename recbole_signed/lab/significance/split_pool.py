"""The splits of a table that are tested together, mostly one by itself: their rows, and whom they compare with whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from recbole_signed.plugin.facts import OWN, facts_of
from recbole_signed.runs import RunRow, user_values
from recbole_signed.runs.building import Places
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.spec import TableSpec


@dataclass(frozen=True)
class SplitPool:
    """Some sections of a table under one name."""

    name: str
    sections: Places  # those that have rows

    @classmethod
    def all_of(cls, spec: TableSpec, places: Places) -> list[SplitPool]:
        """Return those of a table that have rows, in its order."""
        named = {name: {part: places[part] for part in of if part in places} for name, of in spec.pools().items()}
        return [cls(name, sections) for name, sections in named.items() if sections]

    @property
    def pooled(self) -> bool:
        """Whether it is more than one section under the section's own name."""
        return list(self.sections) != [self.name]

    @property
    def labels(self) -> list[str]:
        """The models that have rows."""
        return list(dict.fromkeys(label for of_section in self.sections.values() for label in of_section))

    def rows(self, label: str) -> list[RunRow]:
        """Return the rows of a model, section by section."""
        return [row for of_section in self.sections.values() for row in of_section.get(label, ())]

    @property
    def pairs(self) -> set[str]:
        """The :meth:`pair_digest` of each model with each other one."""
        return {self.pair_digest(*pair) for pair in permutations(self.labels, 2)}

    def pair_digest(self, model: str, other: str) -> str:
        """Return a digest of what the comparison of two models depends on: the values of both."""
        return digest(
            [
                [name, [[row.seed, row.per_user_sha256] for row in of_section.get(label, ())]]
                for name, of_section in self.sections.items()
                for label in (model, other)
            ]
        )

    def values(self, labels: Sequence[str], metrics: Sequence[str], rows_file: Path) -> user_values.SectionValues:
        """Read the values per user of some models, which must all be there; without splits on which none has rows."""
        chosen = {
            name: {label: of_section[label] for label in labels if label in of_section}
            for name, of_section in self.sections.items()
        }
        splits = [user_values.read_section(name, rows, rows_file, metrics) for name, rows in chosen.items() if rows]
        return user_values.pooled_sections(self.name, splits) if self.pooled else splits[0]

    def reference(self, spec: TableSpec, metric: str, against: str | None) -> str | None:
        """Return the label that the others are compared with; None where it or every other one has no rows."""
        labels = self.labels
        if len(labels) < 2:
            return None
        if against is not None:
            return against if against in labels else None
        own = [label for label in labels if _is_own(spec, label)]
        return own[0] if own else user_values.best_of(self._means(metric), metric)

    def reference_notes(self, spec: TableSpec, model: str, against: str | None) -> list[str]:
        """Say where the :meth:`reference` was chosen by what is tested."""
        if against is not None or _is_own(spec, model):
            return []
        return [
            f"{self.name}: {model} is compared with the others because it is the best by these numbers, so its "
            "p-values are too small; compare with a model that was chosen before."
        ]

    def _means(self, metric: str) -> dict[str, float]:
        rows = {label: self.rows(label) for label in self.labels}
        return {
            label: float(np.mean([row.test[metric] for row in of]))
            for label, of in rows.items()
            if all(row.test.get(metric) is not None for row in of)
        }

    def seed_notes(self, model: str) -> list[str]:
        """Say over which seeds a user's values were averaged, and which models have nothing to be paired by."""
        notes = []
        used: dict[str, list[int]] = {}
        grounds = user_values.grounds_of({label: self.rows(label) for label in self.labels})
        drawn = self.pooled or user_values.drawn_by_seed(row for label in self.labels for row in self.rows(label))
        for other in self.labels:
            if other == model:
                continue
            if grounds[model] != grounds[other]:
                notes.append(
                    f"{self.name}: {model} and {other} differ in what is held out, hidden or counted, and are not "
                    "compared."
                )
                continue
            mine, theirs = user_values.comparable_seeds(self._seeds(model), self._seeds(other), drawn)
            if not mine:
                notes.append(
                    f"{self.name}: {model} and {other} have no {'split' if self.pooled else 'seed'} in common, "
                    "so that they were not tested on the same items and are not compared."
                )
            used.setdefault(model, mine)
            used[other] = theirs
        several = {label: seeds for label, seeds in used.items() if len(seeds) > 1}
        if several:
            kinds = {tuple(seeds) for seeds in used.values()}
            listed = "; ".join(
                f"{', '.join(map(str, seeds))}"
                + (f" ({', '.join(label for label in used if tuple(used[label]) == seeds)})" if len(kinds) > 1 else "")
                for seeds in sorted(kinds)
            )
            over, units = ("splits", "splits") if self.pooled else ("seeds", "trainings")
            notes.append(
                f"{self.name}: each user's value is the mean over the {over} {listed}, taken before the tests: "
                f"users are the units, not {units}."
            )
        return notes

    def _seeds(self, label: str) -> list[int]:
        """Return the seeds of a model's rows; of a pool, the numbers of its splits, which seeds may have drawn."""
        if not self.pooled:
            return [row.seed for row in self.rows(label)]
        splits: dict[tuple[str, int | None], set[str]] = {}  # the models that have rows
        for name, of_section in self.sections.items():
            drawn = user_values.drawn_by_seed(row for of in of_section.values() for row in of)
            for model, of in of_section.items():
                for row in of:
                    splits.setdefault((name, row.seed if drawn else None), set()).add(model)
        return [number for number, models in enumerate(splits.values(), 1) if label in models]


def _is_own(spec: TableSpec, label: str) -> bool:
    return bool(facts_of(spec.models[label].get("model", label)).source == OWN)
