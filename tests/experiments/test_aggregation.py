"""The one scan against the obvious twin: numpy on the rows of each cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mangaassist.core.errors import InputError
from mangaassist.experiments import aggregation
from mangaassist.experiments.aggregation import aggregate
from mangaassist.experiments.plan import Columns, Kind, Metric, Transform
from mangaassist.experiments.unit_table import scan
from mangaassist.stats.effects import Metric as Form
from mangaassist.stats.effects import Term, compare
from mangaassist.stats.moments import of_rows

COLUMNS = Columns()
MONEY = Metric("money", Kind.MEAN, "yen", covariates=("yen_before",))
RATE = Metric("rate", Kind.RATIO, "useful", denominator="turns")
# Sums of 1e12-sized yen about a pivot: nine digits survive, seven are asked for.
DIGITS = 1e-7


def units(n: int = 4000, seed: int = 3) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    before = generator.normal(1e6, 300, n)
    return pl.DataFrame(
        {
            "user_id": [f"u{index}" for index in range(n)],
            "arm": generator.choice(["control", "treatment"], n),
            "locale": generator.choice(["en", "ja"], n),
            "yen": before + generator.normal(0, 100, n),
            "yen_before": before,
            "useful": generator.poisson(2, n),
            "turns": generator.poisson(5, n) + 1,
        }
    )


def test_every_cell_and_every_union_matches_numpy_on_the_rows() -> None:
    """EXP-4: sufficient statistics of one scan are those of the rows, also for large values."""
    frame = units()
    table = aggregate(frame.lazy(), [MONEY, RATE], columns=COLUMNS, dimensions=["locale"])
    for wanted in ({"arm": "control"}, {"arm": "treatment", "locale": "ja"}, {}):
        rows = frame.filter(**wanted) if wanted else frame
        for metric in (MONEY, RATE):
            found = table.blocks[metric.name].moments(table.where(**wanted))
            twin = of_rows(rows.select(metric.columns).to_numpy())
            assert found is not None
            assert found.n == twin.n
            assert found.mean == pytest.approx(twin.mean, rel=1e-12)
            assert found.scatter == pytest.approx(twin.scatter, rel=DIGITS)
    assert table.counts("locale") == dict(frame.group_by("locale").len().iter_rows())


def test_missing_values_leave_their_own_metric_only() -> None:
    """EXP-4: a user without an outcome is out of that metric; one without a past keeps the pivot."""
    frame = units().with_columns(
        yen=pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise("yen"),
        yen_before=pl.when(pl.int_range(pl.len()) % 7 == 0).then(float("nan")).otherwise("yen_before"),
    )
    table = aggregate(frame.lazy(), [MONEY, RATE], columns=COLUMNS)
    everything = table.where()
    money, rate = (table.blocks[name].moments(everything) for name in ("money", "rate"))
    assert money is not None
    assert rate is not None
    assert (money.n, rate.n) == (3600, 4000)
    kept = frame.filter(pl.col("yen").is_not_null())
    assert money.mean[0] == pytest.approx(float(kept["yen"].mean()), rel=1e-12)
    assert np.isfinite(money.scatter).all()


def test_metrics_that_share_columns_share_sums_and_not_meanings() -> None:
    """EXP-4: one column as outcome here, covariate there, and twice in a ratio's company."""
    frame = units()
    metrics = [
        Metric("a", Kind.MEAN, "yen"),
        Metric("b", Kind.MEAN, "useful", covariates=("yen", "yen_before/turns")),
        Metric("c", Kind.RATIO, "useful", denominator="turns", covariates=("yen_before",)),
    ]
    for rows in (frame, frame.with_columns(turns=pl.when(pl.col("turns") > 1).then("turns"))):
        table = aggregate(rows.lazy(), metrics, columns=COLUMNS)
        for metric in metrics:
            own = [metric.column, *([metric.denominator] if metric.denominator else [])]
            kept = rows.drop_nulls(own).select(pl.col(metric.columns).cast(pl.Float64))
            if metric.name == "b" and rows is not frame:
                continue  # its covariate is filled with the pivot: tested below
            twin = of_rows(kept.to_numpy())
            found = table.blocks[metric.name].moments(table.where())
            assert found is not None
            assert found.scatter == pytest.approx(twin.scatter, rel=DIGITS, abs=1e-3)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf")])
def test_an_infinite_value_is_refused_by_column(bad: float) -> None:
    frame = units().with_columns(yen=pl.when(pl.col("user_id") == "u7").then(bad).otherwise("yen"))
    with pytest.raises(InputError, match=r"column 'yen'.*infinite"):
        aggregate(frame.lazy(), [MONEY], columns=COLUMNS)


def test_units_in_both_arms_duplicates_and_nobody_are_counted() -> None:
    """Bad input: users in both arms, duplicated events, missing units."""
    frame = units(100)
    swapped = (
        frame.head(3).with_columns(arm=pl.lit("control")),
        frame.head(3).with_columns(arm=pl.lit("treatment")),
    )
    rows = pl.concat(
        [*swapped, frame.tail(97), frame.tail(2), frame.tail(4).with_columns(user_id=pl.lit(None))]
    )
    check = aggregate(rows.lazy(), [RATE], columns=COLUMNS).units
    assert (check.nobody, check.repeated, check.both_arms, check.example) == (4, 5, 3, "u0")


def test_clusters_are_added_up_and_their_variance_counted() -> None:
    """EXP-4: clustered units; turns of one user are not independent."""
    generator = np.random.default_rng(5)
    users, turns = 400, 12
    user = np.repeat(np.arange(users), turns)
    mood = np.repeat(generator.normal(0, 1, users), turns)
    frame = pl.DataFrame(
        {
            "turn": np.arange(users * turns).astype(str),
            "user_id": user.astype(str),
            "arm": np.where(user % 2, "treatment", "control"),
            "useful": mood + generator.normal(0, 1, users * turns),
        }
    )
    metric = Metric("useful", Kind.MEAN, "useful")
    errors = []
    for columns in (Columns(unit="turn", cluster="user_id"), Columns(unit="turn")):
        table = aggregate(frame.lazy(), [metric], columns=columns)
        arms = [table.blocks["useful"].moments(table.where(arm=arm)) for arm in ("treatment", "control")]
        term = Term(0, 1) if columns.cluster else Term(0)
        assert arms[0] is not None
        assert arms[1] is not None
        errors.append(compare(arms[0], arms[1], Form(term)).standard_error)
    assert errors[0] / errors[1] == pytest.approx(np.sqrt((turns + 1) / 2), rel=0.1)


def test_transforms_happen_before_the_sums() -> None:
    """EXP-4: winsorised, log and rank forms."""
    frame = units()
    kinds = {
        Transform.LOG: np.log1p(frame["yen"].to_numpy()),
        Transform.WINSORISE: np.minimum(frame["yen"].to_numpy(), 1e6),
        Transform.RANK: frame["yen"].rank("average").to_numpy() / len(frame),
    }
    for transform, twin in kinds.items():
        metric = Metric("m", Kind.MEAN, "yen", transform=transform, cap=1e6)
        table = aggregate(frame.lazy(), [metric], columns=COLUMNS)
        found = table.blocks["m"].moments(table.where())
        assert found is not None
        assert found.mean[0] == pytest.approx(twin.mean(), rel=1e-9)
        assert found.covariance[0, 0] == pytest.approx(twin.var(ddof=1), rel=DIGITS)


def test_a_partitioned_folder_reads_like_one_file(tmp_path: Path) -> None:
    """EXP-4: hive partitions, as a warehouse writes them."""
    frame = units(600)
    for arm, rows in frame.group_by("arm"):
        folder = tmp_path / "table" / f"arm={arm[0]}"
        folder.mkdir(parents=True)
        rows.drop("arm").write_parquet(folder / "part.parquet")
    frame.write_parquet(tmp_path / "one.parquet")
    tables = [aggregate(scan(tmp_path / name), [MONEY], columns=COLUMNS) for name in ("table", "one.parquet")]
    for found, twin in zip(*(table.blocks["money"].products for table in tables), strict=True):
        assert found == pytest.approx(twin, rel=1e-6, abs=1e3)
    assert tables[0].counts("arm") == tables[1].counts("arm")


def test_a_large_table_checks_a_share_of_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "UNITS_CHECKED_EXACTLY", 1000)
    frame = units(4000)
    check = aggregate(pl.concat([frame, frame]).lazy(), [RATE], columns=COLUMNS).units
    assert check.one_in == 8
    assert 500 < check.checked < 1500
    assert check.repeated > 0


def test_unreadable_data_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match="cannot read"):
        scan(tmp_path / "broken.parquet")
    with pytest.raises(InputError, match="nothing there"):
        scan(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match=r"Did you mean 'useful'\?"):
        aggregate(units(10).lazy(), [Metric("m", Kind.MEAN, "usefull")], columns=COLUMNS)
