"""Fit a release's calibration on the calibration split and write it into its manifest: a temperature and a floor for each field.

A temperature minimises the negative log-likelihood of the true labels, each field after the engine's own labels before it, as
in service. A floor is the lowest multiple of `STEP` at which no larger share than `RISKS` of the tickets that the release would leave
without a person has a wrong label in that field; floors are fitted one after the other, on what the ones before leave. Urgency
has none: it does not decide whether a person sees a ticket.

What is fitted here has to be checked on other tickets: `triage score` does, with the split's authors resampled.

    python -m eval.calibrate --release FOLDER [--tickets data/tickets/calibration.jsonl]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from triage.confidence import Calibration, FieldCalibration, temper
from triage.dataset import Example, dataset_digest, load_examples
from triage.engines.embedded import EmbeddedEngine
from triage.errors import ReleaseError, TriageError
from triage.prompt import build_prompt
from triage.release import load_release, write_manifest
from triage.taxonomy import LABEL_FIELDS, FieldName, Taxonomy, load_taxonomy

RISKS: dict[FieldName, float] = {"needs_human": 0.05, "category": 0.1, "next_action": 0.1}
"""How often a ticket that goes without a person may be wrong: a missed hand-over costs more than a wrong queue."""
STEP = 0.05
COLDEST, HOTTEST = 0.2, 10.0
Floats = NDArray[np.float64]


def fit_temperature(shares: Floats, wanted: NDArray[np.int64]) -> float:
    """The temperature, between `COLDEST` and `HOTTEST`, under which the true labels are likeliest.

    `shares` are probabilities of shape (tickets, labels), `wanted` the places of the true labels.
    """

    def loss(logarithm: float) -> float:
        return -float(np.log(temper(shares, float(np.exp(logarithm)))[np.arange(len(wanted)), wanted]).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return round(float(np.exp(found.x)), 3)


def fit_floor(probabilities: Floats, wrong: NDArray[np.bool_], risk: float) -> float:
    """The lowest multiple of `STEP` from which up at most a share of `risk` of the tickets is wrong; 1 if there is none, or no ticket to tell."""
    for step in range(round(1 / STEP)):
        floor = round(step * STEP, 2)
        kept = probabilities >= floor
        if kept.any() and wrong[kept].mean() <= risk:
            return floor
    return 1.0


def fit(engine: EmbeddedEngine, examples: Sequence[Example], taxonomy: Taxonomy, *, digest: str) -> Calibration:
    """The calibration of an engine on some tickets."""
    kind, budget = engine.prompt_kind, engine.text_budget
    prompts = [build_prompt(example, taxonomy, kind=kind, text_budget=budget, count_tokens=engine.count_tokens) for example in examples]
    found = engine.shares(prompts)
    temperatures, chosen, probabilities, wrong = dict[str, float](), dict[str, list[str]](), dict[str, Floats](), dict[str, NDArray[np.bool_]]()
    for name in LABEL_FIELDS:
        labels = taxonomy.labels(name)
        shares = np.array([[row[name][label] for label in labels] for row in found])
        wanted = np.array([labels.index(example.labels.label(name)) for example in examples])
        temperatures[name] = fit_temperature(shares, wanted)
        best = shares.argmax(axis=1)
        chosen[name], wrong[name] = [labels[place] for place in best], best != wanted
        probabilities[name] = temper(shares, temperatures[name]).max(axis=1)
    always = set(taxonomy.policy.always_human)
    alone = np.array(
        [person == "false" and category not in always for person, category in zip(chosen["needs_human"], chosen["category"], strict=True)]
    )
    floors = dict[str, float]()
    for name, risk in RISKS.items():
        floors[name] = fit_floor(probabilities[name][alone], wrong[name][alone], risk)
        alone &= probabilities[name] >= floors[name]
    return Calibration(
        fields={name: FieldCalibration(temperature=temperatures[name], floor=floors.get(name, 0.0)) for name in LABEL_FIELDS},
        dataset=digest,
        tickets=len(examples),
    )


def calibrate(folder: Path, tickets: Path, taxonomy: Taxonomy) -> Calibration:
    """Fit the calibration of the bundle in `folder` and seal it with it.

    Raises:
        ReleaseError: it is no release of this taxonomy, or is calibrated already: then its digest may be known elsewhere.
        DatasetError: the tickets cannot be read.
    """
    release = load_release(folder, taxonomy)
    if release.manifest.calibration is not None:
        raise ReleaseError(f"the release {release.manifest.name} is calibrated already", "assemble it again under a new name")
    found = fit(EmbeddedEngine(release, taxonomy), load_examples([tickets], taxonomy), taxonomy, digest=dataset_digest([tickets]))
    fields = release.manifest.model_dump(exclude={"files", "seal"}, exclude_none=True)
    write_manifest(folder, {**fields, "calibration": found.model_dump()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--release", type=Path, required=True, help="the folder of the bundle; its manifest is written anew")
    parser.add_argument("--tickets", type=Path, default=Path("data/tickets/calibration.jsonl"))
    parser.add_argument("--taxonomy", type=Path)
    arguments = parser.parse_args()
    try:
        found = calibrate(arguments.release, arguments.tickets, load_taxonomy(arguments.taxonomy))
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
    for name, entry in found.fields.items():
        print(f"{name}: temperature {entry.temperature}, floor {entry.floor}")
    print(f"{arguments.release}: calibrated on {found.tickets} tickets")


if __name__ == "__main__":
    main()
