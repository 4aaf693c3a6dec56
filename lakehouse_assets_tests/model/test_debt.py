"""From which number on a debt starts something, and what it slows down."""

from lakehouse_assets.model.debt import MOST_SMALL_FILES, SLOWEST, Debt
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec

POLICY = MaintenanceSpec()


def test_a_table_without_debt_asks_for_nothing() -> None:
    debt = Debt(rows=10**9, data_files=5_000, small_files=5, snapshots=1_000, manifests=40)

    assert debt.due(POLICY) == ()
    assert (debt.over_hard_limit(POLICY), debt.slowdown(POLICY)) == ((), 1)


def test_each_kind_of_debt_asks_for_what_pays_it_in_the_order_in_which_that_helps() -> None:
    assert Debt(small_files=6).due(POLICY) == ("compact",)
    assert Debt(dead_percent=20.0).due(POLICY) == ("compact",)
    assert Debt(equality_deletes=1).due(POLICY) == ("compact",)
    assert Debt(expired_snapshots=100, untidy_manifests=30, small_files=9).due(POLICY) == ("compact", "rewrite_manifests", "expire")


def test_a_declaration_moves_the_limit_and_leaves_operations_out() -> None:
    debt = Debt(small_files=10, expired_snapshots=100)

    assert debt.due(MaintenanceSpec(small_files=11)) == ("expire",)
    assert debt.due(MaintenanceSpec(leave_out=("compact",))) == ("expire",)


def test_ingestion_is_slowed_down_from_the_hard_limit_on_and_never_without_bounds() -> None:
    assert Debt(small_files=MOST_SMALL_FILES - 1).slowdown(POLICY) == 1
    assert Debt(small_files=MOST_SMALL_FILES).slowdown(POLICY) == 2
    assert Debt(small_files=2 * MOST_SMALL_FILES - 1).slowdown(POLICY) == 2
    assert Debt(small_files=2 * MOST_SMALL_FILES).slowdown(POLICY) == 4
    assert Debt(small_files=100 * MOST_SMALL_FILES).slowdown(POLICY) == SLOWEST


def test_what_exceeds_its_limit_is_said_in_a_sentence() -> None:
    debt = Debt(small_files=500, waiting_files=12_000, expired_snapshots=120)

    assert [str(one) for one in debt.measures(POLICY) if one.is_due or one.is_late] == [
        "500 small files in one partition; compact is due from 6 on, ingestion commits less often from 500 on",
        "12,000 small files in all partitions; ingestion commits less often from 10,000 on",
        "120 snapshots that may go; expire is due from 100 on",
    ]
    assert [one.name for one in debt.over_hard_limit(POLICY)] == ["small_files", "waiting_files"]


def test_limits_stay_in_order_whatever_the_declaration_says() -> None:
    for small_files in (2, 6, 1_000, 100_000):
        for one in Debt().measures(MaintenanceSpec(small_files=small_files)):
            limits = [limit for limit in (one.soft, one.late, one.hard) if limit is not None]
            assert limits == sorted(limits), one.name


def test_the_hottest_table_is_the_one_farthest_beyond_its_own_limits() -> None:
    assert Debt(small_files=60).heat(POLICY) > Debt(small_files=60).heat(MaintenanceSpec(small_files=20)) > Debt().heat(POLICY)


def test_figures_have_each_value_beside_its_limits() -> None:
    figures = Debt(small_files=7, data_files=9).figures(POLICY)

    assert (figures["small_files"], figures["small_files_limit"], figures["small_files_hard_limit"]) == (7, 6, 500)
    assert (figures["waiting_files"], figures["waiting_files_late_limit"]) == (0, 5_000)
    assert figures["data_files"] == 9
