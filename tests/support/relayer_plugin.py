"""Two providers whose upstreams serve vectors, sounds, notices, a report and the account."""

from floway_core.hookspecs import hookimpl
from floway_core.provider import ForwardedPath, Model, Provider
from floway_core.settings import Setting, origin_url
from floway_core.upstream import HttpClient

MODELS = {"first": ["small", "large"], "second": ["small", "notices-1"], "third": ["small", "other"]}


class Relayer(Provider):
    kind = "relayer"
    forwarded_paths = (
        ForwardedPath("/vectors"),
        ForwardedPath("/sounds/texts"),
        ForwardedPath("/notices", default_model="notices-1"),
        ForwardedPath("/report", method="GET", has_model=False),
        ForwardedPath("/account", method="GET", has_model=False, describes_account=True),
    )

    def __init__(self, services):
        self.http, self.urls = HttpClient(services.settings), services.settings.plugin

    def list_models(self, upstream):
        names = MODELS[upstream.name]
        return [Model(name, "them", upstream_name=f"their-{name}" if name == "large" else "") for name in names]

    def send(self, ctx):
        raise NotImplementedError

    def forward(self, ctx):
        url = self.urls[f"relayer_{ctx.attempt.upstream.name}"]
        return self.http.stream(ctx, ctx.method, url + ctx.target, ctx.headers, ctx.content)

    def handle_error_response(self, ctx, response):
        return response.status == 401 and ctx.dispatch == 1


class Other(Relayer):
    kind = "other_relayer"
    forwarded_paths = (ForwardedPath("/vectors"),)


@hookimpl
def register_settings():
    return [Setting(f"relayer_{name}", origin_url, "http://127.0.0.1:9", "A URL.") for name in MODELS]


@hookimpl
def register_providers(services):
    return [Relayer(services), Other(services)]
