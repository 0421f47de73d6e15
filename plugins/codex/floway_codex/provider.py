"""The provider of kind ``codex``: sends requests to the Codex backend, and handles its responses."""

import logging
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from floway_codex.account import accounts, health, login, metrics, quota, recovery, usage
from floway_codex.account.auth_file import KIND
from floway_codex.account.clients import ClientLog
from floway_codex.account.shown_quota import read_quotas
from floway_codex.account.tokens import TokenSource
from floway_codex.account.usage import UsageReader
from floway_codex.attempt import CodexAttempt, start_attempt, stored_identity
from floway_codex.catalogue import BackendModelLists
from floway_codex.identity import claims, turns
from floway_codex.websocket.held import add_held_items
from floway_codex.websocket.increments import PreparedInput
from floway_codex.websocket.transport import HTTP, WEBSOCKET, SendPost, WebSocketTransport
from floway_codex.wire import request
from floway_codex.wire.encoding import encode_body
from floway_codex.wire.host import default_profile
from floway_codex.wire.ignored_fields import find_ignored_fields
from floway_codex.wire.input_state import InputState
from floway_core.contexts import (
    AttemptContext,
    ForwardContext,
    ResponsesRequestContext,
    Services,
    SnapshotCommitContext,
    Upstream,
)
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import (
    AccountDetails,
    ErrorResponse,
    ForwardedPath,
    Model,
    Problem,
    Provider,
    Quota,
    SignIn,
    UpstreamResponse,
)
from floway_core.upstream import HttpClient

log = logging.getLogger("floway.codex")


class CodexProvider(Provider):
    """Speaks to the Codex backend as the codex CLI does, with the account of the upstream."""

    kind = KIND
    signs_in = True
    accepts_shallow_copy = True
    forwarded_paths = (
        ForwardedPath(usage.PATH, "GET", has_model=False, prefixes=("/backend-api", "/v1", ""), describes_account=True),
    )
    underscore_headers = frozenset(name for name in claims.CLAIM_HEADERS if "_" in name)
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
        self._profile = default_profile(settings)
        self._http = HttpClient(services.settings)
        self._responses_url = f"{self._base_url}/codex/responses"
        self._transport: str = settings["codex_transport"]
        self._websocket = WebSocketTransport(services, self._http, self._responses_url)
        self._limits = quota.LimitLog(services)
        self._clients = ClientLog(services, self._profile)
        self._tokens = TokenSource(
            services,
            self._http,
            settings["codex_auth_url"],
            self._profile,
            settings["codex_refresh_lease"],
            profile_for=self._clients.profile_for,
        )
        self._usage = UsageReader(services, self._http, self._tokens, self._base_url, self._clients.profile_for)
        lists = BackendModelLists(services, self._tokens, self._http, self._base_url, self._clients.profile_for)
        self._model_lists = lists.cache()

    def refresh_usage(self, upstream_id: str) -> bool:
        """Ask the backend for the usage of an account, unless its access token has to be renewed first.

        :returns: whether there was an answer.
        """
        return self._usage.refresh(upstream_id, renews=False)

    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        return self._model_lists.wait_for(upstream)

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        return self._model_lists.cached(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        return self._model_lists.refresh(upstream)

    def supports_compaction(self, upstream: Upstream) -> bool:
        return True

    # ------------------------------------------------------------------------------------------------------ metrics
    def register_metrics(self, registry: CollectorRegistry) -> None:
        self._tokens.renewals.register(registry)
        registry.register(metrics.QuotaCollector(self._services, self._usage.refresh_old))

    # ------------------------------------------------------------------------------------------------------- health
    def find_problem(self, upstream: Upstream) -> Problem | None:
        return health.find_problem(self._services, upstream.id)

    def read_quotas(self, upstream: Upstream) -> Sequence[Quota]:
        return read_quotas(self._services, upstream.id, time.time())

    def base_url(self, upstream: Upstream) -> str | None:
        return self._base_url

    # ------------------------------------------------------------------------------------------------------ sign-in
    def begin_sign_in(self) -> SignIn:
        begun = login.start_sign_in(self._services, login.CALLBACK_PORTS[0])
        return SignIn(begun.url, begun.redirect_uri, login.encode_sign_in(begun))

    def finish_sign_in(self, state: str, pasted: str, name: str | None) -> Upstream:
        begun = login.decode_sign_in(state)
        try:
            return login.finish_sign_in(self._services, begun, login.extract_code(pasted, begun.state), name)
        except ValueError as error:
            message = f"{str(error)[:1].upper()}{str(error)[1:]}."
            raise GatewayError(400, message, param="pasted", code="invalid_value") from None
        except login.SignInFailed as failure:
            message = f"The sign-in failed: {failure}"
            raise GatewayError(400, message, param="pasted", code="sign_in_failed") from None

    # ------------------------------------------------------------------------------------------------------ sending
    def start_attempt(self, ctx: AttemptContext) -> CodexAttempt:
        """Resolve the identity of a request, and choose the form in which it is sent.

        :raises GatewayError: 503, the account cannot be used.
        """
        account = accounts.require_active_for_request(self._services, ctx.upstream.id)
        model = self._model_lists.find(ctx.upstream, ctx.model)
        return start_attempt(self._services, ctx, account, model.details if model else {}, self._profile)

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Turn ``ctx`` into the request for the backend. Only the access token is missing."""
        attempt: CodexAttempt = ctx.attempt.provider_state
        adapted = request.adapt_body(attempt, ctx.body)
        placeholders, client_body = request.build_placeholders(attempt, adapted), ctx.body
        attempt.placeholders = placeholders
        held = attempt.input.held if ctx.held_items else None
        state = held.state.copy() if held else InputState()
        ctx.body, leading = request.build_body(attempt, adapted, placeholders, state)
        attempt.input = PreparedInput(held, state)
        backend_body = {**ctx.body, "input": leading} if leading else ctx.body
        ctx.ignore(*find_ignored_fields(client_body, backend_body, moved=request.moved_fields(attempt)))
        ctx.headers = request.build_headers(attempt, placeholders)

    def count_held_items(self, ctx: AttemptContext) -> int:
        """How many input items the WebSocket of the conversation holds."""
        attempt: CodexAttempt = ctx.provider_state
        held = self._websocket.find_progress(ctx) if self._transport != HTTP else None
        if held and held.moved != request.moved_values(attempt, ctx.request.body):
            held = None  # the items that stand for these fields have changed, and with them the places of all others
        attempt.input = PreparedInput(held)
        return held.client_items if held else 0

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        attempt: CodexAttempt = ctx.attempt.provider_state
        is_first = ctx.dispatch == 1  # its account has a token that was in the database when the request began
        attempt.token = (
            self._tokens.token_for_account(attempt.account)
            if is_first
            else self._tokens.access_token(ctx.attempt.upstream.id)
        )
        try:
            response = self._send_over_websocket(ctx, attempt.token) or self._post(ctx, attempt.token)
        except ValueError as error:
            raise GatewayError(400, f"The request cannot be written as JSON: {error}.") from error
        if (turn_state := response.header(turns.TURN_STATE)) is not None:
            attempt.turn_state = attempt.turn_state or turn_state
            response.headers = turns.encrypt_in_headers(self._services.secrets, response.headers, attempt.owner)
        if is_first:
            self._note_client(ctx)
        if 200 <= response.status < 300:
            self._tokens.note_accepted(ctx.attempt.upstream.id)
            self._limits.record(ctx.attempt.upstream.id, response.headers)
            self._model_lists.note_etag(ctx.attempt.upstream, response.header("x-models-etag"))
        return response

    def _send_over_websocket(self, ctx: ResponsesRequestContext, token: str) -> UpstreamResponse | None:
        """Send a request over a WebSocket.

        :returns: None if it has to be sent as a POST.
        :raises GatewayError: 502, only a POST is possible, but the operator allows WebSockets only.
        """
        attempt: CodexAttempt = ctx.attempt.provider_state
        form = attempt.profile.websocket
        if self._transport == HTTP or (form is None and self._transport != WEBSOCKET):
            return None
        try:
            if form is None:
                raise SendPost(f"the CLI {attempt.profile.version} uses none")
            response = self._websocket.send(ctx, form, token)
        except SendPost as reason:
            log.debug("Attempt %s: not over a WebSocket, %s", ctx.attempt.id, reason)
            if self._transport == WEBSOCKET:
                message = f"The upstream's WebSocket cannot be used: {reason}."
                raise GatewayError(502, message, code="upstream_unreachable") from reason
            return None
        attempt.transport = WEBSOCKET
        return response

    def _post(self, ctx: ResponsesRequestContext, token: str) -> UpstreamResponse:
        attempt: CodexAttempt = ctx.attempt.provider_state
        attempt.transport, headers = HTTP, ctx.headers
        add_held_items(ctx)
        if attempt.turn_state != attempt.placeholders["turn_state"]:  # a WebSocket has received it meanwhile
            headers = request.build_headers(attempt, {**attempt.placeholders, "turn_state": attempt.turn_state})
        body = encode_body(jsontext.dumps(ctx.body), attempt.encoding)
        headers = request.add_authorization(attempt.profile, headers, token)
        return self._http.stream(ctx, "POST", self._responses_url, headers, body)

    def _note_client(self, ctx: ResponsesRequestContext) -> None:
        """Record the client of a turn, also if it fails: the backend may refuse versions without a profile."""
        attempt: CodexAttempt = ctx.attempt.provider_state
        originator, user_agent = ctx.headers.get("originator", ""), ctx.headers.get("user-agent", "")
        version = attempt.client.version if attempt.client else attempt.profile.version
        is_cli = attempt.client is not None
        self._clients.note(ctx.attempt.upstream.id, version, originator, user_agent, is_cli=is_cli)

    def store_identity(self, ctx: SnapshotCommitContext) -> None:
        """Store the identity with the snapshot, for the requests that continue it."""
        ctx.metadata = stored_identity(self._services, ctx).as_metadata()

    def forward(self, ctx: ForwardContext) -> UpstreamResponse:
        """Ask for the usage of the account, as the CLI does for ``/status``."""
        headers = self._usage.headers(ctx.attempt.upstream.id)
        return self._http.stream(ctx, ctx.method, f"{self._base_url}{usage.PATH}", headers, b"")

    # -------------------------------------------------------------------------------------------------------- errors
    def handle_error_response(self, ctx: ResponsesRequestContext, error: ErrorResponse) -> bool:
        if isinstance(ctx, ForwardContext):
            return False
        if error.status == 429:
            self._limits.record(ctx.attempt.upstream.id, error.headers, error.content)
        return error.status == 401 and self._renew_token(ctx.attempt, error)

    def _renew_token(self, ctx: AttemptContext, error: ErrorResponse) -> bool:
        """Renew the refused token. The CLI (0.142, 0.169) sends the same token a second time first; Floway does not.

        :returns: False if this attempt has renewed the token before, or if the last renewal has not helped.
        :raises GatewayError: 503, the sign-in has ended, or the token cannot be renewed.
        """
        attempt: CodexAttempt = ctx.provider_state
        recovery.terminate_if_session_ended(self._services, ctx.upstream, attempt.token, error.content)
        token = attempt.token or ""
        if attempt.renewed or self._tokens.is_useless_to_replace(ctx.upstream.id, token):
            return False
        attempt.renewed = True
        self._tokens.replace_refused(ctx.upstream.id, token)
        return True
