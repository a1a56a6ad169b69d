"""Which beginning of a prompt its relatives share, when nobody has declared it. Values and memory only; no backend.

A declared prefix ends where the first value begins that changes per request. Many products put their instructions into
the user message instead; for those the shared beginning is learned from what different requests had in common. What
only one request contained never gets into a learned prefix, and the turns of one growing conversation count as one
request, so no customer's words do.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

# A shared beginning must have been seen in that many different requests, of which none continues another.
LEARNING_REQUESTS = 3
MAX_FAMILIES = 64
# What is compared of one prompt (a longer one teaches nothing), and what all families together may remember.
MAX_COMPARED_CHARS = 65_536
MAX_REMEMBERED_CHARS = 1_048_576
MAX_SIGHTED_KEYS = 4_096
# A line end is the better place to cut, unless it would give away more than a quarter.
LINE_END_SHARE = 0.75


def common_prefix(first: str, second: str) -> str:
    """The longest text that both begin with."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return first[:high]
    # Halving, because comparing slices is done in C and comparing characters here is not.
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return first[:low]


def continues(longer: str, shorter: str) -> bool:
    """Whether `longer` is `shorter` with something put in at one place: the next turn of the same conversation, or a
    longer draft of the same message. What such two share is one customer's words."""
    if len(longer) < len(shorter):
        return False
    beginning = len(common_prefix(longer, shorter))
    return longer.endswith(shorter[beginning:])


def cut_back(text: str) -> str:
    """`text` without its last, perhaps unfinished, line or word: two prompts that differ in the middle of a word would
    otherwise leave a piece of it, which is tokenised differently from the whole."""
    line_end = text.rfind("\n") + 1
    if line_end and line_end >= len(text) * LINE_END_SHARE:
        return text[:line_end]
    # A word's token usually begins with the space before it.
    word_end = max(text.rfind(" "), text.rfind("\t"), line_end - 1)
    return text[: max(word_end, 0)]


class Sightings:
    """How often each prefix was seen, for the most recent `MAX_SIGHTED_KEYS` of them."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def add(self, key: str, times: int = 1) -> int:
        """One more sighting, or `times`; the number so far."""
        number = self._counts.pop(key, 0) + times
        self._counts[key] = number
        if len(self._counts) > MAX_SIGHTED_KEYS:
            self._counts.popitem(last=False)
        return number

    def count(self, key: str) -> int:
        return self._counts.get(key, 0)


@dataclass(slots=True)
class _Family:
    """`shared`: the established beginning, "" while learning; `recent`: the last different prompts, by digest."""

    shared: str = ""
    recent: OrderedDict[bytes, str] = field(default_factory=OrderedDict)

    @property
    def chars(self) -> int:
        return len(self.shared) + sum(len(prompt) for prompt in self.recent.values())


class SharedBeginnings:
    """What the prompts of each family begin with. Families least recently seen are forgotten."""

    def __init__(self, min_chars: int) -> None:
        """`min_chars`: what is shorter is no prefix."""
        self._min_chars = max(1, min_chars)
        self._families: OrderedDict[str, _Family] = OrderedDict()
        self._chars = 0

    def sight(self, family: str, prompt: str) -> str:
        """Take note of a request's prompt. Returns the beginning that it shares with at least two other requests of
        its family, "" while there is none."""
        known = self._families.pop(family, None) or _Family()
        self._chars -= known.chars
        self._learn(known, prompt)
        self._families[family] = known
        self._chars += known.chars
        while len(self._families) > MAX_FAMILIES or (self._chars > MAX_REMEMBERED_CHARS and len(self._families) > 1):
            _, dropped = self._families.popitem(last=False)
            self._chars -= dropped.chars
        return known.shared

    def known(self, family: str, prompt: str) -> str:
        """What is established of the family, if `prompt` begins with it, else ""; learns nothing."""
        found = self._families.get(family)
        shared = "" if found is None else found.shared
        return shared if prompt.startswith(shared) else ""

    def forget(self) -> None:
        self._families.clear()
        self._chars = 0

    def _learn(self, family: _Family, prompt: str) -> None:
        compared = prompt[:MAX_COMPARED_CHARS]
        if family.shared:
            if compared.startswith(family.shared):
                return
            # A request that disagrees makes it shorter; what is left is shared by even more requests.
            family.shared = self._long_enough(cut_back(common_prefix(family.shared, compared)))
            if family.shared:
                return
        if len(prompt) > MAX_COMPARED_CHARS:
            # Without its end nobody can say whether it continues another.
            return
        self._remember(family, prompt)
        if len(family.recent) > LEARNING_REQUESTS:
            family.recent.popitem(last=False)
        if len(family.recent) < LEARNING_REQUESTS:
            return
        first, *others = family.recent.values()
        for other in others:
            first = common_prefix(first, other)
        family.shared = self._long_enough(cut_back(first))
        if family.shared:
            family.recent.clear()

    def _remember(self, family: _Family, prompt: str) -> None:
        """One more different request, unless it is another step of one that is remembered: of those the longest
        stands for all."""
        for key, other in list(family.recent.items()):
            if continues(other, prompt):
                return
            if continues(prompt, other):
                del family.recent[key]
        family.recent[sha256(prompt.encode("utf-8", "replace")).digest()] = prompt

    def _long_enough(self, text: str) -> str:
        return text if len(text) >= self._min_chars else ""
