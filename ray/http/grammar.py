"""The grammar of HTTP/1.1 messages, as named patterns with the section they come from.

The patterns are strict on purpose: a message that two parsers could read differently is how requests are smuggled
past a proxy, so nothing is repaired here. No bare LF, no lone CR, no obs-fold, no space before the colon, no control
bytes in values, exactly one space between the parts of a request line. Quantifiers are possessive (`++`, `*+`):
hostile input cannot make a pattern backtrack.
"""

from __future__ import annotations

import re

CRLF = b"\r\n"
HEAD_END = b"\r\n\r\n"

# RFC 9110 section 5.6.2: token
TOKEN_BYTE = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# RFC 9110 section 5.5: field-vchar (VCHAR and obs-text), SP and HTAB. NUL, CR, LF and the other controls are out.
FIELD_VALUE_BYTE = rb"[\t\x20-\x7e\x80-\xff]"

# RFC 9112 section 3: method SP request-target SP HTTP-version CRLF. An empty target is let through, so that it can be
# refused with a message of its own.
REQUEST_LINE = rb"(" + TOKEN_BYTE + rb"{1,32}+) ([\x21-\x7e]*+) HTTP/([0-9]\.[0-9])\r\n"
# RFC 9112 section 5: field-name ":" OWS field-value OWS CRLF
FIELD_LINES = rb"(?:" + TOKEN_BYTE + rb"++:" + FIELD_VALUE_BYTE + rb"*+\r\n)*+"

# A whole request head with the empty line that ends it. Groups: method, target, version, field lines.
HEAD = re.compile(REQUEST_LINE + rb"(" + FIELD_LINES + rb")\r\n")
# The trailer section of a chunked body without its last empty line (RFC 9112 section 7.1.2).
TRAILERS = re.compile(FIELD_LINES)
# RFC 9112 section 7.1: chunk-size [ chunk-ext ] CRLF. 15 digits fit every integer type that another parser may use.
# No whitespace around the size: that is where parsers disagree.
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:;" + FIELD_VALUE_BYTE + rb"*+)?\r\n")
# RFC 9112 section 2.2: a line ends in CRLF; LF without CR, and CR without LF, are both refused.
BROKEN_LINE_END = re.compile(rb"(?<!\r)\n|\r[^\n]")
# RFC 9110 section 8.6: Content-Length = 1*DIGIT. 18 digits: more would overflow another parser's 64 bits.
CONTENT_LENGTH = re.compile(r"[0-9]{1,18}+")
# The bytes that may open a request: any other first byte (a TLS handshake, for one) is refused at once.
TOKEN_BYTES = frozenset(byte for byte in range(256) if re.match(TOKEN_BYTE, bytes([byte])))

# RFC 3986 section 3.1: scheme
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+):")
# RFC 1123 section 2.1 host names, lower-cased, with one optional trailing dot and an optional port.
_LABEL = r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?"
HOST_NAME = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)\.?(?::([0-9]{{1,5}}))?")
# RFC 3986 section 3.2.2: IP-literal; the address inside is checked by the system's own parser.
HOST_IPV6 = re.compile(r"\[([0-9a-f:.]{2,45})\](?::([0-9]{1,5}))?")
