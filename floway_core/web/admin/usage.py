"""``/admin/api/usage``: requests, tokens and costs."""

from flask import Blueprint, Response, jsonify, request

from floway_core.administration import usage
from floway_core.errors import GatewayError
from floway_core.web import current_gateway

blueprint = Blueprint("usage", __name__, url_prefix="/usage")


@blueprint.get("")
def get_usage() -> Response:
    """Return the usage of API keys.

    ``by`` names the groups: key, model, upstream, day. ``since`` is a date (UTC) or a number of days ago (``7d``).
    """
    groups = request.args.get("by", ",".join(usage.DEFAULT_GROUPS)).split(",")
    if unknown := [name for name in groups if name not in usage.GROUPS]:
        message = f"Invalid value for 'by': {unknown[0][:40]!r} is none of {', '.join(usage.GROUPS)}."
        raise GatewayError(400, message, param="by", code="invalid_value")
    since = request.args.get("since")
    try:
        first = usage.parse_since(since) if since else None
    except ValueError as expected:
        raise GatewayError(400, f"Invalid value for 'since': {expected} is expected.", param="since") from None
    rows = usage.read(current_gateway().services.database, groups, first)
    return jsonify({"data": [row.as_dict() for row in rows]})
