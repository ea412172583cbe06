"""What holds for every page: well-formed, loads nothing, and readable by all."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """A parsed page: its elements as (tag, attributes, text), and a failure where tags are not nested."""

    def __init__(self, content):
        super().__init__()
        text = content.decode()
        self.open, self.elements, self.size = [], [], len(content)
        assert text.startswith("<!DOCTYPE html>")
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2] += data

    def find(self, tag):
        return [(attributes, " ".join(text.split())) for name, attributes, text in self.elements if name == tag]

    def read_tables(self):
        """The rows of each table, each a list of cells."""
        tables = []
        for tag, _, text in self.elements:
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append([])
            elif tag in ("th", "td"):
                tables[-1][-1].append(" ".join(text.split()))
        return tables


def check_page(content):
    """Assert what holds for every page, and return it parsed."""
    page = Page(content)
    assert page.size <= 5_000_000
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for _, attributes, _ in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert not re.match(r"[a-z]+:|/", attributes.get("href", ""))
    style = page.find("style")[0][1]
    assert not re.search(r"url\(|@import", style)
    assert content.partition(b"</head>")[0].count(b"<title>") == 1  # SVG has titles too
    assert len(page.find("h1")) == len(page.find("main")) == 1
    assert page.find("html")[0][0]["lang"] == "en"
    assert all(attributes["alt"] for attributes, _ in page.find("img"))
    assert all(attributes["scope"] in ("col", "row") for attributes, _ in page.find("th"))
    assert all("aria-label" in attributes or "aria-hidden" in attributes for attributes, _ in page.find("svg"))
    identifiers = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    check_contrast(style)
    return page


def check_contrast(style):
    """Text stands out from its background, in light and dark (WCAG 2.2, 1.4.3), and so do lines (1.4.11)."""
    schemes = re.findall(r":root \{(.*?)\}", style)
    assert len(schemes) == 2
    for scheme in schemes:
        colors = dict(re.findall(r"--(\w+): #(\w{6})", scheme))
        for background in ("page", "box"):
            for text in ("text", "muted", "link"):
                assert compute_contrast(colors[text], colors[background]) >= 4.5
            for index in range(7):
                assert compute_contrast(colors[f"c{index}"], colors[background]) >= 3


def compute_contrast(first, second):
    low, high = sorted(map(compute_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def compute_luminance(color):
    """Relative luminance of sRGB (WCAG 2.2)."""
    shares = [int(color[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
