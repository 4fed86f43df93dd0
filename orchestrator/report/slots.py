"""Slots: which colour and marker a method has, the same in every section of the page and in every figure."""

from collections.abc import Collection, Mapping, Sequence

from orchestrator.report.codes import MARKS

LOOKS = MARKS * MARKS  # slots of different colour and marker


def assigned(scenes: Sequence[Collection[str]]) -> dict[str, int]:
    """The slot of every method that some scene has, by name; a slot's colour is the slot modulo MARKS.

    Each method takes, in the order of names, the lowest free slot whose colour no method beside it in a scene
    has; where there is none, the lowest free one. Past LOOKS methods a slot is used again, by methods that
    share no scene.
    """
    beside: dict[str, set[str]] = {}
    for methods in scenes:
        for method in methods:
            beside.setdefault(method, set()).update(methods)
    slots: dict[str, int] = {}
    for method in sorted(beside):
        near = {slots[other] for other in beside[method] if other in slots}
        taken, colours = set(slots.values()), {slot % MARKS for slot in near}
        free = [slot for slot in range(LOOKS) if slot not in taken]
        apart = [slot for slot in free if slot % MARKS not in colours]
        again = [slot for slot in range(LOOKS) if slot not in near]
        slots[method] = next(iter([*apart, *free, *again]), len(slots))
    return slots


def with_others(slots: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """The slots, and free ones for the names that have none yet, in order."""
    found = dict(slots)
    for name in names:
        if name not in found:
            taken = set(found.values())
            found[name] = next(slot for slot in range(len(taken) + 1) if slot not in taken)
    return found
