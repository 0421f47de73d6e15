"""Pages under ``/dashboard`` that show and change an installation in a browser.

How a page is made:

1. A module in ``pages`` has a ``blueprint = Blueprint("keys", __name__, url_prefix="/keys")`` with its views. It is
   listed in ``pages.BLUEPRINTS``, and in ``navigation.ENTRIES`` if the menu shows it. ``pages.access`` is the example
   of a table, a form, a confirmation, a notice and pagination.
2. A view that shows returns ``page("dashboard/keys.html", title="API keys", ...)``. The template extends
   ``dashboard/base.html``, fills the block ``content``, and takes its parts from ``dashboard/macros.html``.
3. A view that changes is a POST. It needs no checks: ``access.guard`` has refused requests without a session, forms
   without a valid token (``{{ token() }}``), and viewers, except at ``guard.VIEWER_ENDPOINTS``.
4. It ends with ``return redirect_with_notice("The key laptop is revoked.", "dashboard.keys.index")``, which shows the
   sentence on the page to which it leads. What needs a confirmation begins with
   ``if not is_confirmed(): return ask_confirmation(...)``.
5. Values and errors of a form are a ``forms.Form``, which the macros show next to the fields; a ``GatewayError`` of
   core becomes one by ``form.note(error)``. An exception that is not caught becomes an error page.

Without JavaScript all of it works. ``static/dashboard.js`` adds to it, by attributes that begin with ``data-``. There
are no inline scripts and styles, because the content security policy forbids them (``headers``).
"""

__version__ = "0.1.0"
