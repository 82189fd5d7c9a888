"""How well scores tell probabilities on certify, raw and as fitted on tune: part of the evidence, and no promise."""

from __future__ import annotations

import numpy as np

from workbench.evaluation.calibration import fit_calibrator
from workbench.evaluation.calibration_error import (
    binned_error,
    brier_score,
    log_loss,
    null_errors,
    smooth_error,
)
from workbench.evaluation.labelled import Labelled
from workbench.records import Calibration

_DIGITS = 4
"""So that another machine, whose optimiser ends in other last digits, writes the same."""
_LEAST = 20
"""Images, below which nothing is fitted or measured."""


def describe_calibration(tune: Labelled, certify: Labelled) -> tuple[Calibration, ...]:
    """The raw scores and those of the calibrator that suits the size of tune; empty where either split is too small."""
    fitting, measured = tune.rows(tune.usable), certify.rows(certify.usable)
    if min(len(fitting), len(measured)) < _LEAST or not fitting.truth.any() or not measured.truth.any():
        return ()
    calibrator = fit_calibrator(fitting)
    raw = np.where(np.isneginf(measured.scores), 0.0, measured.scores).astype(np.float64)
    return (
        _describe("raw", measured, raw),
        _describe(calibrator.method, measured, calibrator.apply(measured.scores)),
    )


def _describe(method: str, rows: Labelled, probabilities: np.ndarray) -> Calibration:
    if rows.taxonomy.mode == "single-label":
        top, place = rows.scores.argmax(axis=1), np.arange(len(rows))
        told, right = probabilities[place, top], rows.truth[place, top]
    else:
        told, right = probabilities.ravel(), rows.truth.ravel()
    order = np.lexsort((right, told))  # so that neither sums nor drawn labels depend on the order of the rows
    told, right = told[order], right[order]
    null = null_errors(told, resamples=50)
    figures = (
        brier_score(told, right),
        log_loss(told, right),
        binned_error(told, right),
        null.ece.mean,
        smooth_error(told, right),
        null.smece.mean,
    )
    return Calibration(method, len(rows), *(round(float(figure), _DIGITS) for figure in figures))
