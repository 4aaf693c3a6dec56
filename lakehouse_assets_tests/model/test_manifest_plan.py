"""Manifests are written again where that pays, and never for nothing."""

from lakehouse_assets.model.manifest_plan import MANY_SMALL, Kind, ManifestFacts, mean_overlap, plan_manifests

TARGET = 1000


def manifest(low: int = 0, high: int = 0, size_bytes: int = TARGET, spec_id: int = 0, kind: Kind = "data") -> ManifestFacts:
    return ManifestFacts(f"{low} to {high}", kind, spec_id, 10, size_bytes, (((1, low), (1, high)),))


def test_sorted_manifests_stay_though_values_stand_on_both_sides_of_their_edges() -> None:
    tidy = [manifest(at // 3, (at + 1) // 3) for at in range(50)]

    assert plan_manifests(tidy, TARGET) == []


def test_large_manifests_that_a_filter_on_one_value_leaves_are_all_written_again() -> None:
    mixed = [manifest(0, 9) for _ in range(4)]

    (group,) = plan_manifests([*mixed, manifest(3, 3, size_bytes=10)], TARGET)

    assert len(group.manifests) == 5
    assert group.reason == "a filter on one partition leaves 4.0 large ones"
    assert plan_manifests(mixed[:3], TARGET) == []


def test_a_few_new_ones_beside_many_sorted_ones_stay_for_now() -> None:
    tidy = [manifest(at, at + 1) for at in range(40)]

    assert plan_manifests([*tidy, *[manifest(0, 40)] * 5], TARGET) == []
    assert len(plan_manifests([*tidy, *[manifest(0, 40)] * 20], TARGET)) == 1


def test_of_many_small_manifests_large_ones_are_left_out() -> None:
    small = [manifest(at, at, size_bytes=TARGET // 2 - 1) for at in range(MANY_SMALL + 1)]

    (group,) = plan_manifests([*small, manifest(0, 9, size_bytes=TARGET // 2)], TARGET)

    assert list(group.manifests) == small
    assert plan_manifests(small[1:], TARGET) == []


def test_a_manifest_of_more_than_twice_the_target_is_divided() -> None:
    (group,) = plan_manifests([manifest(size_bytes=2 * TARGET + 1), manifest(size_bytes=TARGET)], TARGET)

    assert [one.size_bytes for one in group.manifests] == [2 * TARGET + 1]
    assert group.count_after(TARGET) == 3


def test_kinds_and_partition_specs_are_counted_apart() -> None:
    half = [manifest(size_bytes=1)] * (MANY_SMALL // 2 + 1)
    others = [manifest(size_bytes=1, spec_id=1)] * (MANY_SMALL // 2 + 1)
    deletes = [manifest(size_bytes=1, kind="deletes")] * (MANY_SMALL + 1)

    (group,) = plan_manifests([*half, *others, *deletes], TARGET)

    assert group.kind == "deletes"


def test_overlap_is_measured_by_the_first_field_that_differs() -> None:
    same = ((1, 7), (1, 7))
    manifests = [ManifestFacts("", "data", 0, 1, 1, (same, ((1, low), (1, high)))) for low, high in ((0, 4), (4, 9), (2, 2))]

    assert mean_overlap(manifests) == 5 / 3  # the point lies inside the first
    assert mean_overlap([manifest()]) == 1
    assert mean_overlap([ManifestFacts("", "data", 0, 1, 1, ())] * 9) == 1
