"""How well a signal tells "unknown" and "wrong" from known and right: measures on plain arrays.

A signal is high where an image should be accepted (negate an entropy). Ties are exact: images with one value are
accepted together, and where a measure ranks images, they share their ranks evenly, so that no order of rows matters.
NaN signals raise ValueError; where no image stands behind a measure it is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from workbench.evaluation import tallies
from workbench.evaluation.results import share
from workbench.evaluation.tallies import Tally


def auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """P(signal of a known image > signal of an unknown one), ties counted half; 0.5 is chance, 1 apart.

    (n,) and (m,) signals. The area under the ROC curve, which is the same whichever side is called positive (Hanley and
    McNeil 1982); equals `sklearn.metrics.roc_auc_score`.
    """
    return float(tallies.auroc(_tally(known), _tally(unknown))[0])


def aupr(known: ArrayLike, unknown: ArrayLike) -> float:
    """Area under precision over recall, *unknown* positive, straight lines between the points, from (0, 1).

    For comparison with published OpenOOD-style tables alone: the lines promise what no threshold reaches (Davis and
    Goadrich 2006), and the figure moves with the share of unknown images.
    """
    low, high = _values(known), _values(unknown)
    if not len(low) or not len(high):
        return float("nan")
    points = np.unique(np.concatenate([low, high]))
    found = np.searchsorted(np.sort(high), points, "right")
    flagged = found + np.searchsorted(np.sort(low), points, "right")
    recall, precision = np.append(0, found / len(high)), np.append(1, found / flagged)
    return float(np.trapezoid(precision, recall))


def fpr_at_95_tpr(known: ArrayLike, unknown: ArrayLike) -> float:
    """Share of known images rejected by the mildest threshold that rejects at least 95 % of the unknown ones.

    *Unknown* is the positive class, as in OpenOOD (Yang et al. 2022, arXiv 2210.07242): the true positive rate counts
    unknown images, the false positive rate known ones. 0 is perfect.
    """
    return float(tallies.fpr_at_95_tpr(_tally(known), _tally(unknown))[0])


def oscr(known: ArrayLike, correct: ArrayLike, unknown: ArrayLike) -> float:
    """Open-set classification rate: P(a known image is named rightly and lies above an unknown one), ties half.

    known    (n,) signals
    correct  (n,) bool: the category told is the labelled one
    unknown  (m,) signals

    The area under correctly accepted known images over accepted unknown ones (Dhamija, Günther and Boult 2018, arXiv
    1811.04110) in closed form; at most the accuracy and at most the AUROC.
    """
    signal, right = _values(known), _flags(correct, "correct")
    _refuse_lengths(signal, right, "correct")
    return float(tallies.oscr(_tally(signal), _tally(signal[right]), _tally(unknown))[0])


def aurc(signal: ArrayLike, error: ArrayLike) -> float:
    """Mean over k of the share of errors among the k images with the highest signals.

    (n,) signals and (n,) bool. Area under the risk-coverage curve (Geifman and El-Yaniv 2017, arXiv 1705.08500); inside
    a block of ties the expected number of errors stands, averaged over every order.
    """
    values, errors = _pair(signal, error)
    return float(tallies.aurc([_tally(values)], [_tally(values[errors])])[0])


def aurc_trapezoid(signal: ArrayLike, error: ArrayLike) -> float:
    """The same area as fd-shifts takes it: trapezoids between the distinct signals, from the first point's risk on.

    For comparison with published figures (Jaeger et al. 2023, arXiv 2211.15259), which print it × 1,000.
    """
    accepted, errors = _risk_curve(signal, error)
    if not len(accepted):
        return float("nan")
    risk = errors / accepted
    return float(np.trapezoid(np.append(risk[0], risk), np.append(0, accepted) / accepted[-1]))


def e_aurc(signal: ArrayLike, error: ArrayLike) -> float:
    """`aurc_trapezoid` beyond that of a perfect ranking, err + (1 − err) ln(1 − err).

    Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206; the perfect area is its limit for many images, so that a few
    images ranked perfectly stay slightly off 0.
    """
    _, errors = _pair(signal, error)
    right = 1 - share(errors.sum(), np.asarray(len(errors)))
    return float(aurc_trapezoid(signal, error) - (1 - right + right * np.log(np.where(right > 0, right, 1))))


def augrc(signal: ArrayLike, error: ArrayLike) -> float:
    """Area under (share accepted, share of all images that are accepted errors); 0 is perfect, 0.5 all errors.

    (n,) signals and (n,) bool. The chance that an image drawn at random is an error and is accepted, averaged over
    every share accepted (Traub et al. 2024, arXiv 2407.01032, which prints it × 1,000). With acc the share without
    error and A the AUROC of right against wrong it is (1 − A) acc (1 − acc) + (1 − acc)² / 2.
    """
    values, errors = _pair(signal, error)
    return float(tallies.augrc([_tally(values)], [_tally(values[errors])])[0])


def e_augrc(signal: ArrayLike, error: ArrayLike) -> float:
    """`augrc` beyond that of a perfect ranking, (1 − acc)² / 2."""
    _, errors = _pair(signal, error)
    return augrc(signal, error) - float(share(errors.sum(), np.asarray(len(errors)))) ** 2 / 2


def _risk_curve(signal: ArrayLike, error: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Images and errors accepted at each distinct signal, from the highest down."""
    values, errors = _pair(signal, error)
    _, place = np.unique(-values, return_inverse=True)
    return np.cumsum(np.bincount(place)), np.cumsum(np.bincount(place, errors))


def _tally(signal: ArrayLike) -> Tally:
    values = _values(signal)
    return Tally(values, np.ones((1, len(values))))


def _pair(signal: ArrayLike, error: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    values, errors = _values(signal), _flags(error, "error")
    _refuse_lengths(values, errors, "error")
    return values, errors


def _values(signal: ArrayLike) -> np.ndarray:
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"a signal is one number per image, not an array of shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError("a signal is NaN: decide first what a MISSING score means")
    return values


def _flags(flags: ArrayLike, name: str) -> np.ndarray:
    found = np.asarray(flags)
    if found.dtype != np.bool_ and not np.isin(found, (0, 1)).all():
        raise ValueError(f"{name} must be true or false for each image")
    return found.astype(bool)


def _refuse_lengths(values: np.ndarray, flags: np.ndarray, name: str) -> None:
    if values.shape != flags.shape:
        raise ValueError(f"{values.shape} signals and {flags.shape} of {name!r}: there must be one for each image")
