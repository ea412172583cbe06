"""Addresses of servers, which may hold secrets."""

import urllib.parse


def check_no_secrets(base_url: str | None) -> None:
    """Raises ValueError if an address that others may read contains a secret."""
    if base_url is not None and set("@?") & set(base_url):
        # The message does not repeat the address.
        raise ValueError("base_url: a user, a password or a query in it; set OPENAI_BASE_URL to it instead")


def split_address(base_url: str | None) -> tuple[str | None, tuple[str, ...], dict[str, str]]:
    """The address, (user, password) if it contained them, and the parameters of its query."""
    if base_url is None:
        return None, (), {}
    # The message does not repeat the address, which may contain a password.
    message = (
        "base_url, or OPENAI_BASE_URL: not the address of a server; allowed is one such as http://localhost:8000/v1"
    )
    try:
        parts = urllib.parse.urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise ValueError(message) from None
    is_printable = base_url.isascii() and base_url.isprintable() and " " not in base_url
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not is_printable:
        raise ValueError(message)
    login = parts.username is not None
    address = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    names = (urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or ""))
    return address, names if login else (), dict(urllib.parse.parse_qsl(parts.query))
