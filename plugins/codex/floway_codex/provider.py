"""The provider of kind ``codex``: the way of a request to the backend and back."""

import time
from collections.abc import Sequence

from floway_codex import accounts, identity, profile, quota, request, unauthorized
from floway_codex.attempt import CodexAttempt
from floway_codex.catalogue import Catalogue
from floway_codex.importing import KIND
from floway_codex.model_lists import ModelLists
from floway_codex.tokens import TokenSource
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider, Refusal, UpstreamReply
from floway_core.upstream import HttpClient


class CodexProvider(Provider):
    """Speaks to the Codex backend as the codex CLI does, with the account of the upstream."""

    kind = KIND

    def __init__(self, services: Services) -> None:
        settings = services.settings.plugin
        self._services = services
        self._base_url: str = settings["codex_base_url"]
        self._profile = profile.shipped()[settings["codex_profile"]]
        self._http = HttpClient(services.settings)
        self._tokens = TokenSource(
            services, self._http, settings["codex_auth_url"], self._profile, settings["codex_refresh_lease"]
        )
        self._catalogue = Catalogue(ModelLists(services, self._tokens, self._http, self._base_url, self._profile))

    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        return self._catalogue.models(upstream)

    # ------------------------------------------------------------------------------------------------------ sending
    def begin(self, ctx: AttemptContext) -> CodexAttempt:
        """Settle who the request comes from.

        :raises GatewayError: 503, the account cannot be used.
        """
        account = accounts.require_active(self._services, ctx.upstream.id)
        headers = ctx.request.headers
        client = identity.codex_client(headers)
        lite = self._catalogue.details(ctx.upstream, ctx.model).get("use_responses_lite") is True
        return CodexAttempt(
            account=account,
            identity=identity.resolve(
                headers, ctx.request.body, account.installation_id, time.time_ns() // 1_000_000
            ),
            client=client,
            profile=profile.closest(client.version, self._profile) if client else self._profile,
            lite=lite or (client is not None and client.lite),
        )

    def prepare(self, ctx: ResponsesRequestContext) -> None:
        """Make ``ctx`` the request that the backend is to receive, all but the access token."""
        attempt: CodexAttempt = ctx.attempt.provider_state
        known = request.values(attempt, ctx.body)
        ctx.body = request.body(attempt, ctx.body, known)
        ctx.headers = request.headers(attempt, known)

    def send(self, ctx: ResponsesRequestContext) -> UpstreamReply:
        attempt: CodexAttempt = ctx.attempt.provider_state
        try:
            body = jsontext.dumps(ctx.body)
        except ValueError as error:
            raise GatewayError(400, f"The request cannot be written as JSON: {error}.") from error
        attempt.token = self._tokens.access_token(ctx.attempt.upstream.id)
        headers = request.authorized(attempt.profile, ctx.headers, attempt.token)
        reply = self._http.stream(ctx, "POST", f"{self._base_url}/codex/responses", headers, body)
        if 200 <= reply.status < 300:
            quota.note(self._services, ctx.attempt.upstream.id, reply.headers)
            self._catalogue.compare(ctx.attempt.upstream, reply.header("x-models-etag"))
        return reply

    # ------------------------------------------------------------------------------------------------------ refusals
    def recover(self, ctx: ResponsesRequestContext, refusal: Refusal) -> bool:
        if refusal.status == 429:
            quota.note(self._services, ctx.attempt.upstream.id, refusal.headers, refusal.content)
        return refusal.status == 401 and self._renew_token(ctx.attempt, refusal)

    def _renew_token(self, ctx: AttemptContext, refusal: Refusal) -> bool:
        """The CLI sends the same token once more before it renews it (0.142, 0.169); that first try is left out.

        :returns: False when the token has been renewed in this attempt before.
        :raises GatewayError: 503, the sign-in has ended, or there is no new token.
        """
        attempt: CodexAttempt = ctx.provider_state
        unauthorized.end_session(self._services, ctx.upstream, attempt.token, refusal.content)
        if attempt.renewed:
            return False
        attempt.renewed = True
        self._tokens.replacement(ctx.upstream.id, attempt.token or "")
        return True
