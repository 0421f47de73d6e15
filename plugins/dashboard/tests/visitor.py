"""A browser without JavaScript: it keeps cookies, follows redirects, and sends the forms of pages."""

import re
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy

NASTY = '<script>alert("x")</script>&\''
SHOWN = "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&amp;&#39;"
"""A name that would be a script if a page did not escape it, and what the page has instead."""

PASSWORD, VIEWER_PASSWORD, ADMIN_TOKEN = "correct horse battery", "only look at this", "the-admin-token-0123"


class _Forms(HTMLParser):
    def __init__(self):
        super().__init__()
        self.forms = []
        self.select = self.text_area = None

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "form":
            self.forms.append((found.get("action"), {}))
        if not self.forms:
            return
        fields, name = self.forms[-1][1], found.get("name")
        if tag == "input" and name and (found.get("type") not in ("checkbox", "radio") or "checked" in found):
            fields[name] = found.get("value", "")
        if tag == "select":
            self.select = name
        if tag == "textarea":
            self.text_area = name
            fields[name] = ""
        if tag == "option" and (self.select not in fields or "selected" in found):
            fields[self.select] = found.get("value", "")

    def handle_data(self, data):
        if self.text_area:
            self.forms[-1][1][self.text_area] += data

    def handle_endtag(self, tag):
        if tag == "textarea":
            fields = self.forms[-1][1]
            fields[self.text_area] = fields[self.text_area].removeprefix("\n")  # as browsers do
            self.text_area = None


class Answer:
    """An answer, after redirects."""

    def __init__(self, response):
        self.status, self.headers, self.url = response.status, response.headers, response.url
        self.text = response.read().decode()

    @property
    def path(self):
        return urllib.parse.urlsplit(self.url).path

    @property
    def title(self):
        return re.search("<title>(.*?)</title>", self.text)[1].removesuffix(" · Floway")

    @property
    def notice(self):
        """The text of the notice; None if there is none."""
        found = re.search(r'<p class="notice \w+" role="\w+">(.*?)</p>', self.text)
        return found and found[1]

    def form(self, action):
        """Return the fields of the form that is sent to a path that ends with ``action``."""
        parser = _Forms()
        parser.feed(self.text)
        return next((path, fields) for path, fields in parser.forms if path and path.endswith(action))


class Visitor:
    """Somebody with a browser."""

    def __init__(self, url, **headers):
        self.url, self.headers = url, headers
        # TLS would end at a proxy, so the gateway sees HTTP
        self.cookies = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path="", **headers):
        return self._send(path, None, headers)

    def post(self, path, fields, **headers):
        return self._send(path, urllib.parse.urlencode(fields, doseq=True).encode(), headers)

    def submit(self, page, action, changes=(), **headers):
        """Send a form of ``page`` with ``changes``."""
        path, fields = page.form(action)
        return self.post(path, {**fields, **dict(changes)}, **headers)

    def sign_in(self, password=PASSWORD):
        return self.submit(self.get("/dashboard/sign-in"), "/sign-in", {"password": password})

    def _send(self, path, content, headers):
        sent = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        request = urllib.request.Request(urllib.parse.urljoin(self.url, path), content, sent)
        try:
            return Answer(self._opener.open(request, timeout=20))
        except urllib.error.HTTPError as refused:
            return Answer(refused)
