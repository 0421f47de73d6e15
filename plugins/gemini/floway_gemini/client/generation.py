"""Convert ``generationConfig`` of the generateContent API to fields of the Responses API."""

from typing import Any

from floway_core.protocol.strict_schema import is_strict
from floway_gemini.client.schemas import close_objects, to_json_schema
from floway_gemini.client.untranslatable import Untranslatable
from floway_gemini.fields import Message, invalid

Fields = dict[str, Any]

MIN_OUTPUT_TOKENS = 16
"""The smallest limit of the Responses API. Smaller ones are raised to it."""

EFFORT_OF_BUDGET = ((4096, "low"), (16384, "medium"))
"""The largest ``thinkingBudget`` for each effort, ascending; above the last one, the effort is ``high``."""
EFFORTS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
"""By ``thinkingLevel``."""
LEVELS = ("THINKING_LEVEL_UNSPECIFIED", *EFFORTS)

JSON, TEXT = "application/json", "text/plain"
ONLY_JSON = "Answer with JSON only."
"""Added to the instructions for answers in JSON without a schema: the Responses API demands the word in the input."""
WRAPPER = "value"
"""The property that contains an answer whose schema is not an object: the Responses API accepts only objects."""

IGNORED_FIELDS = (
    "topK",
    "seed",
    "responseLogprobs",
    "logprobs",
    "mediaResolution",
    "enableEnhancedCivicAnswers",
    "audioTimestamp",
    "routingConfig",
    "modelSelectionConfig",
)
"""Fields that only tune a request. They have no effect on upstreams of other kinds."""
UNTRANSLATABLE_FIELDS = ("speechConfig", "imageConfig")


def read_generation_config(request: Message) -> Fields:
    """Convert ``generationConfig``.

    :raises Untranslatable: it holds what only an upstream with this API understands.
    :raises GatewayError: 400, something is malformed.
    """
    config = request.message("generationConfig")
    if config is None:
        return {}
    for name in UNTRANSLATABLE_FIELDS:
        if config.get(name) is not None:
            raise Untranslatable(config.path(name), f"The field {name!r}")
    if (config.integer("candidateCount", 1) or 1) > 1:
        raise Untranslatable(config.path("candidateCount"), "More than one candidate")
    modalities = [modality.upper() for modality in config.texts("responseModalities")]
    if any(modality not in ("TEXT", "MODALITY_UNSPECIFIED") for modality in modalities):
        raise Untranslatable(config.path("responseModalities"), "Output other than text")
    read_stop_sequences(config)
    limit = config.integer("maxOutputTokens", 0)
    fields: Fields = {"max_output_tokens": max(MIN_OUTPUT_TOKENS, limit)} if limit else {}
    for name, target, minimum, maximum in _NUMBERS:
        if (number := config.number(name, minimum, maximum)) is not None:
            fields[target] = number
    if reasoning := _read_thinking(config):
        fields["reasoning"] = reasoning
    return fields | _read_format(config)


_NUMBERS = (
    ("temperature", "temperature", 0, 2),
    ("topP", "top_p", 0, 1),
    ("presencePenalty", "presence_penalty", -2, 2),
    ("frequencyPenalty", "frequency_penalty", -2, 2),
)
"""Name, name in the Responses API, and range."""


def read_stop_sequences(config: Message) -> list[str]:
    """Return the texts that end the output. The gateway applies them itself, for all upstreams.

    :raises GatewayError: 400, it is not an array of non-empty texts.
    """
    texts = config.texts("stopSequences")
    if not all(texts):
        raise invalid(config.path("stopSequences"), "A stop sequence must not be empty.")
    return texts


def _read_thinking(config: Message) -> Fields:
    thinking = config.message("thinkingConfig")
    if thinking is None:
        return {}
    budget, level = thinking.integer("thinkingBudget", -1), thinking.choice("thinkingLevel", LEVELS)
    reasoning: Fields = {}
    if level in EFFORTS:
        reasoning["effort"] = EFFORTS[level]
    elif budget == 0:
        return {"effort": "none"}
    elif budget and budget > 0:
        reasoning["effort"] = next((effort for limit, effort in EFFORT_OF_BUDGET if budget <= limit), "high")
    if thinking.flag("includeThoughts"):
        reasoning["summary"] = "auto"
    return reasoning


# -------------------------------------------------------------------------------------------------------------- format
def read_schema(config: Message) -> Any:
    """Return the JSON schema of the answer; None if there is none.

    :raises GatewayError: 400, it is malformed.
    """
    if (schema := config.message("responseJsonSchema") or config.message("_responseJsonSchema")) is not None:
        return schema.fields
    declared = config.message("responseSchema")
    return close_objects(to_json_schema(declared.fields)) if declared else None


def is_wrapped(schema: Any) -> bool:
    """Return whether an answer with this schema is wrapped in an object."""
    return isinstance(schema, dict) and bool(schema) and schema.get("type") != "object" and "properties" not in schema


def _read_format(config: Message) -> Fields:
    media_type, schema = config.text("responseMimeType") or TEXT, read_schema(config)
    if media_type not in (JSON, TEXT):
        raise Untranslatable(config.path("responseMimeType"), f"The response type {media_type!r}")
    if schema is None:
        return {"text": {"format": {"type": "json_object"}}} if media_type == JSON else {}
    if is_wrapped(schema):
        inner = {name: value for name, value in schema.items() if name != "$defs"}
        shared = {"$defs": schema["$defs"]} if "$defs" in schema else {}
        schema = {
            "type": "object",
            "properties": {WRAPPER: inner},
            "required": [WRAPPER],
            "additionalProperties": False,
        }
        schema |= shared
    output = {"type": "json_schema", "name": "output", "schema": schema, "strict": is_strict(schema)}
    return {"text": {"format": output}}
