"""Sphinx configuration of the documentation site: the README and all pages, as they are in the repository."""

PAGES = """
docs/api
docs/conversations
docs/background
docs/clients
docs/model-servers
docs/models-and-aliases
docs/api-keys
docs/settings
docs/running
docs/deployment
docs/monitoring
docs/admin
docs/dashboard
docs/promises
docs/limits
docs/performance
docs/scale
plugins/codex/README
plugins/openai/README
plugins/anthropic/README
plugins/chat/README
plugins/otel/README
plugins/dashboard/README
plugins/echo/README
plugins/gemini/README
docs/plugins
docs/architecture
CONTRIBUTING
SECURITY
CHANGELOG
"""

project = "Floway"
extensions = ["myst_parser"]
include_patterns = ["README.md", *(f"{page}.md" for page in PAGES.split())]
root_doc = "README"
html_theme = "furo"
html_title = "Floway"
highlight_language = "none"
myst_heading_anchors = 3


def _add_navigation(app, docname, source):
    """Append the list of pages to the README, where only the site shows it."""
    if docname == root_doc:
        source[0] += f"\n```{{toctree}}\n:hidden:\n{PAGES}```\n"


def setup(app):
    app.connect("source-read", _add_navigation)
