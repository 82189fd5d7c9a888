"""`local-trained`: a logistic regression on the features of an ImageNet network, learnt from the *train* split.

Learning uses scikit-learn; answering does not: the head is a matrix in an `.npz` file (no pickle), and its scores are
computed here in float64, so that answers do not change with the version of scikit-learn.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from workbench.approaches.base import Answer, Options, Setting, read_options
from workbench.canonical import binary32, canonical_json, digest
from workbench.dataset.images import Dataset, truth_matrix
from workbench.documents import Text, from_document, parse_json, to_document
from workbench.errors import ConfigError, DatasetError, PrerequisiteError, ProviderError
from workbench.features.converter import FEATURES, PREPARATION, extractor_version
from workbench.features.session import FeatureExtractor
from workbench.prepare.decode import Prepared, Unprepared, prepare_bytes, read_image_file
from workbench.records import Count, Digest, Mode, Name, Taxonomy

_NAME = "local-trained"
_TRAIN = f"run `workbench train DATASET --approach {_NAME}`"

_LEAST_IMAGES = 2
_ADVISED_IMAGES = 50
_REGULARISATION = (0.001, 0.003, 0.01, 0.03, 0.1)
"""What is tried, strongest first: scikit-learn's C, on standardised features."""
_USUAL_REGULARISATION = 0.01
"""Where the groups do not allow cross-validation."""
_TRIAL_TOLERANCE, _FINAL_TOLERANCE = 1e-4, 1e-6
"""Where the solver stops: soon while it tries; for the head itself where going on would move no score by 0.001."""
_FOLDS = 3
_SEED = 0
_METHOD = {
    "trainer": 1,  # counted up whenever the same images could give another head
    "regularisation": list(_REGULARISATION),
    "tolerance": [_TRIAL_TOLERANCE, _FINAL_TOLERANCE],
    "folds": _FOLDS,
    "seed": _SEED,
}
_THREADS = 2


@dataclass(frozen=True)
class Training:
    """How a head came to be; travels in the artefact as JSON."""

    schema_version: Annotated[str, Text(r"^1\.(0|[1-9][0-9]*)$")]
    approach: Name
    taxonomy: Taxonomy
    extractor: Name
    preparation: Name
    train: Digest
    """Of the training images: content, labels and groups."""
    images: Count
    """How many it was learnt from."""
    by_category: Mapping[str, Count]
    left_out: Mapping[str, Count]
    """Training images it was not learnt from: `unlabelled`, `unknown` (single-label), or a preparation outcome."""
    regularisation: float
    """scikit-learn's C."""
    folds: Count
    """Of the cross-validation that chose it; 0 where the groups did not allow one."""
    losses: Mapping[str, float]
    """By C: log loss (nats) in cross-validation."""
    seed: Count
    scikit_learn: str


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer on standardised features, in float64."""

    mean: np.ndarray
    """(1280,)"""
    scale: np.ndarray
    """(1280,), positive."""
    weights: np.ndarray
    """(K, 1280), in taxonomy order."""
    intercept: np.ndarray
    """(K,)"""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(K,) float64 from (1280,). A sum in fixed order, so that it does not depend on a linear algebra library."""
        return np.asarray((self.weights * ((features - self.mean) / self.scale)).sum(axis=1) + self.intercept)


class LocalTrained:
    """Single-label: a softmax over the known categories (complete). Multi-label: a sigmoid for each (not complete)."""

    name = _NAME
    scores_unknown = False
    floors: Mapping[str, float] = MappingProxyType({})
    parallel = _THREADS

    def __init__(self, setting: Setting, model: Path) -> None:
        self._head, training, content = read_artefact(model)
        self._extractor = FeatureExtractor(setting.store)
        _check_origin(training, setting.taxonomy, self._extractor.version, model)
        self.taxonomy = setting.taxonomy
        self.complete = setting.taxonomy.mode == "single-label"
        self.preparation = self._extractor.preparation
        self.model_version = f"{_NAME}-{content[:12]}"
        self.fingerprint = digest(
            {
                "approach": _NAME,
                "artefact": content,
                "preparation": self.preparation.id,
                "taxonomy": setting.taxonomy.digest,
            }
        )

    @classmethod
    def build(cls, setting: Setting) -> LocalTrained:
        """Raises PrerequisiteError where there is no model for this taxonomy, ConfigError where its file is damaged."""
        read_options(Options, _NAME, setting)
        if setting.model is None or not setting.model.exists():
            where = f" (there is no {setting.model.name})" if setting.model else ""
            raise PrerequisiteError(
                f"{_NAME} has not been trained on this data set{where}: {_TRAIN}; "
                "for new images without labels, give --model FILE of a trained head and --config workbench.toml"
            )
        return cls(setting, setting.model)

    @classmethod
    def artefact(cls, dataset: Dataset, setting: Setting) -> Path:
        """A path that names taxonomy, training images (by content), network and method. Reads the training images."""
        return _artefact_path(setting, _digest_of(_train_images(dataset)))

    @classmethod
    def fit(cls, dataset: Dataset, setting: Setting, progress: bool = False) -> Path:
        """Learn from the *train* split and store the head; the same images give the same head.

        Images that cannot be prepared are left out and counted; so are unlabelled ones and, in single-label mode,
        unknown ones (in multi-label mode they are negatives of every category). Warns below 50 images of a category.
        Raises DatasetError below 2, and where a category is on every image.
        """
        from threadpoolctl import threadpool_limits

        if dataset.taxonomy.digest != setting.taxonomy.digest:
            raise DatasetError(f"{dataset.name}: the data set has another taxonomy than the settings")
        images = _train_images(dataset)
        examples = _collect(images, dataset, FeatureExtractor(setting.store), progress)
        # on one thread: more would change the last bits, and on busy cores they spin for longer than they work
        with threadpool_limits(1):
            choice = _choose_regularisation(examples, setting.taxonomy.mode, progress)
            strength = choice.regularisation
            head = _learn(examples.features, examples.truth, setting.taxonomy.mode, strength, _FINAL_TOLERANCE)
        train = _digest_of(images)
        path = _artefact_path(setting, train)
        write_artefact(path, head, _describe(train, setting.taxonomy, examples, choice))
        return path

    def request(self, prepared: Prepared) -> Prepared:
        """The pixels themselves."""
        return prepared

    def ask(self, request: Prepared) -> Answer:
        """The head's logits, by category."""
        logits = self._head.logits(self._extractor.features(request).astype(np.float64))
        return Answer({"logits": dict(zip(self.taxonomy.categories, logits.tolist(), strict=True))}, self.model_version)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """Softmax or sigmoid of the logits. Raises ProviderError for an answer of another form."""
        try:
            logits = np.array([float(raw["logits"][category]) for category in self.taxonomy.categories])
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError("malformed_answer", f"no logit of a category: {error}") from None
        if not np.isfinite(logits).all():
            raise ProviderError("malformed_answer", "a logit that is not finite")
        scores = _probabilities(logits, self.taxonomy.mode).tolist()
        return {category: binary32(score) for category, score in zip(self.taxonomy.categories, scores, strict=True)}


def _probabilities(logits: np.ndarray, mode: Mode) -> np.ndarray:
    if mode == "multi-label":
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


# ---------------------------------------------------------------- the artefact


def write_artefact(path: Path, head: Head, training: Training) -> None:
    """Store head and training as `.npz`, whole or not at all."""
    arrays = _arrays(head, canonical_json(to_document(training)))
    file = BytesIO()
    arrays["content"] = np.frombuffer(bytes.fromhex(_content(arrays)), np.uint8)
    np.savez(file, allow_pickle=False, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(file.getvalue())
    part.replace(path)


def read_artefact(path: Path) -> tuple[Head, Training, str]:
    """Head, training, and the digest of both. Raises ConfigError if the file is damaged or no such artefact."""
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        content = arrays.pop("content").tobytes().hex()
        if content != _content(arrays):
            raise ValueError("its content does not match its digest")
        text = arrays.pop("training").tobytes().decode("utf-8")
        training = from_document(Training, parse_json(text))
        head = Head(**arrays)
        _check_shapes(head, len(training.taxonomy.categories))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path}: not a sound {_NAME} model: {error}; delete it and {_TRAIN}") from error
    return head, training, content


def _arrays(head: Head, training: bytes) -> dict[str, np.ndarray]:
    numbers = {name: np.ascontiguousarray(value, "<f8") for name, value in vars(head).items()}
    return {"training": np.frombuffer(training, np.uint8), **numbers}


def _content(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256, in hex, over the arrays: not over the file, in which zip keeps the time of writing."""
    lines = [
        [name, array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in sorted(arrays.items())
    ]
    return digest(lines)


def _check_shapes(head: Head, categories: int) -> None:
    wanted = {"mean": (FEATURES,), "scale": (FEATURES,), "weights": (categories, FEATURES), "intercept": (categories,)}
    for name, shape in wanted.items():
        array = getattr(head, name)
        if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"{name} is not {shape} finite numbers")
    if not (head.scale > 0).all():
        raise ValueError("a scale is not positive")


def _check_origin(training: Training, taxonomy: Taxonomy, extractor: str, path: Path) -> None:
    if training.taxonomy.digest != taxonomy.digest:
        learnt, wanted = (f"{list(item.categories)} ({item.mode})" for item in (training.taxonomy, taxonomy))
        raise PrerequisiteError(
            f"{path.name} was trained for {learnt}, the taxonomy is {wanted}: {_TRAIN}, or give --config FILE of the "
            "project it was trained in"
        )
    if training.extractor != extractor:
        raise PrerequisiteError(
            f"{path.name} was trained on features of {training.extractor}, not {extractor}: {_TRAIN}"
        )


# ---------------------------------------------------------------- learning


class _TrainImage(NamedTuple):
    """A row of the *train* split."""

    line: str
    """Content, labels and group as text: sorts and names the image wherever its file lies."""
    file: Path
    labels: tuple[str, ...] | None
    group: str


@dataclass(frozen=True, eq=False)
class _Examples:
    """What there is to learn from, in an order that depends on content alone."""

    features: np.ndarray
    """(n, 1280) float64"""
    truth: np.ndarray
    """(n, K) bool"""
    groups: np.ndarray
    """(n,) whole numbers, by first appearance."""
    left_out: Mapping[str, int]


class _Choice(NamedTuple):
    """How strongly to regularise, and why."""

    regularisation: float
    folds: int
    losses: Mapping[float, float]


def _train_images(dataset: Dataset) -> list[_TrainImage]:
    train = dataset.on("train")
    columns = (train.frame[name] for name in ("image_id", "path", "labels", "group"))
    return sorted(
        _TrainImage(_line(content, labels, "" if group == image_id else group), dataset.file(path), labels, group)
        for content, image_id, path, labels, group in zip(train.contents, *columns, strict=True)
    )


def _line(content: str, labels: tuple[str, ...] | None, group: str) -> str:
    return canonical_json([content, labels, group]).decode()


def _digest_of(images: list[_TrainImage]) -> str:
    return digest([image.line for image in images])


def _artefact_path(setting: Setting, train: str) -> Path:
    named = digest(
        {
            "taxonomy": setting.taxonomy.digest,
            "train": train,
            "extractor": extractor_version(),
            "preparation": PREPARATION.id,
            "method": _METHOD,
        }
    )
    return setting.store / "models" / f"{_NAME}-{named[:32]}.npz"


def _collect(images: list[_TrainImage], dataset: Dataset, extractor: FeatureExtractor, progress: bool) -> _Examples:
    """Raises DatasetError for too few images, if their labels tell, before the features cost any time."""
    reasons = [_unusable(image, dataset.taxonomy.mode) for image in images]
    wanted = [image for image, reason in zip(images, reasons, strict=True) if not reason]
    _check_counts(wanted, dataset)
    found = list(_all_features([image.file for image in wanted], extractor, progress))
    pairs = [(image, item) for image, item in zip(wanted, found, strict=True) if not isinstance(item, Unprepared)]
    kept = [image for image, _ in pairs]
    _warn_of_few(_check_counts(kept, dataset), dataset.name)
    codes: dict[str, int] = {}
    return _Examples(
        np.array([item for _, item in pairs], dtype=np.float64),
        truth_matrix([image.labels for image in kept], dataset.taxonomy.categories),
        np.array([codes.setdefault(image.group, len(codes)) for image in kept]),
        Counter([*filter(None, reasons), *(item.outcome for item in found if isinstance(item, Unprepared))]),
    )


def _unusable(image: _TrainImage, mode: Mode) -> str:
    if image.labels is None:
        return "unlabelled"
    return "unknown" if not image.labels and mode == "single-label" else ""


def _check_counts(images: list[_TrainImage], dataset: Dataset) -> dict[str, int]:
    """Images by category; raises DatasetError where nothing can be learnt from them."""
    taxonomy = dataset.taxonomy
    if not taxonomy.categories:
        raise DatasetError(f"{dataset.name}: no image is labelled; there is nothing to learn from")
    if taxonomy.mode == "single-label" and len(taxonomy.categories) == 1:
        raise DatasetError(
            f"{dataset.name}: one category in single-label mode leaves nothing to learn; use multi-label"
        )
    counts = {name: sum(name in (image.labels or ()) for image in images) for name in taxonomy.categories}
    few = {name: count for name, count in counts.items() if count < _LEAST_IMAGES}
    if few:
        raise DatasetError(
            f"{dataset.name}: {_NAME} needs at least {_LEAST_IMAGES} usable images of each category "
            f"on the train split; too few of {_listed(few)}"
        )
    everywhere = [name for name, count in counts.items() if count == len(images)]
    if everywhere:
        raise DatasetError(f"{dataset.name}: every training image shows {everywhere[0]!r}; add images that do not")
    return counts


def _warn_of_few(counts: Mapping[str, int], dataset: str) -> None:
    few = {name: count for name, count in counts.items() if count < _ADVISED_IMAGES}
    if few:
        told = f"{dataset}: fewer than {_ADVISED_IMAGES} training images of {_listed(few)}; expect poor scores"
        warnings.warn(told, stacklevel=4)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} ({count})" for name, count in counts.items())


def _all_features(paths: list[Path], extractor: FeatureExtractor, progress: bool) -> Iterator[np.ndarray | Unprepared]:
    from tqdm import tqdm

    pool = ThreadPoolExecutor(_THREADS)
    try:
        found = pool.map(partial(_features, extractor), paths)
        yield from tqdm(found, "features", len(paths), unit="image", disable=not progress)
    finally:
        pool.shutdown(cancel_futures=True)


def _features(extractor: FeatureExtractor, path: Path) -> np.ndarray | Unprepared:
    data = read_image_file(path)
    prepared = data if isinstance(data, Unprepared) else prepare_bytes(data, extractor.preparation)
    return prepared if isinstance(prepared, Unprepared) else extractor.features(prepared)


def _choose_regularisation(examples: _Examples, mode: Mode, progress: bool) -> _Choice:
    """The C with the least log loss in cross-validation by group; of equals, the strongest regularisation."""
    from tqdm import tqdm

    folds = _folds(examples, mode)
    if not folds:
        return _Choice(_USUAL_REGULARISATION, 0, {})
    features, truth = examples.features, examples.truth
    losses = dict.fromkeys(_REGULARISATION, 0.0)
    steps = [(value, *fold) for value in _REGULARISATION for fold in folds]
    for value, learn, judge in tqdm(steps, "regularisation", unit="fit", disable=not progress):
        head = _learn(features[learn], truth[learn], mode, value, _TRIAL_TOLERANCE)
        losses[value] += _log_loss(head, features[judge], truth[judge], mode)
    judged = sum(len(judge) for _, judge in folds)
    chosen = min(_REGULARISATION, key=lambda value: losses[value])
    return _Choice(chosen, len(folds), {value: loss / judged for value, loss in losses.items()})


def _folds(examples: _Examples, mode: Mode) -> list[tuple[np.ndarray, np.ndarray]]:
    """(learn, judge) positions: no group is on both sides, and every category is learnt, with images that lack it."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    truth, groups = examples.truth, examples.groups
    count = min(_FOLDS, *(len(set(groups[shown].tolist())) for shown in truth.T))
    if count < 2:
        return []
    splitter = StratifiedGroupKFold if mode == "single-label" else GroupKFold
    folds = splitter(count, shuffle=True, random_state=_SEED).split(truth, truth.argmax(axis=1), groups)
    return [fold for fold in folds if _can_learn(truth[fold[0]])]


def _can_learn(truth: np.ndarray) -> bool:
    return bool((truth.any(axis=0) & ~truth.all(axis=0)).all())


def _log_loss(head: Head, features: np.ndarray, truth: np.ndarray, mode: Mode) -> float:
    scores = np.array([_probabilities(head.logits(row), mode) for row in features])
    likelihood = scores[truth] if mode == "single-label" else np.where(truth, scores, 1 - scores)
    return -float(np.log(np.maximum(likelihood, 1e-12)).sum())


def _learn(features: np.ndarray, truth: np.ndarray, mode: Mode, regularisation: float, tolerance: float) -> Head:
    from sklearn.linear_model import LogisticRegression

    mean, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    model = LogisticRegression(C=regularisation, tol=tolerance, max_iter=5000)
    fit = _fit_softmax if mode == "single-label" else _fit_sigmoids
    return Head(mean, scale, *fit(model, (features - mean) / scale, truth))


def _fit_softmax(model: Any, features: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if truth.shape[1] == 2:  # for two classes scikit-learn fits the difference of their logits
        weights, intercept = _fit_sigmoids(model, features, truth[:, 1:])
        return np.concatenate([-weights / 2, weights / 2]), np.concatenate([-intercept / 2, intercept / 2])
    model.fit(features, truth.argmax(axis=1))
    return model.coef_, model.intercept_


def _fit_sigmoids(model: Any, features: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layers = [(fitted.coef_[0], fitted.intercept_[0]) for fitted in (model.fit(features, shown) for shown in truth.T)]
    return np.array([weights for weights, _ in layers]), np.array([intercept for _, intercept in layers])


def _describe(train: str, taxonomy: Taxonomy, examples: _Examples, choice: _Choice) -> Training:
    import sklearn

    counts = examples.truth.sum(axis=0).tolist()
    return Training(
        schema_version="1.0",
        approach=_NAME,
        taxonomy=taxonomy,
        extractor=extractor_version(),
        preparation=PREPARATION.id,
        train=train,
        images=len(examples.truth),
        by_category=dict(zip(taxonomy.categories, counts, strict=True)),
        left_out=examples.left_out,
        regularisation=choice.regularisation,
        folds=choice.folds,
        losses={f"{value:g}": loss for value, loss in choice.losses.items()},
        seed=_SEED,
        scikit_learn=sklearn.__version__,
    )
