"""What changed between two states of the raw rows."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from mien.retraining.changes import Changes, Row, compare, counts

SAD, FEAR = 4, 2


def row(image: str, emotion: int = SAD, split: str = "train") -> Row:
    return Row(image, emotion, split, f"{image}.png")


def test_the_same_rows_in_another_order_are_no_change() -> None:
    rows = [row("a"), row("b", FEAR), row("c")]
    changes = compare(rows, rows[::-1])
    assert not changes
    assert changes.same == 3


def test_rows_put_in_front_change_nothing_of_those_behind() -> None:
    changes = compare([row("b"), row("c")], [row("a"), row("b"), row("c")])
    assert changes == Changes(same=2, added=(row("a"),))


def test_another_label_is_a_relabelling_and_no_removal() -> None:
    changes = compare([row("a"), row("b")], [row("a", FEAR), row("b")])
    assert changes == Changes(same=1, relabelled=((row("a"), row("a", FEAR)),))
    assert changes.asdict()["relabelled"] == [{"split": "train", "from": "sad", "to": "fear", "rows": 1}]


def test_another_split_is_a_move() -> None:
    changes = compare([row("a")], [row("a", split="test")])
    assert changes == Changes(moved=((row("a"), row("a", split="test")),))


def test_one_more_copy_of_an_image_is_added() -> None:
    changes = compare([row("a")], [row("a"), row("a", FEAR)])
    assert changes == Changes(same=1, added=(row("a", FEAR),))


def test_of_two_copies_the_one_that_changed_is_told() -> None:
    changes = compare([row("a"), row("a", FEAR)], [row("a", split="test"), row("a")])
    assert changes.same == 1
    assert changes.relabelled == ((row("a", FEAR), row("a", split="test")),)


def test_rows_are_counted_by_split_and_emotion() -> None:
    assert counts([row("a"), row("b"), row("c", FEAR, "test")]) == {"train": {"sad": 2}, "test": {"fear": 1}}


rows_of_few_images = some.lists(
    some.builds(row, some.sampled_from("abc"), some.integers(0, 2), some.sampled_from(["train", "test"])), max_size=12
)


@given(rows_of_few_images, rows_of_few_images)
def test_every_row_of_both_states_is_told_once(before: list[Row], after: list[Row]) -> None:
    changes = compare(before, after)
    pairs = changes.relabelled + changes.moved
    assert changes.same + len(changes.removed) + len(pairs) == len(before)
    assert changes.same + len(changes.added) + len(pairs) == len(after)
    left = Counter(before) - Counter(changes.removed) - Counter(old for old, _ in pairs)
    assert left == Counter(after) - Counter(changes.added) - Counter(new for _, new in pairs)
