"""The quality that is promised, measured on labelled sets; no label is used in training."""

from dataclasses import replace
from pathlib import Path

from mpi.evaluation import evaluate, read_labelled
from mpi.weights import default_weights, dump_weights, load_weights

# F1 of splink 5.0.0 with weights trained without labels, at probability 0.5
SPLINK = {"dataset1.csv": 1.0, "dataset2.csv": 0.9969, "dataset3.csv": 0.9982}


def test_febrl_is_matched_without_labels_at_least_as_well_as_by_splink(shared_data: Path) -> None:
    even = replace(default_weights(), link=0.0)  # probability 0.5
    for path in sorted((shared_data / "mpi" / "febrl").glob("dataset[123].csv")):
        result = evaluate(read_labelled(path), None, even, household_rules=False)
        assert round(result.pairs.f1, 4) >= SPLINK[path.name]


def test_chinese_records_are_matched_with_the_shipped_weights(shared_data: Path) -> None:
    for path in (shared_data / "mpi").glob("cn_patients_dev.csv.gz"):
        result = evaluate(read_labelled(path), default_weights(), default_weights())
        assert result.pairs.precision >= 0.995
        assert result.pairs.f1 >= 0.982
        assert result.persons.f1 >= 0.982


def test_weights_survive_being_written_down() -> None:
    text = dump_weights(default_weights())
    assert dump_weights(load_weights(text)) == text
