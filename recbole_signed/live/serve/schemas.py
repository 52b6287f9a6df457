"""Bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from recbole_signed.ids_and_times import MAX_ID, id_text
from recbole_signed.live.events import TYPES
from recbole_signed.plugin.ranges import RANGES

# an id as events have it: nothing behind the routes sees another form; held against `id_length` too
Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID, pattern=r"^[^\x00]+$"), AfterValidator(id_text)]
SLASH = "\x00"  # a slash within an id while a path is taken apart at its slashes: no id holds it
PathId = Annotated[Id, BeforeValidator(lambda text: text.replace(SLASH, "/"))]  # the same in a path
BodyId = Annotated[
    Id,
    BeforeValidator(lambda given: str(given) if type(given) is int else given),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_ID}, {"type": "integer"}]}),
]
"""The same in a body of JSON, where it may be a whole number, as in events: 7 is \"7\"."""
LONGEST_NAME = 1000
Name = Annotated[
    str, StringConstraints(max_length=LONGEST_NAME), AfterValidator(lambda text: text and id_text(text, LONGEST_NAME))
]
"""What people call an item, with characters as in an id; empty for nothing."""
_AVERSIONS = RANGES["dislike_aversion"]
Aversion = Annotated[float, Field(ge=_AVERSIONS.low, le=_AVERSIONS.high, allow_inf_nan=False)]
_STRENGTHS = RANGES["dislike_strength"]
Strength = Annotated[float, Field(ge=_STRENGTHS.low, le=_STRENGTHS.high, allow_inf_nan=False)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _like(**example: Any) -> ConfigDict:
    """Return the configuration of a body with an example, which the page of routes begins with."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


_EVENT: Any = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type"],
    "properties": {
        **{name: {"type": ["string", "integer", "null"]} for name in ("event_id", "user_id", "item_id")},
        "type": {"type": "string", "enum": list(TYPES)},
        "timestamp": {"type": ["integer", "string", "null"]},
        "value": {"type": ["number", "string", "null"]},
        "features": {"type": ["object", "string", "null"]},
        "about": {"type": ["string", "null"]},
        "event": {"type": ["string", "null"]},
        "duration": {"type": ["number", "string", "null"]},
    },
}
"""The schema of an event; whether it is one is said of each by itself."""


class EventsBody(_Body):
    """Events as :mod:`recbole_signed.live.events` has them; each is judged by itself, so that rows are free here."""

    model_config = _like(events=[{"user_id": "196", "item_id": "50", "type": "like"}])

    events: list[Any] = Field(
        min_length=1,
        description="Objects with user_id, item_id, type (like, dislike, skip, view, hide, unlike, undislike) and "
        "optionally timestamp (milliseconds since 1970 or ISO 8601; now without one), event_id and value; the types "
        "item and user announce features, an object of columns with texts, numbers or lists of them; less, more and "
        "undo ask for less, more or neither of the values in features; an undo may have event, the event_id of what it "
        "takes back, in their place; a dislike may have about, the name of a feature "
        "of its item; dislike, less and more may have a duration in seconds; forget_user erases a user. An event with "
        "any other field is refused.",
        json_schema_extra={"items": _EVENT},
    )


class EventResult(BaseModel):
    """What became of one event."""

    status: str = Field(description="accepted, duplicate or refused")
    event_id: str | None = None
    reason: str | None = Field(default=None, description="Why it was refused.")


class EventsAnswer(BaseModel):
    """What became of each event, in order; ``seq`` is that of the newest event that answers now reflect."""

    results: list[EventResult]
    accepted: int
    duplicate: int
    refused: int
    seq: int


class ScoredItem(BaseModel):
    """An item and its score; scores of different models or users are not comparable."""

    item: str
    name: str | None = Field(default=None, description="What people call it, where the service has been told.")
    score: float | None = Field(default=None, description="None: nothing is known of the item.")
    variant: str | None = Field(default=None, description="Of an interleaved list: who picked it.")
    why: dict[str, Any] | None = Field(default=None, description="With explain=true: see the explain route.")


class Answer(BaseModel):
    """A list of items, best first."""

    items: list[ScoredItem]
    model: str
    seq: int
    variant: str = Field(description="experiment=variant of the user, comma-separated; empty without an experiment.")
    request_id: str
    known_user: bool | None = Field(
        default=None,
        description="False: the user has neither edges nor features and gets what all such users get. Only of a list "
        "for a user or a session.",
    )


class UserRequest(_Body):
    """One user, or a session without an id: likes and dislikes that are folded in and kept nowhere."""

    user_id: BodyId | None = None
    likes: list[BodyId] = Field(default_factory=list, max_length=1000)
    dislikes: list[BodyId] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> UserRequest:
        if self.user_id is not None and (self.likes or self.dislikes):
            raise ValueError("a user with a user_id has the verdicts of its events; leave out likes and dislikes")
        return self


class ManyBody(_Body):
    """Recommendations for several users or sessions."""

    model_config = _like(users=[{"user_id": "196"}, {"likes": ["50"], "dislikes": ["181"]}], k=10)

    users: list[UserRequest] = Field(min_length=1)
    k: int = Field(default=20, ge=1)
    exclude: list[BodyId] = Field(default_factory=list)
    include_only: list[BodyId] | None = None
    tags: list[Id] | None = Field(default=None, description="Only items with any of these tags.")
    dislike_aversion: Aversion | None = None
    dislike_strength: Strength | None = None


class ManyAnswer(BaseModel):
    """One answer a user, in order."""

    answers: list[Answer]


class ItemBody(_Body):
    """What the service is told of an item."""

    model_config = _like(withdrawn=True, tags=["live"], name="Star Wars")

    withdrawn: bool = Field(default=False, description="Never shown while true.")
    tags: list[Id] = Field(default_factory=list, max_length=100)
    name: Name | None = Field(
        default=None,
        description="What people call the item, for the page and for explanations. Left out it stays; an empty text "
        "removes it.",
    )
    features: dict[str, Any] | None = Field(
        default=None,
        description="Announces the item: columns of features, with texts, numbers or lists of them.",
    )


class CatalogueItem(BaseModel):
    """What the catalogue holds of an item."""

    item: str
    withdrawn: bool
    tags: list[str]
    name: str | None = None


class CatalogueItems(BaseModel):
    """What the catalogue holds of several items, in the order asked for."""

    items: list[CatalogueItem]


class UserBody(_Body):
    """What the service is told of a user."""

    model_config = _like(features={"country": "NO", "device": ["phone", "tv"]})

    features: dict[str, Any] = Field(
        description="Columns of features, with texts, numbers or lists of them, in place of earlier ones.",
    )


class Edge(BaseModel):
    """What a user said of an item, or that it met it."""

    item: str
    type: str = Field(description="like, dislike, skip or view")
    timestamp: int = Field(description="Milliseconds since 1970; 0 where the data had no time.")


class WishInfo(BaseModel):
    """What a user asks for and has not taken back."""

    kind: Literal["less", "more", "dislike", "hide"]
    feature: str | None = Field(None, description="The column; absent of what is about the item itself.")
    values: list[str] = Field(description="Values of the column: of a dislike those that its item has.")
    item: str | None = Field(None, description="What was disliked or hidden; absent for what names a value.")
    timestamp: int = Field(description="Of the event, milliseconds since 1970.")
    until: int | None = Field(None, description="The same, from which on it has no effect; absent: it has no end.")


class WishList(BaseModel):
    """What a user asks for, the newest first."""

    wishes: list[WishInfo]
    seq: int


class Values(BaseModel):
    """What an item has that less or more can be asked for of: values by column."""

    values: dict[str, list[str]]


class UserInfo(BaseModel):
    """What is held of a user."""

    user: str
    known: bool = Field(description="Whether the user has edges or features.")
    edges: list[Edge] = Field(description="Newest first; the verdict in force on each item.")
    features: dict[str, Any] | None = Field(default=None, description="Of the newest announcement.")
    wishes: list[WishInfo] | None = Field(default=None, description="What it asks for beside verdicts.")
    impressions: int | None = Field(default=None, description="Items shown that the log holds, where there is one.")
    seq: int


class Contribution(BaseModel):
    """What one edge of the user adds to the exposure score of the item."""

    item: str
    sign: int
    contribution: float


class Why(BaseModel):
    """Why a user gets an item: ``score = (sum of contributions + from_features + prior) * factor - lowered + moved``.

    That is what the model ranks it by; in a list, a variant with ``young`` adds its bonus. Without a score: nothing is
    known of the item.
    """

    user: str
    item: str
    score: float | None
    contributions: list[Contribution]
    from_features: float = Field(description="What the features of the user add.")
    prior: float | None
    verdict: float = Field(description="Smoothed share of likes among the verdicts on the item.")
    factor: float
    lowered: float = Field(description="How much lower it is ranked since it is near to what the user disliked.")
    cause: str | None = Field(description="That dislike; None where none lowers it.")
    common_likes: int = Field(description="Number of users who like both.")
    moved: float = Field(description="How much higher (lower: below 0) it is ranked since the user asked for it.")
    asked: list[dict[str, Any]] = Field(description="What the user asked for of the item's values, the newest first.")
    sentence: str
    seq: int
    model: str


class LoweredItem(BaseModel):
    """An item near to a dislike, and its place in the list without it and now; None where it is not in the list."""

    item: str
    before: int | None
    now: int | None


class DislikeEffect(BaseModel):
    """What a user's newest dislike changes in its list; ``item`` is None where the user has none."""

    item: str | None
    gone: list[str] = Field(description="Items that would be in the list without it.")
    come: list[str] = Field(description="Items that are in the list because of it.")
    lowered: list[LoweredItem] = Field(description="Items that it lowers, of those that are in the list or gone.")


class Verdict(BaseModel):
    """What a user says of an item; ``timestamp`` is that of the event, milliseconds since 1970."""

    item: str
    sign: Literal["like", "dislike"]
    timestamp: int


class Verdicts(BaseModel):
    """The likes and dislikes of a user that are in force, newest first; ``total`` counts those left out too."""

    verdicts: list[Verdict]
    total: int
    seq: int


class Listener(BaseModel):
    """A user, and the share of a sample of items that it ranks below the item."""

    user: str
    percentile: float


class Audience(BaseModel):
    """Users in whose ranking an item stands highest, among a sample of those who have edges and none to it."""

    users: list[Listener]


class VersionInfo(BaseModel):
    """A version of the model."""

    name: str
    seq: int | None = Field(None, description="Of the last event it holds; absent of a damaged version.")
    created: str
    pinned: bool
    current: bool
    damage: str | None = None


class Models(BaseModel):
    """Versions, and what is in force."""

    model: str
    seq: int
    versions: list[VersionInfo]


class Refit(BaseModel):
    """Whether a refit runs."""

    state: Literal["waiting", "running", "idle"] = Field(default="idle", description="waiting: for the task that runs.")
    since: float | None = Field(default=None, description="When it was asked for, or began, seconds since 1970.")


class ExperimentChange(_Body):
    """Fields of an experiment that change while it runs."""

    model_config = _like(status="stopped")

    share: float | None = None
    status: str | None = None


class Readiness(BaseModel):
    """Whether answers are current, why they are not, and what they reflect."""

    ready: bool
    reasons: list[str]
    seq: int
    model: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
