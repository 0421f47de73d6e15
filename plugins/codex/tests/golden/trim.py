"""Makes the golden files from recordings of the CLI: ``python trim.py FOLDER`` with one folder per version in it.

Of each scenario the model dispatches are kept, in full but for long texts and tool schemas, and the requests for models
and tokens; ids and times are numbered. What goes over WebSockets is in ``websocket-VERSION.json``: upgrades and frames.
"""

import json
import re
import sys
from pathlib import Path

LONGEST, MOST_TOOLS = 32, 3
OWN_REQUESTS = ("/backend-api/codex/models", "/oauth/token")
WEBSOCKETS = ("subagent", "websocket", "websocket_tui", "websocket_turn_state")
METADATA, PASSTHROUGH = "x-codex-turn-metadata", "internal_chat_message_metadata_passthrough"
UUID = r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-%s[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
VOLATILE = {
    UUID % 7: "01900000-0000-7000-8000-{:012x}",
    UUID % 4: "00000000-0000-4000-8000-{:012x}",
    UUID % 5: "00000000-0000-5000-8000-{:012x}",
    r"(?<=_)[0-9a-f]{32}\b": "{:032x}",
    r"(?<=_)[0-9a-f]{24}\b": "{:024x}",
    r"\b[0-9a-f]{40}\b": "{:040x}",
    r"\b1[78]\d{11}\b": "17000000{:05d}",
    r"\b1[78]\d{8}(?:\.\d+)?\b": "17000{:05d}.5",
    r"eyJ[\w-]+\.eyJ[\w-]+\.\w+": "token-{}",
}


def trimmed(recording: dict) -> list[dict]:
    """The requests of one recording, each once: the CLI repeats what fails."""
    kept, seen = [], set()
    for request in whole(recording["requests"]):
        headers = [[name, "" if name in ("host", "content-length") else value] for name, value in request["headers"]]
        if request["path"].startswith(OWN_REQUESTS):
            own = {"method": request["method"], "path": request["path"], "headers": headers, "body": request["body"]}
            if (text := json.dumps(own)) not in seen:
                kept.append(own)
                seen.add(text)
            continue
        if request["method"] != "POST" or "/responses" not in request["path"]:
            continue
        written = dict(headers)[METADATA]
        metadata = json.loads(written)
        assert json.dumps(metadata, separators=(",", ":")) == written
        body = short(request["body"])
        if "client_metadata" in body:
            assert request["body"]["client_metadata"][METADATA] == written
            body["client_metadata"][METADATA] = "<the header>"
        headers = [[name, metadata if name == METADATA else value] for name, value in headers]
        state = re.search(r'"x-codex-turn-state": "([^"]*)"', request["answered"] or "")
        dispatch = {
            "path": request["path"].removeprefix("/backend-api/codex").removeprefix("/v1"),
            "answered with state": state[1] if state else None,
            "headers": headers,
            "body": body,
        }
        if (text := json.dumps(dispatch)) not in seen:
            kept.append(dispatch)
            seen.add(text)
    return kept


def trimmed_websocket(recording: dict) -> list[dict]:
    """The upgrades and frames of one recording in order, and what the backend did then."""
    kept = []
    for request in whole(recording["requests"]):
        is_upgrade = request["method"] == "GET" and request["path"].endswith("/responses")
        if not is_upgrade and request["method"] != "WS-FRAME":
            continue
        headers = [[name, "" if name in ("Host", "Sec-WebSocket-Key") else value] for name, value in request["headers"]]
        body = short(request["body"])
        kept.append({"method": request["method"], "path": request["path"], "phase": request["phase"],
                     "answered": request["answered"][:80], "headers": headers, "body": body})  # fmt: skip
    return kept


def whole(requests: list[dict]) -> list[dict]:
    """The requests with what repeats an earlier one written out."""
    for request in requests:
        if isinstance(request["headers"], str):
            request["headers"] = requests[referred(request["headers"])]["headers"]
        body = request["body"]
        if isinstance(body, str) and body.startswith("<same"):
            request["body"] = body = requests[referred(body)]["body"]
        if not isinstance(body, dict) or "input" not in body:
            continue
        if body["input"] and isinstance(body["input"][0], str):
            count, source = map(int, re.findall(r"\d+", body["input"][0])[1:])
            body["input"] = requests[source]["body"]["input"][: count + 1] + body["input"][1:]
        for holder in (body, *body["input"]):
            if isinstance(holder.get("tools"), str):
                source = requests[referred(holder["tools"])]["body"]
                others = (item for item in source["input"] if item.get("type") == "additional_tools")
                holder["tools"] = source["tools"] if "tools" in source else next(others)["tools"]
    return requests


def referred(reference: str) -> int:
    return int(re.findall(r"\d+", reference)[0])


def short(value, key: str = ""):
    """Long texts cut, tools without what they are for."""
    if isinstance(value, str):
        return value[:LONGEST] if key in ("text", "instructions") else value
    if isinstance(value, list):
        return [short(part, key) for part in (value[:MOST_TOOLS] if key == "tools" else value)]
    if isinstance(value, dict):
        dropped = {"tools": ("description", "parameters", "format"), PASSTHROUGH: ("content_item_metadata",)}.get(
            key, ()
        )
        return {name: short(part, name) for name, part in value.items() if name not in dropped}
    return value


def numbered(text: str) -> str:
    """The text with volatile values numbered; equal ones stay equal."""
    for pattern, form in VOLATILE.items():
        seen: dict[str, int] = {}
        text = re.sub(
            pattern, lambda found, seen=seen, form=form: form.format(seen.setdefault(found[0], len(seen) + 1)), text
        )
    return text


def pooled(scenarios: dict[str, list[dict]]) -> dict:
    """The scenarios with each input item and each tool list in them kept once, and its number in its place; the same
    for whole dispatches."""
    pool: dict[str, int] = {}

    def number(part) -> int:
        return pool.setdefault(json.dumps(part), len(pool))

    seen: dict[str, str] = {}
    for name, scenario in scenarios.items():
        for place, dispatch in enumerate(scenario):
            body = dispatch["body"]
            if "method" in dispatch and not (isinstance(body, dict) and isinstance(body.get("input"), list)):
                continue
            body["input"] = [number(item) for item in body["input"]]
            if "tools" in body:
                body["tools"] = number(body["tools"])
            if "method" in dispatch:
                continue
            # client_metadata has another order in every request
            first = seen.setdefault(json.dumps(dispatch, sort_keys=True), f"{name}/{place}")
            scenario[place] = dispatch if first == f"{name}/{place}" else first
    return {"parts": [json.loads(part) for part in pool], "scenarios": scenarios}


def written(data: dict) -> str:
    """JSON with one part, header or field on a line."""

    def dump(value, depth: int) -> str:
        if not isinstance(value, (dict, list)) or not value or depth > 5 or is_line(value):
            return json.dumps(value, ensure_ascii=False)
        pairs = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
        parts = value.values() if isinstance(value, dict) else value
        ends = "{}" if isinstance(value, dict) else "[]"
        inner = ",\n".join(pair + dump(part, depth + 1) for pair, part in zip(pairs, parts, strict=True))
        return f"{ends[0]}\n{inner}\n{ends[1]}"

    def is_line(value) -> bool:
        return "type" in value or (isinstance(value, list) and not isinstance(value[0], (dict, list)))

    return dump(data, 0) + "\n"


def main(folder: Path) -> None:
    for version in sorted(path for path in folder.iterdir() if path.is_dir()):
        scenarios, websockets = {}, {}
        for file in sorted(version.glob("*.json")):
            if file.stem in WEBSOCKETS:
                found = trimmed_websocket(json.loads(file.read_text()))
                websockets[file.stem] = json.loads(numbered(json.dumps(found)))
            if file.stem.startswith("websocket"):  # their dispatches depend on frames
                continue
            dispatches = trimmed(json.loads(file.read_text()))
            if any("method" not in one for one in dispatches):
                scenarios[file.stem] = json.loads(numbered(json.dumps(dispatches)))
        (Path(__file__).parent / f"{version.name}.json").write_text(written(pooled(scenarios)))
        (Path(__file__).parent / f"websocket-{version.name}.json").write_text(written(pooled(websockets)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
