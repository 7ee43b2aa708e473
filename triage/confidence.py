"""A probability for each decided field that can be believed: a temperature and a floor a field, fitted on the calibration split.

`eval.calibrate` fits them, a release's manifest holds them, an engine applies them. A temperature never changes which label is the
likeliest (Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from triage.taxonomy import FieldName

LOW_CONFIDENCE = "low_confidence:"
"""How a flag begins that says which field's probability is under its floor."""


class FieldCalibration(BaseModel):
    """What was fitted for one decided field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(gt=0)]
    """Divides the logarithms of the labels' probabilities; above 1 where the model is too sure."""
    floor: Annotated[float, Field(ge=0, le=1)]
    """A label whose calibrated probability is below it sends the ticket to a person; 0 for none, 1 for every one."""


class Calibration(BaseModel):
    """The calibration of a release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: dict[FieldName, FieldCalibration]
    dataset: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the tickets it was fitted on."""
    tickets: Annotated[int, Field(ge=1)]

    def probability(self, name: str, shares: NDArray[np.float64], place: int) -> float:
        """The calibrated probability of one label, given those of all labels, shape (labels,)."""
        entry = next((fitted for known, fitted in self.fields.items() if known == name), None)
        return float((temper(shares, entry.temperature) if entry else shares)[place])

    def flags(self, probabilities: dict[str, float]) -> tuple[str, ...]:
        """`low_confidence:FIELD` for each field whose probability is under its floor; under a floor of 1 every one is."""
        low = (name for name, entry in self.fields.items() if entry.floor >= 1 or probabilities.get(name, 1.0) < entry.floor)
        return tuple(f"{LOW_CONFIDENCE}{name}" for name in low)


def temper(shares: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities, shape (…, labels), with their logarithms divided by a temperature."""
    logits = np.log(np.maximum(shares, 1e-12)) / temperature
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return found
