"""Receipts of erasures: what proves them without saying of whom they are."""

import hashlib
import json
import uuid

from octarm.models.erasure import Erasure, Subject


def new_erasure_id() -> str:
    """Give a fresh id."""
    return f"era_{uuid.uuid4().hex}"


def tenant_digest(tenant: str) -> bytes:
    """Give by what a tenant's receipts are found."""
    return hashlib.sha256(f"tenant\n{tenant}".encode()).digest()


def subject_digest(erasure_id: str, subject: Subject) -> bytes:
    """Give what proves of whom a receipt is, to somebody who knows; the id is the salt."""
    return hashlib.sha256(f"{erasure_id}\n{subject.kind}\n{subject.key}".encode()).digest()


def receipt_digest(receipt: Erasure) -> str:
    """Give the SHA-256 hex of all fields but the digest, as JSON with sorted keys."""
    fields = receipt.model_dump(mode="json", exclude={"digest"})
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
