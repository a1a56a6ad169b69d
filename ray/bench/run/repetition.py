"""The items of a workload asked several times, each time with another seed.

With one seed a repetition would only bring the same answer once more; as it is, the repetitions are other draws, and
the same ones whenever it is done again.
"""

from __future__ import annotations

from dataclasses import replace

from ray.bench.run.workload_file import Item, Workload, workload_of

MAX_SEED = 2**53 - 1


def repeated_workload(workload: Workload, repeat: int) -> Workload:
    """The items one after the other, `repeat` times, each time with the next seeds."""
    if repeat == 1:
        return workload
    items = tuple(item for turn in range(repeat) for item in with_next_seeds(workload.items, turn))
    return workload_of(workload.name, items)


def with_next_seeds(items: tuple[Item, ...], turn: int) -> tuple[Item, ...]:
    """The items for repetition `turn`, counted from 0; one without a seed stays without."""
    return items if turn == 0 else tuple(_with_next_seed(item, turn) for item in items)


def _with_next_seed(item: Item, turn: int) -> Item:
    seed = item.fields.get("seed")
    if not isinstance(seed, int):
        return item
    return replace(item, fields={**item.fields, "seed": (seed + turn) % (MAX_SEED + 1)})
