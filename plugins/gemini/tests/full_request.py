"""A request of the generateContent API with as many kinds of content, tools and options as possible."""

from floway_gemini import thoughts

from floway_core.testing.fuzz import PNG

from .test_events import REASONING

IMAGE = {"inlineData": {"mimeType": "image/png", "data": PNG}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}
SCHEMA = {
    "type": "OBJECT",
    "properties": {"a": {"type": "STRING", "nullable": True}, "b": {"type": "ARRAY", "items": {"any_of": [{}]}}},
    "propertyOrdering": ["b"],
    "required": ["a"],
    "minProperties": "1",
}
FULL = {
    "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "Hi"}, IMAGE, {"file_data": {"mime_type": "image/png", "file_uri": "https://a"}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {"text": "A", "thoughtSignature": thoughts.encode_items([REASONING])},
                {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}},
                {"function_call": {"name": "g"}},
                {"executableCode": {"code": "x"}},
            ],
        },
        {
            "role": "function",
            "parts": [
                {"functionResponse": {"id": "c", "name": "f", "response": {"output": [1]}, "parts": [IMAGE]}},
                {"functionResponse": {"name": "g", "response": {"error": "e"}}},
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "f", "description": "d", "parameters": SCHEMA}]},
        {"function_declarations": [{"name": "g.h", "parametersJsonSchema": {"type": "object"}}]},
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "temperature": 1,
        "topP": "0.5",
        "topK": 5,
        "maxOutputTokens": 100,
        "stopSequences": ["x"],
        "candidateCount": 1,
        "responseModalities": ["TEXT"],
        "responseMimeType": "application/json",
        "responseSchema": {"type": "ARRAY", "items": SCHEMA},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512, "thinkingLevel": "LOW"},
    },
    "safetySettings": [{"category": "c"}],
}
