"""What the schema of the routes says of API keys (how they are sent, and which role a route needs) and of errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from recbole_signed.live.serve.keys import ApiKeys
from recbole_signed.live.serve.middleware import key_of, no_key
from recbole_signed.live.serve.problems import PROBLEM, ProblemError

HEADER, BEARER = "ApiKeyHeader", "BearerKey"
_SCHEMES = {
    HEADER: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key that 'api-key' has made."},
    BEARER: {"type": "http", "scheme": "bearer", "description": "The same key, as 'Authorization: Bearer KEY'."},
}


class NeedsRole:
    """A dependency of a route: refuses callers whose key may not do what needs a role.

    Args:
        keys: of the service.
        role: that is needed.
    """

    def __init__(self, keys: ApiKeys, role: str) -> None:
        self._keys, self.role = keys, role

    async def __call__(self, request: Request) -> None:  # a plain function would go through a thread
        """Refuse a request with 401 or 403."""
        allowed = self._keys.allows(key_of(request.scope), self.role)
        if allowed is None:
            raise no_key()
        if not allowed:
            raise ProblemError(403, "Forbidden", f"This key may not do what needs the role '{self.role}'.")


def describe_keys(app: FastAPI, required: bool) -> None:
    """Let the schema of an application tell of each route what key it needs, and what errors are.

    Args:
        app: with all of its routes.
        required: whether the service has keys; without them each route can be asked without one.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _schema(app, required)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _schema(app: FastAPI, required: bool) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schema.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        needed = (each.dependency for each in route.dependencies)
        role = next((each.role for each in needed if isinstance(each, NeedsRole)), "")
        for method in route.methods or ():
            operation = schema["paths"][route.path_format][method.lower()]
            for response in operation["responses"].values():
                content = response.get("content", {})
                if PROBLEM in content:  # FastAPI has the schema under the type of what the route answers with
                    response["content"] = {PROBLEM: next(each for each in content.values() if each)}
            if not role:
                operation["security"] = []
                continue
            # of schemes that are not OAuth, OpenAPI 3.1 lets the list hold the roles that are needed
            operation["security"] = [{HEADER: [role]}, {BEARER: [role]}, *([] if required else [{}])]
            told = f"Needs a key with the role `{role}`{'' if required else ', where the service has keys'}."
            operation["description"] = f"{operation.get('description', '')}\n\n{told}".strip()
    return schema
