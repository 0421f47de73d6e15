"""Read JSON values of clients, with errors that name the field."""

from collections.abc import Iterator
from typing import Any

from floway_core.errors import GatewayError


def invalid(path: str, message: str) -> GatewayError:
    """Return the error for a field.

    :param path: the path of the field in the request, such as ``messages[3].content``.
    """
    return GatewayError(400, message, param=path)


def read_object(value: Any, path: str) -> dict[str, Any]:
    """Return ``value`` if it is an object.

    :raises GatewayError: 400, it is not.
    """
    if not isinstance(value, dict):
        raise invalid(path, "Input should be a valid dictionary.")
    return value


def read_text(value: Any, path: str) -> str:
    """Return ``value`` if it is a string.

    :raises GatewayError: 400, it is not.
    """
    if not isinstance(value, str):
        raise invalid(path, "Input should be a valid string." if value is not None else "Field required.")
    return value


def read_list(value: Any, path: str) -> list[Any]:
    """Return ``value`` if it is an array.

    :raises GatewayError: 400, it is not.
    """
    if not isinstance(value, list):
        raise invalid(path, "Input should be a valid list." if value is not None else "Field required.")
    return value


def read_objects(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of an array, each after its path.

    :raises GatewayError: 400, it is not an array of objects.
    """
    for index, element in enumerate(read_list(value, path)):
        yield f"{path}[{index}]", read_object(element, f"{path}[{index}]")


def read_number(value: Any, path: str, minimum: float, maximum: float | None = None) -> int | float:
    """Return ``value`` if it is a number in a range.

    :param maximum: None for no upper limit.
    :raises GatewayError: 400, it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(path, "Input should be a valid number.")
    if value < minimum:
        raise invalid(path, f"Input should be greater than or equal to {minimum}.")
    if maximum is not None and value > maximum:
        raise invalid(path, f"Input should be less than or equal to {maximum}.")
    return value


def read_integer(value: Any, path: str, minimum: int) -> int:
    """Return ``value`` if it is an integer of at least ``minimum``.

    :raises GatewayError: 400, it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise invalid(path, "Input should be a valid integer." if value is not None else "Field required.")
    return int(read_number(value, path, minimum))


def read_flag(value: Any, path: str) -> bool:
    """Return ``value`` if it is a boolean; False for null.

    :raises GatewayError: 400, it is neither.
    """
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(path, "Input should be a valid boolean.")
    return value


def read_choice(value: Any, path: str, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of some strings.

    :raises GatewayError: 400, it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise invalid(path, f"Input should be {', '.join(map(repr, choices))}.")
    return value
