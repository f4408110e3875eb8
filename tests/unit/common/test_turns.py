"""Everybody who waits gets the same part of what is taken."""

from octarm.common.storage.turns import Turns


def waiting(**items: int) -> Turns[str]:
    turns: Turns[str] = Turns()
    for owner, number in items.items():
        for place in range(number):
            turns.add(owner, f"{owner}{place}")
    return turns


def test_one_owner_gets_his_items_in_their_order() -> None:
    turns = waiting(a=5)

    assert turns.take(3) == ["a0", "a1", "a2"]
    assert turns.take(3) == ["a3", "a4"]
    assert turns.take(3) == []
    assert len(turns) == 0


def test_a_flood_leaves_others_their_part() -> None:
    turns = waiting(flood=1000, quiet=1)

    taken = turns.take(100)

    assert "quiet0" in taken
    assert len(taken) == 100
    assert len(turns) == 901


def test_what_one_leaves_of_his_part_goes_to_the_others() -> None:
    assert waiting(a=1, b=10, c=10).take(9) == [
        "a0",
        "b0",
        "b1",
        "b2",
        "c0",
        "c1",
        "c2",
        "b3",
        "c3",
    ]


def test_more_owners_than_there_is_room_for_take_turns() -> None:
    turns = waiting(a=2, b=2, c=2)

    assert [turns.take(2) for _ in range(3)] == [["a0", "b0"], ["c0", "a1"], ["b1", "c1"]]
