"""The error for requests that only an upstream with the generateContent API can serve."""

from floway_core.errors import GatewayError


class Untranslatable(GatewayError):
    """Part of a request cannot be translated."""

    def __init__(self, path: str, subject: str) -> None:
        """:param subject: what is not supported, such as "The tool 'codeExecution'"."""
        message = f"{subject} ('{path}') is not supported by this model, which is not served through the Gemini API."
        super().__init__(400, message, param=path)
