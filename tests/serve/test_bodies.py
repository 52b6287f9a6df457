"""How much a body of a request may hold, up to the last that is taken and from the first that is not."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from recbole_signed.live.serve import schemas

USERS = [{"user_id": "1"}]


@pytest.mark.parametrize(
    ("body", "taken", "refused"),
    [
        (schemas.EventsBody, {"events": [{}]}, {"events": []}),
        (schemas.UserRequest, {"likes": ["1"] * 1000}, {"likes": ["1"] * 1001}),
        (schemas.UserRequest, {"dislikes": ["1"] * 1000}, {"dislikes": ["1"] * 1001}),
        (schemas.UserRequest, {"user_id": "1", "dislikes": []}, {"user_id": "1", "dislikes": ["2"]}),
        (schemas.ManyBody, {"users": USERS, "k": 1}, {"users": USERS, "k": 0}),
        (schemas.ManyBody, {"users": USERS}, {"users": []}),
        *(
            (schemas.ManyBody, {"users": USERS, "dislike_aversion": edge}, {"users": USERS, "dislike_aversion": wrong})
            for edge, wrong in ((0.0, -0.1), (100.0, 100.1), (None, float("nan")))
        ),
        (schemas.ItemBody, {"tags": ["a"] * 100}, {"tags": ["a"] * 101}),
    ],
)
def test_a_body_holds_what_it_may_alone(body: type[BaseModel], taken: dict[str, Any], refused: dict[str, Any]) -> None:
    body.model_validate(taken)
    with pytest.raises(ValidationError):
        body.model_validate(refused)


def test_what_a_body_leaves_out() -> None:
    """An experiment is for all users, a list is of twenty items of any kind."""
    experiment = schemas.ExperimentBody.model_validate({"variants": {"a": {"share": 1.0}}})
    assert (experiment.share, experiment.status, experiment.segment) == (1.0, "running", "all")
    assert (experiment.salt, experiment.interleave, experiment.policies) == ("", False, {})
    many = schemas.ManyBody.model_validate({"users": USERS})
    assert (many.k, many.exclude, many.include_only, many.tags) == (20, [], None, None)
    item = schemas.ItemBody.model_validate({})
    assert (item.withdrawn, item.tags, item.features) == (False, [], None)
