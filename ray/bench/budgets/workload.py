"""The workload of the prefix bench: families of prompts as products send them, the same on every run of a seed.

A family is one product's system text; every request of it brings one new, short customer line. What requests of a
family have in common is therefore exactly the system text, and no two requests are equal, so that neither a response
cache nor an in-flight twin can help: only reuse of the prefix can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

TokenCount = Callable[[str], int]
"""Tokens of a text, as the model under test counts them."""

ORDERS_PER_TURN = 10_000

_SHOPS = (
    "Nordlicht Lamps",
    "Hafen Coffee",
    "Alpine Bikes",
    "Tidewater Books",
    "Quiet Corner Furniture",
    "Green Thumb Seeds",
    "Old Mill Bakery",
    "Summit Tents",
    "Clearwater Filters",
    "Paper Crane Stationery",
    "Lighthouse Radios",
    "Copper Kettle Teas",
)
_GOODS = (
    "lamps",
    "coffee mills",
    "bicycles",
    "atlases",
    "armchairs",
    "seed boxes",
    "ovens",
    "tents",
    "filters",
    "pens",
)
_CITIES = ("Kiel", "Porto", "Ghent", "Turku", "Graz", "Leeds", "Lyon", "Brno", "Aarhus", "Parma")
_TEAMS = ("the repair desk", "the returns team", "billing", "the night shift", "the warehouse", "a store manager")
_COLOURS = ("red", "blue", "green", "white", "black", "grey", "yellow", "brown")
_RULES = (
    "Parcels to {city} leave within {days} days; larger {goods} take {more} days.",
    "A customer who waited longer than {days} weeks gets {percent} percent of the price of {goods} back.",
    "Questions about {goods} older than {more} months go to {team}.",
    "Never promise a date for {goods} that come from {city}; say that {team} will call back.",
    "Refunds above {price} euros need a word from {team} before you mention them.",
    "When {goods} arrive broken, ask for one photograph and offer a replacement within {days} days.",
    "The showroom in {city} opens at {hour} and closes {more} hours later.",
    "Vouchers of {price} euros are valid for {more} months and only for {goods}.",
    "If the same complaint comes {days} times, thank the customer and hand over to {team}.",
    "Spare parts for {goods} are sent from {city} and cost at most {price} euros.",
)
_LINES = (
    "Order {order}: the {colour} one arrived with a dent. What now?",
    "Customer {order} asks whether delivery before the {days}th is still possible.",
    "I paid {price} euros twice, my number is {order}. Please help.",
    "My {colour} parcel {order} has been in {city} for {days} days. Why?",
    "Can I exchange {order} for a {colour} one without the box?",
    "Number {order} here: who answers the phone in {city} after {hour}?",
)


@dataclass(frozen=True, slots=True)
class Question:
    """One request of a pass: which family, that family's system text, and the customer's line."""

    family: int
    system: str
    line: str


class Workload:
    """Families with their system texts, and passes of questions in random family order, all drawn from `seed`.

    `tokens` is how long a system text gets, counted with `count`.
    """

    def __init__(self, *, families: int, tokens: int, seed: int, count: TokenCount) -> None:
        self._seed = seed
        self.systems = [system_text(family, tokens, seed, count) for family in range(families)]

    def questions(self, turn: int, requests: int) -> list[Question]:
        """The `requests` questions of a turn. The same turn gives the same ones again; two turns have no line in
        common, because every line holds an order number and each turn has its own."""
        random = Random(f"{self._seed}/turn/{turn}")
        first = ORDERS_PER_TURN * (turn + 1)
        families = spread(random, len(self.systems), requests)
        return [
            Question(family, self.systems[family], _filled(random, random.choice(_LINES), order=first + number))
            for number, family in enumerate(families)
        ]


def spread(random: Random, families: int, requests: int) -> list[int]:
    """A family for each request: all equally often, as far as that goes, in random order."""
    drawn = [number % families for number in range(requests)]
    random.shuffle(drawn)
    return drawn


def system_text(family: int, tokens: int, seed: int, count: TokenCount) -> str:
    """A system text of the length nearest below `tokens`, in whole words. It starts with a name that no other has."""
    random = Random(f"{seed}/family/{family}")
    shop = _SHOPS[family % len(_SHOPS)]
    name = shop if family < len(_SHOPS) else f"{shop} {family // len(_SHOPS) + 1}"
    goods = random.choice(_GOODS)
    words = f"{name} sells {goods}. You answer its customers in two short, friendly sentences. The house rules:".split()
    rule = 0
    # A word is at least one token, so these are enough words whatever the model's tokenizer is.
    while len(words) < tokens:
        rule += 1
        words += f"\n{rule}. {_filled(random, random.choice(_RULES))}".split(" ")
    return _longest_below(words, tokens, count)


def _longest_below(words: list[str], tokens: int, count: TokenCount) -> str:
    """The most words, but at least one, whose text has at most `tokens` tokens."""
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if count(_joined(words[:middle])) <= tokens:
            low = middle
        else:
            high = middle - 1
    return _joined(words[:low])


def _joined(words: list[str]) -> str:
    return " ".join(words).replace(" \n", "\n").strip()


def _filled(random: Random, text: str, order: int = 0) -> str:
    return text.format(
        order=order,
        city=random.choice(_CITIES),
        colour=random.choice(_COLOURS),
        days=random.randint(2, 9),
        goods=random.choice(_GOODS),
        hour=random.randint(7, 11),
        more=random.randint(10, 24),
        percent=random.randint(5, 40),
        price=random.randint(15, 400),
        team=random.choice(_TEAMS),
    )
