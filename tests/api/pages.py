"""Pages as a browser reads them, for tests."""

from html.parser import HTMLParser
from typing import NamedTuple

from tests.api.server import Reply

_VOID = {"meta", "link", "input", "img", "br"}
_KNOWN = {
    "a", "b", "bdi", "body", "button", "caption", "circle", "code", "dd", "details", "div", "dl",
    "dt", "fieldset", "form", "g", "h1", "h2", "head", "header", "html", "img", "input", "label",
    "legend", "li", "link", "main", "meta", "nav", "noscript", "option", "p", "pre", "rect",
    "script", "section", "select", "small", "span", "summary", "svg", "table", "tbody", "td", "th",
    "thead", "time", "title", "tr", "ul",
}  # fmt: skip


class Element(NamedTuple):
    """A tag that was opened."""

    name: str
    attributes: dict[str, str]


class Page(HTMLParser):
    """A page that was read; AssertionError where it has what no page of ours may have."""

    def __init__(self, reply: Reply, status: int = 200) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text = ""
        self._open: list[str] = []
        assert reply.status == status, reply.body
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        policy = reply.headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
            " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        self.html = reply.body.decode()
        self.feed(self.html)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """No script or style inside of the page, and no element that we do not write."""
        assert tag in _KNOWN, tag
        attributes = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") or name == "style" for name in attributes), attributes
        if tag == "script":
            assert attributes["src"].startswith("/console/static/")
        for name in ("href", "src", "action"):
            assert attributes.get(name, "/").startswith(("/", "#")), attributes
            assert not attributes.get(name, "/").startswith("//"), attributes
        self.elements.append(Element(tag, attributes))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of a picture."""
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Each closes the one that was opened last: others' text could close one of ours."""
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """What people read."""
        if not self._open or self._open[-1] not in {"script", "style"}:
            self.text += data

    def all(self, tag: str, /, **attributes: str) -> list[Element]:
        """Elements with these attributes."""
        return [
            each
            for each in self.elements
            if each.name == tag and attributes.items() <= each.attributes.items()
        ]

    @property
    def actions(self) -> set[str]:
        """Where forms that change something lead."""
        return {each.attributes["action"] for each in self.all("form", method="post")}
