"""What an arm may declare: harmless URLs, sound JSON Schemas, and only by its owner."""

import hashlib
import hmac
import ipaddress
from typing import Any, Final

import jsonschema_rs
import msgspec
from pydantic import HttpUrl

from octarm.models.arms import ArmCapability
from octarm.models.errors import FieldError, InvalidRequest

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_BYTES: Final = 64 * 1024
FORBIDDEN_HOSTS: Final = frozenset(
    {"localhost", "metadata", "metadata.google.internal", "instance-data", "kubernetes"}
)
IN_CLUSTER_SUFFIXES: Final = (".svc", ".svc.cluster.local")


def screen(arm: ArmCapability) -> None:
    """Check what the model cannot.

    Raises:
        InvalidRequest: an unsafe URL or a schema that is none, with the field's name.
    """
    complaints = {
        "endpoint": _url_complaint(arm.endpoint),
        "health_check_url": _url_complaint(arm.health_check_url),
        "input_schema": _schema_complaint(arm.input_schema),
        "output_schema": _schema_complaint(arm.output_schema),
    }
    errors = [
        FieldError(field=f"arm.{name}", message=message)
        for name, message in complaints.items()
        if message
    ]
    if errors:
        detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise InvalidRequest(detail, errors=errors)


def owner_of(key: str) -> str:
    """Give the owner that a key stands for: its SHA-256; no key, no owner."""
    return hashlib.sha256(key.encode()).hexdigest() if key else ""


def may_change(owner: str, key: str) -> bool:
    """Tell whether `key` may change what belongs to `owner`; what has no owner, anybody may."""
    return not owner or hmac.compare_digest(owner, owner_of(key))


def _url_complaint(url: HttpUrl | None) -> str:
    if url is None:
        return ""
    host = (url.host or "").strip("[]").rstrip(".").lower()
    if url.username is not None or url.password is not None:
        return "must not carry a user or a password"
    if host in FORBIDDEN_HOSTS or host.endswith(".localhost"):
        return "names a host that no arm may name"
    if not host.isascii() or any(label.startswith("xn--") for label in host.split(".")):
        return "must have a plain ASCII host"
    address = _address(host)
    if address is not None and not address.is_global:
        return "must not be a loopback, private, link-local or metadata address"
    if url.scheme != "https" and not _is_in_cluster(host, address is not None):
        return "must be https, or a host inside the cluster"
    return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a host as an address; the model has normalised 0x7f000001 and its like already."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in_cluster(host: str, is_address: bool) -> bool:
    return not is_address and ("." not in host or host.endswith(IN_CLUSTER_SUFFIXES))


def _schema_complaint(schema: dict[str, Any]) -> str:
    if schema.get("$schema", DIALECT) != DIALECT:
        return f"$schema must be {DIALECT} or absent"
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        return f"must be at most {MAX_SCHEMA_BYTES} bytes"
    try:
        jsonschema_rs.Draft202012Validator(
            schema,
            retriever=_refuse_to_fetch,
            # The linear-time engine: a pattern of an arm must not stall whoever checks with it.
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (ValueError, RecursionError) as error:
        where = "/".join(str(part) for part in getattr(error, "instance_path", []))
        return f"is not a JSON Schema: {getattr(error, 'message', error)} (at /{where})"[:300]
    return ""


def _refuse_to_fetch(_uri: str) -> Any:
    """Keep a `$ref` from making us fetch anything."""
    raise ValueError("references outside the schema are refused")
