"""Callback URLs: what is refused, and the one spelling of what is accepted."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ray.errors import RayError
from ray.jobs.urls import MAX_URL_CHARS, parsed_url

ACCEPTED = {
    "https://hooks.example": "https://hooks.example/",
    "HTTPS://Hooks.Example/Path": "https://hooks.example/Path",
    "http://hooks.example:80/a": "http://hooks.example/a",
    "https://hooks.example:443/a": "https://hooks.example/a",
    "http://hooks.example:443/a": "http://hooks.example:443/a",
    "https://hooks.example?job=1&x=%41": "https://hooks.example/?job=1&x=%41",
    "https://hooks.example./": "https://hooks.example/",
    "https://xn--bcher-kva.example/": "https://xn--bcher-kva.example/",
    "https://a/b/../c//d;e=f:g!$&'()*+,": "https://a/b/../c//d;e=f:g!$&'()*+,",
    "https://a/bücher": "https://a/b%C3%BCcher",
    'https://a/"<>^`{|}': "https://a/%22%3C%3E%5E%60%7B%7C%7D",
    "http://192.0.2.7/": "http://192.0.2.7/",
    "http://[2001:DB8:0:0::1]:8443/x": "http://[2001:db8::1]:8443/x",
    "http://[::ffff:7f00:1]/": "http://[::ffff:127.0.0.1]/",
    "http://[::]/": "http://[::]/",
    "http://1.2.3.4.example/": "http://1.2.3.4.example/",
    "http://localhost:3000/": "http://localhost:3000/",
}

REFUSED: list[object] = [
    *(None, True, 123, 1.5, [], {}, b"https://a/"),
    *(
        "",
        "   ",
        " https://a/",
        "https://a/ ",
        "https://a/\tb",
        "https://a/\n",
        "https://a/b c",
        "https://a/\x7f",
        "\0",
    ),
    *("https:///path", "https://", "https:/a", "https:a", "//a/b", "/a/b", "a.example", "a.example/b"),
    *("ftp://a/", "file:///etc/passwd", "javascript:alert(1)", "httpss://a/", "ws://a/", "gopher://a:70/_x"),
    *("https://user:pw@a/", "https://user@a/", "https://a/b@c", "https://a/?mail=b@c", "https://@a/"),
    *("https://a/#frag", "https://a#", "https://a\\b/", "https:\\\\a\\b", "https://a/b\\c", "http://a\\@b/"),
    # odd spellings of IPv4 addresses
    *("http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://127.0.1/", "http://1/"),
    *("http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.256/", "http://127.0.0.0x1/", "http://1.2.3.4.5/"),
    *("http://127.0.0.1./", "http://0/", "http://0x/", "http://a.0x7f/", "http://a.1/", "http://a.001./", "http://00/"),
    *("http://\uff11\uff12\uff17.0.0.1/", "http://①②⑦.0.0.1/", "http://127。0。0。1/", "http://127.0.0.1%00/"),
    # names
    *("https://bücher.example/", "https://a_b.example/", "https://-a.example/", "https://a-.example/"),
    *(
        "https://a..example/",
        "https://.a/",
        "https://./",
        f"https://{'a' * 64}.example/",
        "https://a%2eb/",
        "https://*.a/",
    ),
    f"https://{'.'.join(['a' * 63] * 4)}/",
    # IPv6
    *(
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://::1/",
        "http://[::1/",
        "http://::1]/",
        "http://[]/",
    ),
    *("http://[1.2.3.4]/", "http://[::1]x/", "http://[::g]/", "http://[1:2:3]/", "http://[v1.a]/", "http://[[::1]]/"),
    *("http://[::127.1]/", "http://[::ffff:0x7f.0.0.1]/", "http://[::1].a/"),
    # ports
    *(
        "http://a:0/",
        "http://a:65536/",
        "http://a:99999/",
        "http://a:080/",
        "http://a:+80/",
        "http://a:/",
        "http://a:8x/",
    ),
    *("http://a:80:80/", "http://a:-1/", "http://a:\uff18\uff10/", "http://:80/"),
    # lengths and halves
    "https://a/" + "b" * (MAX_URL_CHARS - 9),
    "https://a/" + "ü" * 400,
    "https://a/\ud800",
]


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.items())
def test_given_an_acceptable_url_when_normalised_then_it_has_its_one_spelling(text: str, expected: str) -> None:
    assert str(parsed_url(text)) == expected
    assert str(parsed_url(expected)) == expected


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: repr(value)[:60])
def test_given_anything_else_when_normalised_then_it_is_an_invalid_request(value: object) -> None:
    with pytest.raises(RayError) as caught:
        parsed_url(value)
    assert (caught.value.code, caught.value.status) == ("invalid_request", 400)
    assert caught.value.details == {"field": "callbackUrl", "reason": "invalid_url"}
    assert caught.value.message.startswith("callbackUrl must") or "callbackUrl has" in caught.value.message


def test_given_a_url_with_a_token_when_refused_then_the_message_does_not_show_it() -> None:
    with pytest.raises(RayError) as caught:
        parsed_url("https://hooks.example:0/?token=s3cret")
    assert "s3cret" not in str(caught.value.envelope())
    assert "hooks" not in str(caught.value.envelope())


def test_given_exactly_the_greatest_length_when_normalised_then_it_is_accepted() -> None:
    text = "https://a/" + "b" * (MAX_URL_CHARS - 10)
    assert str(parsed_url(text)) == text


def test_given_a_url_when_taken_apart_then_the_parts_are_what_a_request_needs() -> None:
    url = parsed_url("HTTP://[2001:db8::A]:8080?x=1")
    assert (url.scheme, url.host, url.port, url.target) == ("http", "2001:db8::a", 8080, "/?x=1")
    assert url.authority == "[2001:db8::a]:8080"
    assert url.address == bytes.fromhex("20010db8" + "0" * 22 + "0a")
    assert parsed_url("https://a.example/").authority == "a.example"
    assert parsed_url("https://a.example/").address is None
    assert parsed_url("http://1.2.3.4/").address == bytes((1, 2, 3, 4))


PIECES = st.sampled_from(
    [
        "http",
        "https",
        "://",
        ":",
        "/",
        "//",
        "?",
        "#",
        "@",
        "\\",
        "[",
        "]",
        "%",
        ".",
        "a.example",
        "127.0.0.1",
        "::1",
        "0x7f",
        "1",
        "443",
        "65536",
        "user",
        " ",
        "\t",
        "\r\n",
        "ü",
        "\ud800",
        "。",
        "-",
        "_",
        "%2f",
        "..",
        "xn--a",
    ]
)


@given(
    st.one_of(
        st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join), st.text(max_size=40).map("https://a/".__add__)
    )
)
@example("https://a/" + "ü" * 339)
def test_given_any_text_when_normalised_then_it_is_refused_or_plain_ascii_that_stays_as_it_is(text: str) -> None:
    try:
        once = str(parsed_url(text))
    except RayError:
        return
    assert str(parsed_url(once)) == once
    assert once.isascii()
    assert once.isprintable()
    assert len(once) <= MAX_URL_CHARS
    assert not set(once) & set(' @#\\"<>\r\n')
    assert once.startswith(("http://", "https://"))


@given(st.binary(min_size=4, max_size=4))
def test_given_any_ipv4_address_when_spelt_oddly_then_it_is_refused_and_dotted_it_is_packed(packed: bytes) -> None:
    number, (a, b, c, d) = int.from_bytes(packed, "big"), packed
    assert parsed_url(f"http://{a}.{b}.{c}.{d}/").address == packed
    odd = [str(number), hex(number), f"0{number:o}", f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}"]
    odd += [f"{a:#x}.{b}.{c}.{d:#x}", f"{a}.{b}.{c}.0{d}", f"{a}.{b}.{c}.{d}.", f"{a}.{b}.{c}.{d + 256}"]
    for spelling in odd:
        with pytest.raises(RayError):
            parsed_url(f"http://{spelling}/")
