"""The HTTP routes: a FastAPI application over an :class:`~recbole_signed.live.serve.engine.Engine`.

Errors are problem details (RFC 9457); answers carry the model's version, the seq that they reflect, and the variant.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic_core import to_json

from recbole_signed import __version__
from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.serve import gorse, requests, schemas
from recbole_signed.live.serve.answers import TRENDING
from recbole_signed.live.serve.engine import RECOMMENDATIONS, Engine
from recbole_signed.live.serve.experiments import Experiment
from recbole_signed.live.serve.keys import ApiKeys, RateLimit
from recbole_signed.live.serve.maintenance import AlreadyRunsError, Maintenance
from recbole_signed.live.serve.middleware import (
    DEFAULT_K,
    SHORT,
    NeedsRole,
    PlainLists,
    Watch,
    answer_errors,
    describe_keys,
)
from recbole_signed.live.serve.problems import PROBLEM, ProblemError, Turns
from recbole_signed.live.serve.ranking import Ranked
from recbole_signed.live.serve.replicas import Forwarder
from recbole_signed.live.serve.requests import check_k, check_length, wait_for
from recbole_signed.live.serve.traffic import now_ms

UserId = Annotated[schemas.PathId, Path(description="Id of a user, as events have it.")]
ItemId = Annotated[schemas.PathId, Path(description="Id of an item, as events have it.")]
VersionName = Annotated[str, Path(pattern=r"^v\d{1,12}$", description="Name of a version.")]
ExperimentName = Annotated[str, Path(pattern=r"^[\w.-]{1,64}$", description="Name of an experiment.")]
K = Annotated[int, Query(ge=1, description="How many items; fewer where the catalogue has no more.")]
Ids = Annotated[list[schemas.Id], Query()]
MinSeq = Annotated[int | None, Query(ge=0)]
Sign = Literal["like", "dislike"]
PAGE_SOURCES = "default-src 'self' 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "content": {PROBLEM: {}}}
    for status in (400, 401, 403, 404, 409, 413, 421, 422, 429, 503)
}


def make_app(
    engine: Engine,
    keys: ApiKeys | None = None,
    maintenance: Maintenance | None = None,
    writer: str | None = None,
    *,
    hand_metrics_on: bool = False,  # whether the writer has the metrics of this replica too
) -> FastAPI:
    """Return the application; without ``keys`` everybody may do everything, ``writer`` gets what a replica hands on."""
    app = FastAPI(
        title="recbole-signed",
        version=__version__,
        description="Recommendations that follow every like and dislike.",
        docs_url=None,  # FastAPI's pages load their scripts from a foreign host; _add_pages has one that does not
        redoc_url=None,
        redirect_slashes=False,  # Starlette redirects to the host of the Host header, and clients send their key there
        responses=_PROBLEMS,
        openapi_tags=[
            {"name": name}
            for name in ("events", "recommendations", "users", "items", "models", "experiments", "health")
        ],
    )
    app.router.route_class = requests.Route
    keys = keys or ApiKeys(None)
    limit = RateLimit(engine.settings.limits.requests_per_second)
    answer_errors(app, engine)
    app.add_middleware(PlainLists, engine=engine, keys=keys)
    forwarder = None if engine.writer else Forwarder(writer, hand_metrics_on, engine.settings.limits.wait)
    app.add_middleware(Watch, engine=engine, keys=keys, limit=limit, forwarder=forwarder)
    if engine.settings.allow_origins:
        origins = list(engine.settings.allow_origins)
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])

    def needs(role: str) -> Any:
        return [Depends(NeedsRole(keys, role))]

    turns = Turns(engine.settings.limits.wait)
    _add_events(app, engine, needs, turns)
    _add_recommendations(app, engine, needs, turns)
    _add_items(app, engine, needs, turns)
    _add_models(app, engine, needs, maintenance)
    _add_experiments(app, engine, needs)
    _add_health(app, engine, needs, maintenance)
    _add_pages(app)
    gorse.add_routes(app, engine, needs, turns)
    describe_keys(app, keys.required)
    return app


def _add_events(app: FastAPI, engine: Engine, needs: Callable[[str], Any], turns: Turns) -> None:
    write = {"tags": ["events"], "dependencies": needs("write")}

    (erasing,) = needs("admin")

    @app.post("/v1/events", response_model_exclude_none=True, **write)
    async def post_events(body: schemas.EventsBody, request: Request) -> schemas.EventsAnswer:
        """Take events; the answer comes when they are on the disk and recommendations reflect them.

        Each event is judged by itself: a refused one does not spoil the others. `forget_user` needs the role admin.
        """
        if any(isinstance(row, dict) and row.get("type") == "forget_user" for row in body.events):
            await erasing.dependency(request)
        return await requests.submit(engine, body.events)

    @app.delete("/v1/users/{user_id}/verdicts/{item_id}", response_model_exclude_none=True, **write)
    async def delete_verdict(user_id: UserId, item_id: ItemId, sign: Sign) -> schemas.EventsAnswer:
        """Take a like or a dislike back."""
        return await requests.take_back(engine, user_id, item_id, sign)

    @app.delete("/v1/users/{user_id}/wishes/{feature}/{value}", response_model_exclude_none=True, **write)
    async def delete_wish(user_id: UserId, feature: schemas.PathId, value: schemas.PathId) -> schemas.EventsAnswer:
        """Take back what was asked for of a value; a dislike is taken back as any other."""
        check_length(engine, user_id)
        return await requests.submit(engine, [{"user_id": user_id, "type": "undo", "features": {feature: value}}])

    @app.get("/v1/users/{user_id}", tags=["users"], dependencies=needs("read"), response_model_exclude_none=True)
    async def get_user(user_id: UserId) -> schemas.UserInfo:
        """Return what is held of a user: edges, announced features, what it asks for, and how much was shown."""
        return await turns.take(lambda: engine.user(user_id))

    @app.put("/v1/users/{user_id}", tags=["users"], dependencies=needs("write"))
    async def put_user(user_id: UserId, body: schemas.UserBody) -> schemas.UserBody:
        """Announce a user with its features, in place of earlier ones."""
        check_length(engine, user_id)
        await requests.announce(engine, {"user_id": user_id, "type": "user", "features": body.features})
        return body

    @app.delete("/v1/users/{user_id}", tags=["events"], dependencies=needs("admin"), response_model_exclude_none=True)
    async def delete_user(user_id: UserId) -> schemas.EventsAnswer:
        """Erase a user from the log, the model and the impressions."""
        return await requests.erase(engine, user_id)


def _answer(engine: Engine, ranked: Ranked) -> schemas.Answer:
    return schemas.Answer(**ranked.as_json(engine.catalogue.name))


def _parameters(aversion: float | None, strength: float | None) -> dict[str, float]:
    given = {"dislike_aversion": aversion, "dislike_strength": strength}
    return {name: value for name, value in given.items() if value is not None}


def _add_recommendations(app: FastAPI, engine: Engine, needs: Callable[[str], Any], turns: Turns) -> None:
    read = {"tags": ["recommendations"], "dependencies": needs("read")}

    @app.get(RECOMMENDATIONS, response_model=schemas.Answer, **read)
    async def get_recommendations(
        user_id: UserId,
        k: K = DEFAULT_K,
        exclude: Ids = [],  # noqa: B006  (FastAPI copies it)
        include_only: Annotated[list[schemas.Id] | None, Query()] = None,
        tags: Annotated[list[schemas.Id] | None, Query()] = None,
        dislike_aversion: Annotated[schemas.Aversion | None, Query()] = None,
        dislike_strength: Annotated[schemas.Strength | None, Query()] = None,
        explain: bool = False,
        log: Annotated[bool, Query(description="False: it is looked at, not shown to the user.")] = True,
        min_seq: MinSeq = None,
    ) -> Response:
        """Return the best items that the user has no edge to, none of them withdrawn."""
        check_k(engine, k, explain)
        await wait_for(engine, min_seq)

        def work() -> Response:
            given = _parameters(dislike_aversion, dislike_strength)
            if explain:
                engine.refuse_unexplained(user_id)
            ranked = engine.recommend(
                user_id, k, exclude=exclude, include_only=include_only, tags=tags, parameters=given, log=log
            )
            why = engine.explain_list(user_id, ranked, given) if explain else {}
            # the model of the answer would look at each contribution twice
            return Response(to_json(ranked.as_json(engine.catalogue.name, why)), media_type="application/json")

        # rankings take turns anyway, so a short list is not worth the way through a thread
        return await turns.take(work) if explain or k > SHORT else work()

    @app.post("/v1/recommendations", response_model_exclude_none=True, **read)
    async def post_recommendations(body: schemas.ManyBody) -> schemas.ManyAnswer:
        """Return lists for several users; one without a user_id is a session, given by its likes and dislikes."""
        check_k(engine, body.k)
        limits = engine.settings.limits
        if len(body.users) > limits.batch:
            raise ProblemError(413, f"A request holds at most {limits.batch} users.")
        if len(body.users) * body.k > limits.items:
            raise ProblemError(
                413,
                f"{len(body.users)} lists of {body.k} items are asked for; the lists of a request hold at most "
                f"{limits.items} items. Ask for shorter ones, or for fewer users at once.",
            )
        filters: Any = {
            "include_only": body.include_only,
            "tags": body.tags,
            "parameters": _parameters(body.dislike_aversion, body.dislike_strength),
        }

        def one(user: schemas.UserRequest) -> schemas.Answer:
            if user.user_id is None:
                verdicts = [*((item, LIKE) for item in user.likes), *((item, DISLIKE) for item in user.dislikes)]
                return _answer(engine, engine.session(verdicts, body.k, exclude=body.exclude, **filters))
            return _answer(engine, engine.recommend(user.user_id, body.k, exclude=body.exclude, **filters))

        return await turns.take(lambda: schemas.ManyAnswer(answers=[one(user) for user in body.users]))

    @app.get("/v1/users/{user_id}/explain/{item_id}", **read)
    async def get_explanation(
        user_id: UserId,
        item_id: ItemId,
        dislike_aversion: Annotated[schemas.Aversion | None, Query()] = None,
        dislike_strength: Annotated[schemas.Strength | None, Query()] = None,
    ) -> schemas.Why:
        """Return what each edge of the user adds to the score of an item, exactly, and the dislike that lowers it."""
        given = _parameters(dislike_aversion, dislike_strength)
        why = await turns.take(lambda: engine.explain(user_id, [item_id], given))
        if not why:
            raise ProblemError(
                422,
                f"The variant of user '{user_id}' ranks by likes of all users; no edge of the user adds to a score.",
            )
        return schemas.Why(**why[item_id])

    most = min(100, engine.settings.limits.k)

    @app.get("/v1/users/{user_id}/verdicts", **read)
    async def get_verdicts(
        user_id: UserId, k: K = most, sign: Sign | None = None, min_seq: MinSeq = None
    ) -> schemas.Verdicts:
        """Return what a user likes and dislikes, newest first: each can be taken back."""
        check_k(engine, k)
        await wait_for(engine, min_seq)
        return engine.verdicts_of(user_id, k, sign)

    @app.get("/v1/users/{user_id}/wishes", **read)
    async def get_wishes(user_id: UserId, min_seq: MinSeq = None) -> schemas.WishList:
        """Return what a user asks for beside verdicts and has not taken back: each can be."""
        await wait_for(engine, min_seq)
        return await turns.take(lambda: engine.wishes_of(user_id))

    @app.get("/v1/users/{user_id}/last-dislike", **read)
    async def get_last_dislike(user_id: UserId, k: K = 20, min_seq: MinSeq = None) -> schemas.DislikeEffect:
        """Return what the newest dislike of a user changes in its list, and which items it lowers."""
        check_k(engine, k)
        await wait_for(engine, min_seq)
        return await turns.take(lambda: engine.last_dislike(user_id, k))


def _add_items(app: FastAPI, engine: Engine, needs: Callable[[str], Any], turns: Turns) -> None:
    read = {"tags": ["items"], "dependencies": needs("read")}

    @app.get("/v1/items/{item_id}/similar", response_model_exclude_none=True, **read)
    async def get_similar(item_id: ItemId, k: K = 10) -> schemas.Answer:
        """Return the items nearest to one."""
        check_k(engine, k)
        return await turns.take(lambda: _answer(engine, engine.similar(item_id, k)))

    @app.get("/v1/popular", response_model_exclude_none=True, **read)
    async def get_popular(k: K = 20) -> schemas.Answer:
        """Return the most liked items."""
        check_k(engine, k)
        return await turns.take(lambda: _answer(engine, engine.popular(k)))

    @app.get("/v1/trending", response_model_exclude_none=True, **read)
    async def get_trending(k: K = 20) -> schemas.Answer:
        """Return the items with most likes, of which each counts half after each half-life (see the settings)."""
        check_k(engine, k)
        return await turns.take(lambda: _answer(engine, engine.popular(k, TRENDING)))

    @app.get("/v1/items/{item_id}/audience", **read)
    async def get_audience(item_id: ItemId, k: K = 10) -> schemas.Audience:
        """Return the users, among a sample, in whose ranking an item stands highest."""
        check_k(engine, k)
        return await turns.take(lambda: engine.audience(item_id, k))

    @app.get("/v1/items/{item_id}/values", **read)
    async def get_values(item_id: ItemId) -> schemas.Values:
        """Return the values of an item that less or more can be asked for of."""
        return await turns.take(lambda: schemas.Values(values=engine.values_of(item_id)))

    def held(item: str, features: dict[str, Any] | None) -> schemas.ItemBody:
        return schemas.ItemBody(**engine.item(item).model_dump(exclude={"item"}), features=features)

    @app.get("/v1/items", response_model_exclude_none=True, **read)
    async def get_items(
        id: Ids = [],  # noqa: B006  (FastAPI copies it)
        search: Annotated[schemas.Name | None, Query(min_length=1, description="In the names of items.")] = None,
        k: K = 10,
    ) -> schemas.CatalogueItems:
        """Return what the catalogue holds of several items: `id=a&id=b`, or those whose name holds a text: `search`."""
        check_k(engine, k)
        if bool(id) == (search is not None):
            raise ProblemError(422, "Give ids of items, or a text to search for.")
        if len(id) > (most := engine.settings.limits.k):
            raise ProblemError(422, f"{len(id)} ids are given; at most {most} are looked up.")

        def work() -> list[schemas.CatalogueItem]:
            return [engine.item(item) for item in (id if search is None else engine.items_named(search, k))]

        return schemas.CatalogueItems(items=await turns.take(work))

    @app.get("/v1/items/{item_id}", response_model_exclude_none=True, **read)
    async def get_item(item_id: ItemId) -> schemas.ItemBody:
        """Return what the catalogue holds of an item, and its announced features."""
        return await turns.take(lambda: held(item_id, engine.item_features(item_id)))

    @app.put("/v1/items/{item_id}", tags=["items"], dependencies=needs("write"), response_model_exclude_none=True)
    async def put_item(item_id: ItemId, body: schemas.ItemBody) -> schemas.ItemBody:
        """Withdraw an item, let it return, set its tags or its name, or announce it with its features.

        A body with features or a name alone leaves withdrawal and tags as they are; any other sets both.
        """
        await requests.keep_item(engine, item_id, body)
        return held(item_id, body.features)


def _add_models(app: FastAPI, engine: Engine, needs: Callable[[str], Any], maintenance: Maintenance | None) -> None:
    admin = {"tags": ["models"], "dependencies": needs("admin")}
    recommender: Any = engine.recommender  # a replica hands all of these requests on

    def models() -> schemas.Models:
        versions = []
        for version in recommender.versions.describe():
            damage = None if version.damage is None else engine.without_folders(version.damage)
            versions.append(schemas.VersionInfo(**{**vars(version), "seq": version.applied_seq, "damage": damage}))
        return schemas.Models(model=engine.version, seq=engine.seq, versions=versions)

    @app.get("/v1/models", tags=["models"], dependencies=needs("read"), response_model_exclude_none=True)
    def get_models() -> schemas.Models:
        """Return the versions of the model, and what is in force."""
        return models()

    @app.post("/v1/models", status_code=201, response_model_exclude_none=True, **admin)
    def post_model() -> schemas.Models:
        """Save the model as a version."""
        with requests.disk():
            recommender.snapshot()
        return models()

    @app.post("/v1/models/{name}/activate", response_model_exclude_none=True, **admin)
    def activate(name: VersionName) -> schemas.Models:
        """Serve an older (or newer) version; events since then stay in force."""
        recommender.activate(name)
        return models()

    @app.put("/v1/models/{name}/pin", response_model_exclude_none=True, **admin)
    def pin(name: VersionName, pinned: bool = True) -> schemas.Models:
        """Keep a version from being removed, or no longer."""
        recommender.versions.pin(name, pinned)
        return models()

    @app.post("/v1/refit", status_code=202, **admin)
    async def post_refit() -> schemas.Refit:
        """Learn from scratch as soon as no other task runs, and save that as a version; it goes on after the answer.

        409 where a refit runs already. `/v1/status` says how far it is (`refit`) and how the last one ended
        (`maintenance.refit`). The factors that were learned from users who were erased go with it.
        """
        if maintenance is None:
            raise ProblemError(503, "This process has no maintenance, and begins no refit.")
        try:
            return maintenance.ask_for_refit()
        except AlreadyRunsError as error:
            raise ProblemError(409, str(error)) from error
        except UsageError as error:
            raise ProblemError(503, str(error), 1.0) from error


def _add_experiments(app: FastAPI, engine: Engine, needs: Callable[[str], Any]) -> None:
    admin = {"tags": ["experiments"], "dependencies": needs("admin")}

    @app.get("/v1/experiments", tags=["experiments"], dependencies=needs("read"))
    def get_experiments() -> dict[str, Experiment]:
        """Return all experiments."""
        engine.experiments.reload()
        return dict(engine.experiments)

    @app.put("/v1/experiments/{name}", **admin)
    def put_experiment(name: ExperimentName, body: Experiment) -> Experiment:
        """Make or replace an experiment."""
        return engine.experiments.put(name, body)

    @app.patch("/v1/experiments/{name}", **admin)
    def patch_experiment(name: ExperimentName, body: schemas.ExperimentChange) -> Experiment:
        """Start, stop or ramp an experiment."""
        return engine.experiments.change(name, **body.model_dump(exclude_none=True))

    @app.delete("/v1/experiments/{name}", status_code=204, **admin)
    def delete_experiment(name: ExperimentName) -> None:
        """Remove an experiment that does not run; what its users were shown stays in the log."""
        engine.experiments.remove(name)

    @app.get("/v1/experiments/{name}/report", tags=["experiments"], dependencies=needs("read"))
    def get_report(name: ExperimentName) -> dict[str, Any]:
        """Return the statistics of an experiment, see ``recbole-signed experiment report``."""
        from recbole_signed.live.serve.ab_report import report_of

        if engine.traffic is None:
            raise ProblemError(404, "The service keeps no impressions, so there is nothing to report.")
        engine.experiments.reload()
        return report_of(engine.traffic, name, engine.experiments[name])


def _add_health(app: FastAPI, engine: Engine, needs: Callable[[str], Any], maintenance: Maintenance | None) -> None:
    @app.get("/healthz", tags=["health"], response_class=PlainTextResponse)
    async def healthz() -> str:  # a plain function would wait for a thread
        """Say that the process lives."""
        return "ok"

    @app.get("/readyz", tags=["health"], responses={503: {"model": schemas.Readiness}})
    async def readyz(response: Response) -> schemas.Readiness:
        """Say whether answers are current; 503 where they are not, with the reasons."""
        reasons = engine.reasons_not_ready()
        response.status_code = 503 if reasons else 200
        return schemas.Readiness(ready=not reasons, reasons=reasons, seq=engine.seq, model=engine.version)

    @app.get("/metrics", tags=["health"], dependencies=needs("read"), response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Return Prometheus metrics."""
        return PlainTextResponse(engine.telemetry.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/quality", tags=["health"], dependencies=needs("read"))
    def quality(by: Literal["version", "variant", "group"] | None = None) -> dict[str, Any]:
        """Return live quality over the last hour and day, and its curve."""
        return {
            "windows": engine.quality.figures(now_ms(), by),
            "curve": engine.quality.curve(now_ms()),
            "k": engine.quality.k,
        }

    @app.get("/v1/status", tags=["health"], dependencies=needs("read"))
    def status() -> dict[str, Any]:
        """Return the figures of the page: sizes, rates, whether a refit runs, and the last rounds of maintenance."""
        refitting = schemas.Refit() if maintenance is None else maintenance.refitting
        rounds = {} if maintenance is None else maintenance.rounds()
        return {**engine.status(), "refit": refitting, "maintenance": rounds}


def _add_pages(app: FastAPI) -> None:
    def page(name: str) -> HTMLResponse:
        html = files("recbole_signed.live.serve").joinpath(name).read_text(encoding="utf-8")
        # no foreign host is asked for anything, and no page shows this one in a frame to have its buttons pressed
        return HTMLResponse(html, headers={"Content-Security-Policy": f"{PAGE_SOURCES}; frame-ancestors 'none'"})

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    def figures() -> HTMLResponse:
        return page("page.html")

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def routes() -> HTMLResponse:
        return page("routes.html")
