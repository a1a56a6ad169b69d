"""Signatures: the published example, rotation, and secrets that never show."""

from __future__ import annotations

import base64

import pytest

from ray.errors import RayError
from ray.jobs.signing import WebhookSecrets, message_id
from tests.jobs.standard_webhooks import NotGenuine, verify

# From the published documentation of the format.
PUBLISHED_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLISHED_ID, PUBLISHED_TIME = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330
PUBLISHED_BODY = b'{"test": 2432232314}'
PUBLISHED_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def secret(fill: int, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes([fill]) * size).decode("ascii")


def secrets_of(text: str) -> WebhookSecrets:
    secrets = WebhookSecrets.from_environment({"RAY_WEBHOOK_SECRETS": text})
    assert secrets is not None
    return secrets


def headers(signature: str, *, at: int = 1000, identity: str = "msg_job_1") -> dict[str, str]:
    return {"webhook-id": identity, "webhook-timestamp": str(at), "webhook-signature": signature}


def test_given_the_published_example_when_signed_then_the_signature_is_the_published_one() -> None:
    signature = secrets_of(PUBLISHED_SECRET).signature(PUBLISHED_ID, PUBLISHED_TIME, PUBLISHED_BODY)
    assert signature == PUBLISHED_SIGNATURE


def test_given_a_rotation_when_signed_then_receivers_with_the_old_and_the_new_secret_verify() -> None:
    old, new = secret(1), secret(2)
    signature = secrets_of(f"{new}, {old}").signature("msg_job_1", 1000, b"{}")
    for known in (old, new):
        verify(known, headers(signature), b"{}", now=1000)
    with pytest.raises(NotGenuine):
        verify(secret(3), headers(signature), b"{}", now=1000)


@pytest.mark.parametrize("late", [-300, -1, 0, 300])
def test_given_a_clock_within_300_seconds_when_verified_then_it_is_genuine(late: int) -> None:
    signature = secrets_of(secret(1)).signature("msg_job_1", 1000, b"{}")
    verify(secret(1), headers(signature), b"{}", now=1000 + late)
    with pytest.raises(NotGenuine):
        verify(secret(1), headers(signature), b"{}", now=1000 + late + (601 if late >= 0 else -601))


@pytest.mark.parametrize("place", range(7))
def test_given_one_flipped_byte_when_verified_then_it_is_refused(place: int) -> None:
    body = b'{"a":1}'
    signature = secrets_of(secret(1)).signature("msg_job_1", 1000, body)
    flipped = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    verify(secret(1), headers(signature), body, now=1000)
    for changed in (
        (headers(signature), flipped),
        (headers(signature, at=1001), body),
        (headers(signature, identity="msg_job_2"), body),
    ):
        with pytest.raises(NotGenuine):
            verify(secret(1), *changed, now=1000)


@pytest.mark.parametrize("text", [None, "", "  ", "\n"])
def test_given_no_secrets_when_read_then_there_are_none(text: str | None) -> None:
    environ = {} if text is None else {"RAY_WEBHOOK_SECRETS": text}
    assert WebhookSecrets.from_environment(environ) is None


@pytest.mark.parametrize("size", [24, 25, 63, 64])
def test_given_a_secret_within_the_sizes_when_read_then_it_is_taken(size: int) -> None:
    assert len(secrets_of(secret(7, size))) == 1


@pytest.mark.parametrize(
    "text",
    [
        secret(9, 23),
        secret(9, 65),
        "whsec_",
        "WHSEC_" + secret(9)[6:],
        secret(9)[6:],
        secret(9).removesuffix("="),  # no padding
        secret(9) + "=",
        secret(9) + "CQkJCQkJ",  # more after the padding
        "whsec_CQkJ CQkJCQkJCQkJCQkJCQkJCQkJCQkJ",
        "whsec_CQkJ-QkJCQkJCQkJCQkJCQkJCQkJCQkJ",
        "whsec_CQkJÄQkJCQkJCQkJCQkJCQkJCQkJCQkJ",
        f"{secret(9)},",
        f",{secret(9)}",
        f"{secret(9)},,{secret(8)}",
        f"{secret(9)} {secret(8)}",
        ",".join([secret(9)] * 5),
    ],
)
def test_given_malformed_secrets_when_read_then_boot_fails_without_showing_them(text: str) -> None:
    with pytest.raises(RayError) as caught:
        WebhookSecrets.from_environment({"RAY_WEBHOOK_SECRETS": text})
    shown = str(caught.value.envelope())
    assert caught.value.code == "config_validation_error"
    assert "RAY_WEBHOOK_SECRETS" in shown
    assert "CQkJ" not in shown


def test_given_four_secrets_when_printed_then_only_their_number_shows() -> None:
    secrets = secrets_of(",".join(secret(fill) for fill in range(1, 5)))
    assert repr(secrets) == "<WebhookSecrets: 4>"
    assert len(secrets.signature("msg_a", 1, b"").split(" ")) == 4


def test_given_a_job_when_its_message_is_named_then_the_name_is_stable_and_has_no_dot() -> None:
    assert message_id("job_0123456789abcdef") == "msg_job_0123456789abcdef"
