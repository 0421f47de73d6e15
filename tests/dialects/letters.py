"""A made-up dialect for tests: clients write letters to models, and get them answered line by line."""

import json
import sys

from floway_core.dialect import JSON_ARRAY, Claims, Dialect, ErrorAnswer, Operation, ReadRequest, Route
from floway_core.errors import GatewayError
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.protocol.event_parser import parse_events


class Letters(Dialect):
    name = "letters"
    key_headers = ("x-stamp",)
    key_parameters = ("stamp",)
    prefixes = ("/v1/letters",)
    claims = Claims(headers=("letters-version",))
    request_id_header = "letter-id"
    keepalive = b": the pen rests\n\n"
    done = b'data: {"bye": true}\n\n'

    def routes(self):
        return [
            Route("/v1/letters", Operation.RESPOND),
            Route("/v1/letters/<to>:read-aloud", Operation.RESPOND, stream=True),
            Route("/v1/letters/weigh", Operation.COUNT_TOKENS),
            Route("/v1/models", Operation.LIST_MODELS),
            Route("/v1/models/<path:model>", Operation.GET_MODEL),
        ]

    def read(self, request):
        lines = request.body.get("lines")
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise GatewayError(400, "Write lines of text.", code="no_lines", param="lines")
        if "STUMBLE" in lines:
            raise RuntimeError("the reader stumbles")
        if "EXIT" in lines:
            sys.exit("the reader exits")
        text = "\n".join([*lines, *sorted(f"{name}: {value}" for name, value in request.query.items())])
        body = {"model": request.path_args.get("to") or request.body.get("to"), "input": text}
        return ReadRequest(body, stream=bool(request.body.get("aloud")))

    def translator(self, client_request):
        return Reading(client_request.original.body)

    def framing(self, client_request):
        return JSON_ARRAY if client_request.original.body.get("aloud") == "bound" else None

    def response(self, client_request, response):
        lines = [part["text"] for item in response["output"] for part in item.get("content", [])]
        return {"from": client_request.body["model"], "id": response["id"], "lines": lines}

    def token_count(self, request, count):
        return {"weight": count}

    def models(self, request, models):
        return {"writers": [model.id for model in models][: int(request.query.get("limit", 99))]}

    def model(self, request, model):
        return {"writer": model.id}

    def error(self, error, request_id):
        if error.code == "model_not_found" and "STUMBLE" in error.message:
            raise RuntimeError("the error stumbles")
        if error.code == "model_not_found" and "EXIT" in error.message:
            sys.exit("the error exits")
        if error.code == "model_not_found" and "FINE" in error.message:
            return ErrorAnswer(200, b"{}")
        own = error.upstream_body(self.name)
        trouble = {"kind": error.code or error.type, "words": error.message, "where": error.param}
        status = 530 if error.status == 503 else error.status
        return ErrorAnswer(status, own or jsontext.dumps({"trouble": trouble}), {"letters-status": str(status)})


class Reading:
    """The translator."""

    def __init__(self, letter):
        self.letter = letter
        self.read_aloud = set()

    def feed(self, block):
        return b"".join(self.line(event) for event in parse_events(block) if event)

    def line(self, event):
        if event["type"] == "response.output_text.delta":
            if "RAISE" in event["delta"]:
                raise RuntimeError("the translator stumbles")
            if "EXIT" in event["delta"]:
                sys.exit("the translator exits")
            self.read_aloud.add(event.get("item_id"))
            return line(say=event["delta"])
        if event["type"] == "response.output_item.done" and event["item"].get("id") not in self.read_aloud:
            return b"".join(line(say=part["text"]) for part in event["item"].get("content") or [])
        if event["type"] == "response.failed":
            return line(trouble=event["response"]["error"]["message"])
        return b""

    def end(self):
        return line(greetings=len(self.letter["lines"]))

    def failure(self, error):
        return line(trouble=error.message)


def line(**content):
    return b"data: %s\n\n" % json.dumps(content).encode()


@hookimpl
def register_dialects(services):
    assert services.settings
    return [Letters()]
