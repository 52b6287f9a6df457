"""Which models there are, and which of them learn from dislikes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import facts_of, why_unsigned
from recbole_signed.table import Header, Section, Table, text_lines


@dataclass(frozen=True)
class ModelInfo:
    """A model that ``run`` finds by name."""

    name: str
    origin: str  # `recbole_signed`, `recbole`, or the package that registered it
    family: str  # what kind of model it is; RecBole's own: general, sequential,
    uses_dislikes: bool
    source: str  # the paper, where the class names it
    refused: str = ""  # why it does not run on data with a sign; empty where it does

    def as_dict(self) -> dict[str, Any]:
        """Return the model as JSON can hold it."""
        return asdict(self)


def list_models() -> list[ModelInfo]:
    """Return this package's models and third parties' first, in order of name, then RecBole's own by family."""
    ours = [_info(entry) for _, entry in sorted(registry.models().items())]
    stock = [
        ModelInfo(name, "recbole", family, False, "", refused=why_unsigned(name, family) or "")
        for name, family in registry.stock_models()
    ]
    families = list(dict.fromkeys(("general", *sorted(each.family for each in stock))))
    return ours + sorted(stock, key=lambda each: (families.index(each.family), each.name.lower()))


def _info(entry: registry.ModelEntry) -> ModelInfo:
    facts = facts_of(entry.name)
    origin = entry.module.partition(".")[0]
    return ModelInfo(entry.name, origin, facts.family, facts.uses_dislikes, facts.source)


def models_table(models: list[ModelInfo]) -> Table:
    """Return the list for a reader: a line for each of ours, and one for each family of RecBole's."""
    ours = [each for each in models if each.origin != "recbole"]
    stock: dict[tuple[str, str], list[str]] = {}
    for each in models:
        if each.origin == "recbole":
            stock.setdefault(("" if each.refused else each.family, each.refused), []).append(each.name)
    rows = [(each.name, "*" if each.uses_dislikes else "", each.family, each.source) for each in ours]
    return Table(
        "Models of recbole_signed and of packages that register theirs (*: learns from dislikes)",
        tuple(Header(name, left=True) for name in ("Dislikes", "Family", "Source")),
        (Section("", text_lines(rows)),),
        (
            "RecBole's own models (they learn from likes alone):",
            *(f"{family}: {', '.join(names)}" for (family, refused), names in stock.items() if not refused),
            "Not on data with a sign:",
            *(f"{', '.join(names)}: {refused}" for (_, refused), names in stock.items() if refused),
        ),
        head=(Header("Model", left=True),),
    )
