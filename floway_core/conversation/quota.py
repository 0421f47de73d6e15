"""The quota of an API key: the size of its conversations in the database."""

import peewee

from floway_core.errors import GatewayError
from floway_core.storage.db import select


def stored_bytes(database: peewee.Database, api_key_id: str) -> int:
    """Return the approximate size of the conversations of a key in the database, in bytes."""
    sql = "SELECT COALESCE(SUM(stored_bytes), 0) FROM responses_conversations WHERE api_key_id = ?"
    return int(select(database, sql, api_key_id)[0][0])


def check_quota(database: peewee.Database, api_key_id: str, limit: int) -> None:
    """Refuse a request whose response would be stored if its key has used up its quota.

    The last response may exceed the quota, because a response that has been paid for is always stored.

    :param limit: bytes.
    :raises GatewayError: 507 ``storage_quota_exceeded``.
    """
    used = stored_bytes(database, api_key_id)
    if used >= limit:
        message = (
            f"The stored responses of this API key take {used} bytes, and its quota is {limit}. Delete some "
            '(DELETE /v1/responses/ID), send "store": false, or ask the operator of the gateway for a larger quota.'
        )
        # The header prevents SDKs from retrying.
        raise GatewayError(507, message, code="storage_quota_exceeded", headers={"x-should-retry": "false"})
