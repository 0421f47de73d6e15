"""The security and cache headers of all responses."""

from flask import Response, request

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

YEAR = 365 * 86_400
"""Seconds."""


def add_headers(response: Response) -> Response:
    """Add the headers to a response."""
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["x-frame-options"] = "DENY"
    response.headers["referrer-policy"] = "same-origin"
    response.headers["cross-origin-opener-policy"] = "same-origin"
    response.headers["cross-origin-resource-policy"] = "same-origin"
    if request.endpoint != "dashboard.static":
        response.headers["cache-control"] = "no-store"
    elif request.args.get("v") and response.status_code == 200:  # the URL changes with the file
        response.headers["cache-control"] = f"public, max-age={YEAR}, immutable"
    return response
