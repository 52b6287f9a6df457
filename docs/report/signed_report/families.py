"""What kind of model each one is: the groups that figures colour and that the report compares."""

from __future__ import annotations

OURS = "ours"
SIGNED_CLOSED = "signed, closed form"
SIGNED_TRAINED = "signed, gradient-trained"
LIKES_CLOSED = "likes only, closed form"
LIKES_TRAINED = "likes only, gradient-trained"
REFERENCE = "reference"

FAMILIES: dict[str, str] = {
    **dict.fromkeys(("SSF", "SSFL", "SSF-L", "SSF_L", "SSFT", "SSF-T"), OURS),
    **dict.fromkeys(("SignedEASE", "SignediALS"), SIGNED_CLOSED),
    **dict.fromkeys(
        ("SGCN", "SBGNN", "SiReN", "SiGRec", "PANEGNN", "LSGRec", "DFGNN", "SIGformer", "PoneGNN"), SIGNED_TRAINED
    ),
    **dict.fromkeys(
        ("EASE", "GFCF", "SGFCF", "TurboCF", "BSPM", "ItemKNN", "SLIMElastic", "ADMMSLIM", "iALS"), LIKES_CLOSED
    ),
    **dict.fromkeys(("Random", "Pop"), REFERENCE),
}
"""Model class -> its family; a class that is not here is trained by gradients on likes alone."""


def family(model: str) -> str:
    """Return the family of a model class."""
    return FAMILIES.get(model, LIKES_TRAINED)
