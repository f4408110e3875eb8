"""Which address may be asked for vectors: texts of every tenant go there, and the key."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

# Where clouds tell a machine its credentials.
_METADATA: Final = frozenset({"metadata", "metadata.google.internal", "instance-data"})


def checked_endpoint(url: str) -> str:
    """Give a base URL with a slash at its end.

    Raises:
        ValueError: it is none, or leads where no embedder is: it must be https, or http on
            this machine or in a private network; without user, query and fragment; and no
            link-local, multicast or unspecified address, however it is written.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must be an http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user, query or fragment; the key is a setting of its own")
    if host in _METADATA or not host.isascii():
        raise ValueError("leads where no embedder is")
    try:
        address = ip_address(host)
    except ValueError:
        # Only four whole numbers are an address; a resolver reads 0x7f000001 and 127.1 as one, too.
        if host.split(".")[-1][:1].isdigit():
            raise ValueError("an address must be written out") from None
        private = "." not in host or host.endswith((".internal", ".local", ".svc", ".localhost"))
    else:
        mapped = getattr(address, "ipv4_mapped", None) or address
        if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
            raise ValueError("leads where no embedder is")
        private = mapped.is_private
    if parts.scheme == "http" and not private:
        raise ValueError("must be https outside of this machine and private networks")
    return url.rstrip("/") + "/"
