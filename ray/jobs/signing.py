"""Signatures of callbacks in the Standard Webhooks form, with rotation.

A receiver that knows any one of the secrets can verify a callback, so a secret is replaced in three steps: put the new
one first here, teach the receivers the new one, drop the old one here. Secrets come from the environment only and
appear nowhere else: not in errors, logs, `repr` or job files. Source: jobs, section 17 (B5); standardwebhooks.com.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.errors import RayError

SECRETS_VARIABLE = "RAY_WEBHOOK_SECRETS"
SECRET_PREFIX = "whsec_"
MAX_SECRETS = 4
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64


def message_id(job_id: str) -> str:
    """What a receiver tells duplicates by: the same for each attempt to deliver one job's outcome. Without a dot, which
    separates the parts of what is signed."""
    return f"msg_{job_id}"


class WebhookSecrets:
    """One to four keys; the first is the current one, the others are those that receivers may still know."""

    __slots__ = ("_keys",)

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys

    def __repr__(self) -> str:
        return f"<WebhookSecrets: {len(self._keys)}>"

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> WebhookSecrets | None:
        """The secrets in `RAY_WEBHOOK_SECRETS`: `whsec_` and base64 of 24 to 64 bytes, separated by commas. None when
        it is unset or blank. Raises `RayError` config_validation_error, which never shows a secret."""
        text = environ.get(SECRETS_VARIABLE, "")
        if not text.strip():
            return None
        entries = text.split(",", MAX_SECRETS)
        if len(entries) > MAX_SECRETS:
            raise _refused(f"must hold at most {MAX_SECRETS} secrets")
        return cls(tuple(_key(entry.strip(), place) for place, entry in enumerate(entries, 1)))

    def signature(self, identity: str, timestamp: int, body: bytes) -> str:
        """The value of the `webhook-signature` header: `v1,` and base64 of HMAC-SHA256 for each secret, separated by
        spaces. `timestamp`: Unix seconds of this attempt, as in its header."""
        # Only a gateway that signs pays for OpenSSL's digests.
        import binascii
        import hmac

        signed = b".".join((identity.encode("ascii"), b"%d" % timestamp, body))
        digests = (hmac.digest(key, signed, "sha256") for key in self._keys)
        return " ".join("v1," + binascii.b2a_base64(digest, newline=False).decode("ascii") for digest in digests)


def _key(entry: str, place: int) -> bytes:
    import binascii

    if not entry.startswith(SECRET_PREFIX):
        raise _refused(f"must start each secret with {SECRET_PREFIX!r}; entry {place} does not")
    try:
        key = binascii.a2b_base64(entry.removeprefix(SECRET_PREFIX).encode("ascii"), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError alike
        raise _refused(f"must hold base64 after {SECRET_PREFIX!r}; entry {place} does not") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise _refused(
            f"must hold secrets of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes; entry {place} has {len(key)} "
            f"(`echo {SECRET_PREFIX}$(openssl rand -base64 32)` makes one)"
        )
    return key


def _refused(problem: str) -> RayError:
    details = {"variable": SECRETS_VARIABLE}
    return RayError("config_validation_error", f"{SECRETS_VARIABLE} {problem}", details=details)
