"""How well splink finds the records of one person, beside `cloudfilm mpi evaluate`.

    uv pip install splink==5.0.0      # in an environment of its own: cloudfilm does not need it
    python -m benchmarks.mpi_splink dataset1.csv cn_patients_dev.csv.gz

splink gets the same fields, made ready by the same code (placeholders gone, pinyin beside characters, numbers
checked) and the same candidate pairs, and is trained without labels in its own way. Shown are its pairs at
probability 0.5, and at the threshold that is best when the labels are known.
"""

import argparse
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import splink.comparison_library as compare
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

from mpi.blocking import MOST_IN_BLOCK, block_keys
from mpi.csv_records import Labelled, read_labelled
from mpi.evaluation import Quality
from mpi.features import Features, features_of


def row_of(at: int, record: Labelled, features: Features, keys: list[str]) -> dict[str, Any]:
    """One record as splink takes it; None where nothing is known."""
    name, born = features.name, features.birth_date
    parts = (name.syllables or name.words) if name else ()
    row = {
        "unique_id": at,
        "person": record.person,
        "characters": name.han if name else "",
        "name": name.letters if name else "",
        "family": parts[0] if parts else "",
        "given": "".join(parts[1:]),
        "birth_date": born.isoformat() if born else "",
        "sex": features.sex,
        "identity": features.identity.number if features.identity else "",
        "insurance": features.insurance,
        "phone": features.phones[0] if features.phones else "",
        "address": " ".join(sorted(features.address.split())),
        "postcode": features.postcode,
    }
    return {key: value if value != "" else None for key, value in row.items()} | {"keys": keys}


def narrow_keys(features: list[Features]) -> list[list[str]]:
    """The block keys of each record, but for those that too many share."""
    keys = [block_keys(each) for each in features]
    bearers = Counter(key for own in keys for key in own)
    return [[key for key in own if 1 < bearers[key] <= MOST_IN_BLOCK] for own in keys]


def settings_of(there: set[str]) -> SettingsCreator:
    """Comparisons of the fields that the set has."""
    comparisons = {
        "characters": compare.LevenshteinAtThresholds("characters", [1]),
        "family": compare.ForenameSurnameComparison("given", "family"),
        "birth_date": compare.DateOfBirthComparison("birth_date", input_is_string=True),
        "sex": compare.ExactMatch("sex"),
        "identity": compare.DamerauLevenshteinAtThresholds("identity", [1, 2]),
        "insurance": compare.DamerauLevenshteinAtThresholds("insurance", [1]),
        "phone": compare.DamerauLevenshteinAtThresholds("phone", [1]),
        "address": compare.JaroWinklerAtThresholds("address", [0.95, 0.85]),
        "postcode": compare.DamerauLevenshteinAtThresholds("postcode", [1]),
    }
    return SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="unique_id",
        comparisons=[each for field, each in comparisons.items() if field in there],
        blocking_rules_to_generate_predictions=[block_on("keys", arrays_to_explode=["keys"])],
        additional_columns_to_retain=["person"],
    )


def train(linker: Linker, there: set[str]) -> None:
    """As splink's own examples do it."""
    sure = [block_on(*keys) for keys in (("identity",), ("insurance",), ("name", "birth_date")) if
            set(keys) <= there]  # fmt: skip
    linker.training.estimate_probability_two_random_records_match(sure, recall=0.8)
    linker.training.estimate_u_using_random_sampling(max_pairs=2e6)
    for keys in (("birth_date",), ("name",), ("address",)):
        if set(keys) <= there:
            linker.training.estimate_parameters_using_expectation_maximisation(block_on(*keys))


def main() -> None:
    """Train, score, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    logging.getLogger("splink").setLevel(logging.ERROR)
    for path in parser.parse_args().files:
        records = read_labelled(path)
        features = [features_of(record.said) for record in records]
        rows = [
            row_of(at, *of)
            for at, of in enumerate(zip(records, features, narrow_keys(features), strict=True))
        ]
        there = {key for key in rows[0] if any(row[key] is not None for row in rows)}
        table = pyarrow.Table.from_pylist([{key: row[key] for key in there | {"person"}} for row in rows])
        start = time.perf_counter()
        linker = Linker(DuckDBAPI().register(table), settings_of(there), log_level=logging.ERROR)
        train(linker, there)
        found = linker.inference.predict(threshold_match_weight=-12)
        scored = [
            (float(each["match_weight"]), each["person_l"] == each["person_r"])
            for each in found.as_record_list()
        ]
        seconds = time.perf_counter() - start
        people = Counter(record.person for record in records)
        report(path.name, scored, sum(count * (count - 1) // 2 for count in people.values()), seconds)


def report(name: str, scored: list[tuple[float, bool]], true_pairs: int, seconds: float) -> None:
    """One line for the even threshold and one for the best."""
    scored.sort(key=lambda each: -each[0])
    right, best = 0, (0.0, Quality(true_pairs, 0, 0))
    even = Quality(true_pairs, 0, 0)
    for at, (weight, is_right) in enumerate(scored, 1):
        right += is_right
        quality = Quality(true_pairs, at, right)
        if weight >= 0:
            even = quality
        if quality.f1 > best[1].f1:
            best = (weight, quality)
    print(f"{name}: {seconds:.0f} s")
    for label, quality in (("p >= 0.5", even), (f"best, weight {best[0]:.1f}", best[1])):
        print(f"  {label}: P {quality.precision:.4f} R {quality.recall:.4f} F1 {quality.f1:.4f}")


if __name__ == "__main__":
    main()
