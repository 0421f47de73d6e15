"""The provider of kind ``codex``: the way of a request to the backend and back."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from floway_codex.account import accounts, health, metrics, quota, recovery
from floway_codex.account.auth_file import KIND
from floway_codex.account.tokens import TokenSource
from floway_codex.attempt import CodexAttempt, start_attempt, stored_identity
from floway_codex.catalogue.cache import Catalogue
from floway_codex.catalogue.source import ModelLists
from floway_codex.identity import claims, turns
from floway_codex.wire import profile, request
from floway_codex.wire.encoding import encoded
from floway_codex.wire.ignored_fields import ignored_fields
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, SnapshotCommitContext, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import AccountDetails, ErrorResponse, Model, Provider, UpstreamResponse
from floway_core.upstream import HttpClient


class CodexProvider(Provider):
    """Speaks to the Codex backend as the codex CLI does, with the account of the upstream."""

    kind = KIND
    underscore_headers = frozenset(name for name in claims.HEADERS if "_" in name)
    account_details = AccountDetails(
        headers=("chatgpt-*", "openai-organization", "openai-project", "x-codex-*"),
        needed_headers=(turns.TURN_STATE,),
        response_fields=("safety_identifier",),
        error_fields=("eligible_promo", "plan_type", "promo_message"),
        events=("codex.*",),
    )

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

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        return self._catalogue.at_hand(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        return self._catalogue.ask(upstream)

    def supports_compaction(self, upstream: Upstream) -> bool:
        return True

    # ------------------------------------------------------------------------------------------------------ metrics
    def register_metrics(self, registry: CollectorRegistry) -> None:
        self._tokens.renewals.count_in(registry)
        registry.register(metrics.Quota(self._services))

    # ------------------------------------------------------------------------------------------------------- health
    def unavailable_reason(self, upstream: Upstream) -> str | None:
        return health.unavailable_reason(self._services, upstream.id)

    def address(self, upstream: Upstream) -> str | None:
        return self._base_url

    # ------------------------------------------------------------------------------------------------------ sending
    def begin(self, ctx: AttemptContext) -> CodexAttempt:
        """Settle who the request comes from.

        :raises GatewayError: 503, the account cannot be used.
        """
        account = accounts.require_active(self._services, ctx.upstream.id)
        details = self._catalogue.details(ctx.upstream, ctx.model)
        return start_attempt(self._services, ctx, account, details, self._profile)

    def prepare(self, ctx: ResponsesRequestContext) -> None:
        """Make ``ctx`` the request that the backend is to receive, all but the access token."""
        attempt: CodexAttempt = ctx.attempt.provider_state
        accepted = request.accepted(attempt, ctx.body)
        known, sent = request.values(attempt, accepted), ctx.body
        ctx.body = request.body(attempt, accepted, known)
        ctx.ignore(*ignored_fields(sent, ctx.body, lite_form=request.wants_lite_form(attempt)))
        ctx.headers = request.headers(attempt, known)

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        attempt: CodexAttempt = ctx.attempt.provider_state
        try:
            body = encoded(jsontext.dumps(ctx.body), attempt.encoding)
        except ValueError as error:
            raise GatewayError(400, f"The request cannot be written as JSON: {error}.") from error
        again = ctx.dispatch > 1  # the account was read before the first
        attempt.token = (
            self._tokens.access_token(ctx.attempt.upstream.id) if again else self._tokens.of_account(attempt.account)
        )
        headers = request.authorized(attempt.profile, ctx.headers, attempt.token)
        reply = self._http.stream(ctx, "POST", f"{self._base_url}/codex/responses", headers, body)
        attempt.turn_state = attempt.turn_state or reply.header(turns.TURN_STATE)
        reply.headers = turns.relayed(self._services.secrets, reply.headers, attempt.owner)
        if 200 <= reply.status < 300:
            quota.note(self._services, ctx.attempt.upstream.id, reply.headers)
            self._catalogue.compare(ctx.attempt.upstream, reply.header("x-models-etag"))
        return reply

    def keep(self, ctx: SnapshotCommitContext) -> None:
        """Keep the identity with the snapshot, for what continues it."""
        ctx.metadata = stored_identity(self._services, ctx).as_metadata()

    # ------------------------------------------------------------------------------------------------------ refusals
    def handle_error_response(self, ctx: ResponsesRequestContext, refusal: ErrorResponse) -> bool:
        if refusal.status == 429:
            quota.note(self._services, ctx.attempt.upstream.id, refusal.headers, refusal.content)
        return refusal.status == 401 and self._renew_token(ctx.attempt, refusal)

    def _renew_token(self, ctx: AttemptContext, refusal: ErrorResponse) -> bool:
        """The CLI sends the same token once more before it renews it (0.142, 0.169); that first try is left out.

        :returns: False when the token has been renewed in this attempt before.
        :raises GatewayError: 503, the sign-in has ended, or there is no new token.
        """
        attempt: CodexAttempt = ctx.provider_state
        recovery.end_session(self._services, ctx.upstream, attempt.token, refusal.content)
        if attempt.renewed:
            return False
        attempt.renewed = True
        self._tokens.replacement(ctx.upstream.id, attempt.token or "")
        return True
