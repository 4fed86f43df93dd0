"""Colours and markers: never the same for two methods of one scene, and one per method on the whole page."""

from itertools import combinations

from orchestrator.report.codes import MARKS, mark
from orchestrator.report.slots import LOOKS, assigned, with_others


def look(slot: int) -> tuple[int, int]:
    """Colour and marker."""
    return slot % MARKS, mark(slot)


def names(first: int, after: int) -> list[str]:
    return [f"method {number:03d}" for number in range(first, after)]


def test_methods_of_one_scene_differ_in_colour_where_eight_colours_are_enough() -> None:
    """Twelve methods in the report, five in each scene; the ninth would have the first one's colour."""
    scenes = [["method 000", *names(8, 12)], names(0, 5), names(4, 9)]
    slots = assigned(scenes)
    for scene in scenes:
        assert len({slots[method] % MARKS for method in scene}) == len(scene)
    assert len({look(slot) for slot in slots.values()}) == len(slots) == 12, "apart where scenes meet, too"
    assert [slots[method] for method in names(0, 8)] == list(range(8)), "the first eight as ever"


def test_no_two_methods_of_a_scene_look_the_same_however_many_the_report_has() -> None:
    scenes = [names(start, start + 40) for start in range(0, 200, 20)]
    slots = assigned(scenes)
    for scene in scenes:
        for one, other in combinations(scene, 2):
            assert look(slots[one]) != look(slots[other])
    assert len(slots) == 220 and max(slots.values()) < LOOKS


def test_what_is_published_takes_free_slots() -> None:
    slots = {"a": 0, "b": 2}
    assert with_others(slots, ["b", "c", "d", "c"]) == {"a": 0, "b": 2, "c": 1, "d": 3}
