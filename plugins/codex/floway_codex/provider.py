"""The provider of kind ``codex``: the way of a request to the backend and back."""

import logging
import time
from collections.abc import Sequence

from floway_codex import accounts, credentials, identity, oauth, profile, quota, request
from floway_codex.attempt import CodexAttempt
from floway_codex.catalogue import Catalogue, fetch_models
from floway_codex.importing import KIND
from floway_codex.tokens import TokenSource
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider, Refusal, UpstreamReply
from floway_core.upstream import HttpClient

log = logging.getLogger("floway.codex")


class CodexProvider(Provider):
    """Speaks to the Codex backend as the codex CLI does, with the account of the upstream."""

    kind = KIND

    def __init__(self, services: Services) -> None:
        settings = services.settings.plugin
        self._services = services
        self._base_url: str = settings["codex_base_url"]
        self._profile = profile.shipped()[settings["codex_profile"]]
        self._http = HttpClient(services.settings)
        self._tokens = TokenSource(services, self._http, settings["codex_auth_url"], self._profile)
        self._catalogue = Catalogue(
            lambda upstream: fetch_models(
                services, self._tokens, self._http, self._base_url, self._profile, upstream
            )
        )

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
        code, message = reason(refusal.content)
        if code == "token_invalidated":
            self._end_session(ctx.upstream, attempt, message)
        if attempt.renewed:
            return False
        attempt.renewed = True
        self._tokens.discard(ctx.upstream.id, attempt.token or "")
        self._tokens.access_token(ctx.upstream.id, oauth.UNAUTHORIZED)
        return True

    def _end_session(self, upstream: Upstream, attempt: CodexAttempt, message: str) -> None:
        """Take the account out of use, unless the refused token has been replaced since (by an import, say).

        :raises GatewayError: 503, it was not replaced.
        """
        current = credentials.read_refresh_token(self._services, upstream.id)
        token = credentials.read_access_token(self._services, upstream.id)
        if current is None or token is None or token.value != attempt.token:
            return
        if accounts.terminate(self._services, upstream.id, accounts.SESSION_TERMINATED, message, current.version):
            log.warning("Codex upstream %s is %s", upstream.name, accounts.SESSION_TERMINATED)
            raise accounts.unavailable(accounts.SESSION_TERMINATED, message)


def reason(body: bytes) -> tuple[str, str]:
    """(code, message) of ``{"error": {"code", "message"}}``, also with ``detail`` around them; empty where unknown."""
    try:
        answer = jsontext.loads(body)
    except ValueError:
        return "", ""
    for name in ("error", "detail"):
        inner = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(inner, dict):
            answer = inner
    if not isinstance(answer, dict):
        return "", ""
    code, message = answer.get("code"), answer.get("message")
    return code if isinstance(code, str) else "", message[:200] if isinstance(message, str) else ""
