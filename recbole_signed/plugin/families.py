"""What kind of model each one is: the groups that figures colour and that the report compares."""

from __future__ import annotations

from recbole_signed.plugin.facts import OWN, facts_of

OURS = "ours"
SIGNED_CLOSED = "signed, closed form"
SIGNED_TRAINED = "signed, gradient-trained"
LIKES_CLOSED = "likes only, closed form"
LIKES_TRAINED = "likes only, gradient-trained"
REFERENCE = "reference"

FAMILY_COLOURS = {
    OURS: "#D55E00",
    SIGNED_TRAINED: "#56B4E9",
    SIGNED_CLOSED: "#0072B2",
    LIKES_TRAINED: "#999999",
    LIKES_CLOSED: "#009E73",
    REFERENCE: "#000000",
}
"""Of Okabe and Ito, which most readers can tell apart; in the order of a legend."""


def family(model: str) -> str:
    """Return the family of a model class, by the attributes of the class (:mod:`recbole_signed.plugin.facts`)."""
    facts = facts_of(model)
    if facts.is_reference or facts.source == OWN:
        return REFERENCE if facts.is_reference else OURS
    if facts.uses_dislikes:
        return SIGNED_TRAINED if facts.trained_by_gradients else SIGNED_CLOSED
    return LIKES_TRAINED if facts.trained_by_gradients else LIKES_CLOSED
