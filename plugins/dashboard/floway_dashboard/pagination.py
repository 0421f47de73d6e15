"""Long lists in pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from flask import request, url_for

T = TypeVar("T")

PER_PAGE = 25


@dataclass(frozen=True)
class Slice(Generic[T]):
    """The part of a list that a page shows. The macro ``pagination`` links to the others."""

    items: Sequence[T]
    number: int
    """The number of the page, from 1."""
    pages: int
    total: int
    """Items of the whole list."""

    def url(self, number: int) -> str:
        """Return the URL of another page of the same view, with the same filters."""
        arguments = {**(request.view_args or {}), **request.args.to_dict(), "page": str(number)}
        return url_for(request.endpoint or "", **arguments)


def paginate(items: Sequence[T], per_page: int = PER_PAGE) -> Slice[T]:
    """Return the part of ``items`` that the current request asks for with ``page``."""
    pages = max(1, -(-len(items) // per_page))
    number = min(page_number(), pages)
    return Slice(items[(number - 1) * per_page : number * per_page], number, pages, len(items))


def page_number() -> int:
    """Return the number of the page that the current request asks for, from 1."""
    text = request.args.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 9 else 1
