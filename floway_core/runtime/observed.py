"""Read-only contexts for observers: equal to the originals, but changes do not affect the request."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, replace
from typing import Any, NoReturn

from floway_core.contexts import (
    AttemptContext,
    ClientRequest,
    DialectRequest,
    PreviousSnapshot,
    ResponsesRequestContext,
)
from floway_core.protocol import jsontext
from floway_core.protocol.lazy_items import LazyItems
from floway_core.results import AttemptResult


def read_only(ctx: Any) -> Any:
    """Return a read-only form of a hook's context. JSON values are copied when they are first read."""
    if isinstance(ctx, AttemptContext):
        return observed_attempt(ctx)
    if isinstance(ctx, ResponsesRequestContext):
        return _like(_Dispatch, ctx, ["body"], attempt=observed_attempt(ctx.attempt), headers=dict(ctx.headers))
    return ctx


def observed_attempt(attempt: AttemptContext) -> AttemptContext:
    """Return a read-only form of ``attempt``."""
    request: ClientRequest = _like(
        _Request, attempt.request, ["body", "original"], headers=dict(attempt.request.headers)
    )
    previous = _like(_Previous, attempt.previous, ["metadata", "new_items"]) if attempt.previous else None
    observed: AttemptContext = _like(
        _Attempt, attempt, [], request=request, previous=previous, ignored=list(attempt.ignored)
    )
    return observed


def _like(kind: type, original: Any, copied: Sequence[str], **changes: Any) -> Any:
    """Return an object of ``kind`` with the fields of ``original``.

    :param copied: fields that are copied from ``original`` when they are read.
    """
    observed: Any = object.__new__(kind)
    fields = vars(observed)
    fields.update(vars(original), _original=original, **changes)
    for name in copied:
        del fields[name]  # it would hide the property
    return observed


def with_output(result: AttemptResult, items: Sequence[Mapping[str, Any]]) -> AttemptResult:
    """Return ``result`` with the items of its response, which are copied when they are first read."""
    observed = object.__new__(_Result)
    fields = vars(observed)
    fields.update(vars(result), _items=items)
    del fields["output"]  # it would hide the property
    return observed


class _ReadOnly:
    """Refuses assignments, like a frozen dataclass."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")


class _Request(_ReadOnly, ClientRequest):
    _original: ClientRequest

    @functools.cached_property
    def body(self) -> Mapping[str, Any]:  # type: ignore[override]
        return _copy_body(self._original.body)

    @functools.cached_property
    def original(self) -> DialectRequest | None:  # type: ignore[override]
        request = self._original.original
        return request and replace(request, body=jsontext.deep_copy(request.body))


class _Previous(_ReadOnly, PreviousSnapshot):
    _original: PreviousSnapshot

    @functools.cached_property
    def metadata(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]
        copied: Mapping[str, Mapping[str, Any]] = jsontext.deep_copy(dict(self._original.metadata))
        return copied

    @functools.cached_property
    def new_items(self) -> Sequence[Mapping[str, Any]]:  # type: ignore[override]
        copied: Sequence[Mapping[str, Any]] = jsontext.deep_copy(list(self._original.new_items))
        return copied


class _Result(AttemptResult):
    _items: list[Mapping[str, Any]]

    @functools.cached_property
    def output(self) -> Sequence[Mapping[str, Any]]:  # type: ignore[override]
        copied: Sequence[Mapping[str, Any]] = jsontext.deep_copy(self._items)
        return [item for item in copied if isinstance(item, dict)]


class _Attempt(_ReadOnly, AttemptContext):
    pass


class _Dispatch(_ReadOnly, ResponsesRequestContext):
    _original: ResponsesRequestContext

    @functools.cached_property
    def body(self) -> dict[str, Any]:  # type: ignore[override]
        return _copy_body(self._original.body)


def _copy_body(original: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(original)
    if isinstance(body.get("input"), LazyItems):
        body["input"] = list(body["input"])
    copied: dict[str, Any] = jsontext.deep_copy(body)
    return copied
