"""Providers with problems, quotas, a form and a sign-in, for the pages about upstreams."""

BIRDS = '''"""A provider whose upstreams do what their names say."""

from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.provider import ConnectionOptions, Model, Problem, Provider, Quota, SignIn, UpstreamOption
from floway_core.storage import upstreams


class Parrot(Provider):
    kind = "parrot"
    connection_options = ConnectionOptions(
        example_base_url="https://parrots.example/v1",
        key_is_optional=True,
        options=(
            UpstreamOption("mood", "How it answers.", ("cheerful", "grumpy")),
            UpstreamOption("is_loud", "Whether it shouts."),
        ),
    )

    def list_models(self, upstream):
        return [Model("parrot-1", owned_by="<b>me</b>")]

    def fetch_models(self, upstream):
        if "mute" in upstream.name:
            raise GatewayError(502, "It says nothing.", code="upstream_unreachable")
        return self.list_models(upstream)

    def base_url(self, upstream):
        return "https://parrots.example/v1"

    def find_problem(self, upstream):
        return Problem("It is <i>tired</i>.", "Let it sleep.") if "mute" in upstream.name else None

    def read_quotas(self, upstream):
        first = Quota("<5 hours>", 0.425, 2_000_000_000, 1_700_000_000, "nearly")
        return [first, Quota("a week", None, note="unknown yet")]

    def send(self, ctx):
        raise NotImplementedError


class Raven(Parrot):
    kind = "raven"
    connection_options = None
    signs_in = True

    def __init__(self, services):
        self.database = services.database

    def begin_sign_in(self):
        url = "https://ravens.example/sign-in?a=1&b=2"
        return SignIn(url, "https://ravens.example/back", "the secret of the state")

    def finish_sign_in(self, state, pasted, name):
        if state != "the secret of the state" or not pasted.startswith("https://ravens.example/back?"):
            raise GatewayError(400, "That is another URL.", param="pasted")
        row = next((row for row in upstreams.all_rows(self.database) if row.name == name), None)
        return row or upstreams.add(self.database, "raven", name or "raven-of-the-account")


@hookimpl
def register_providers(services):
    return [Parrot(), Raven(services)]
'''
