"""The quality that is promised, measured on labelled sets; no label is used in training."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from mpi.csv_records import read_labelled
from mpi.demographics import Demographics
from mpi.evaluation import evaluate, train_on
from mpi.features import Features, features_of
from mpi.rules import Verdict
from mpi.scoring import Decision, Scorer, decide
from mpi.weights import default_weights, dump_weights, load_weights

# F1 of splink 5.0.0 with weights trained without labels, at probability 0.5
SPLINK = {"dataset1.csv": 1.0, "dataset2.csv": 0.9969, "dataset3.csv": 0.9982}


def test_febrl_is_matched_without_labels_at_least_as_well_as_by_splink(shared_data: Path) -> None:
    for path in sorted((shared_data / "mpi" / "febrl").glob("dataset[123].csv")):
        records = read_labelled(path)
        learnt = train_on([[features_of(record.said) for record in records]], default_weights(), "learnt")
        assert round(evaluate(records, learnt).pairs.f1, 4) >= SPLINK[path.name]
        assert evaluate(records, default_weights()).pairs.f1 >= 0.997


def test_chinese_records_are_matched_with_the_shipped_weights(shared_data: Path) -> None:
    for path in (shared_data / "mpi").glob("cn_patients_dev.csv.gz"):
        result = evaluate(read_labelled(path), default_weights())
        assert result.pairs.precision >= 0.995
        assert result.pairs.f1 >= 0.985
        assert result.persons.f1 >= 0.985


def family(*, is_large: bool) -> list[Features]:
    """A register with the same person twice at each address, and there with a child or alone."""
    found = []
    for at in range(300):
        said = Demographics(
            "A", str(at), "A", f"Smith^{'abcdefghij'[at % 10]}nna{'klmnopqrst'[at // 10 % 10]}e",
            date(1950 + at % 40, 1 + at % 12, 1 + at % 28), address=f"{at} station street perth 2000 wa",
        )  # fmt: skip
        found += [said, replace(said, issuer="B")]
        if is_large:
            found.append(replace(said, name="Smith^Oliver", birth_date=date(2010, 1 + at % 12, 1 + at % 28)))
    return [features_of(said) for said in found]


@pytest.mark.parametrize("is_large", [True, False])
def test_whether_families_share_addresses_is_learnt_of_a_register(is_large: bool) -> None:
    chinese, western = train_on([family(is_large=is_large)], default_weights(), "learnt").populations
    assert western.households is is_large
    assert chinese == default_weights().populations[0]


def test_twins_are_held_where_there_are_households() -> None:
    home = {"birth_date": date(1980, 5, 5), "address": "12 main street perth 2000 wa"}
    one, other = (
        features_of(Demographics("A", name, "A", name, **home))  # type: ignore[arg-type]
        for name in ("Smith^John", "Smith^Oliver")
    )
    shipped = default_weights()
    scored = Scorer(shipped).score(one, other)
    assert (scored.verdict, decide(scored, shipped)) == (Verdict.REVIEW, Decision.REVIEW)
    alone = replace(shipped.populations[1], households=False)
    assert Scorer(replace(shipped, populations=(shipped.populations[0], alone))).score(one, other).rule == ""


def test_weights_survive_being_written_down() -> None:
    text = dump_weights(default_weights())
    assert dump_weights(load_weights(text)) == text
