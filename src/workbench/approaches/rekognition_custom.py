"""`rekognition-custom`: a model version that Amazon Rekognition Custom Labels trains on the *train* split.

A version answers while it is switched on, and costs money per inference unit and hour until it is switched off
(`custom_running`). Every label is asked for (MinConfidence 0), so the thresholds that the service assumed while it
tested play no part. It knows no "none of these", unless unknown images are learnt as a label of their own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from workbench.approaches.aws import AwsOptions, Connection, lacks_aws
from workbench.approaches.base import Answer, Estimate, Setting, read_options
from workbench.approaches.custom_artefact import Trained, read_ratings, read_trained, write_trained
from workbench.approaches.custom_calls import Calls, code_of, find_project, find_versions
from workbench.approaches.custom_manifest import MOST_BYTES, PREPARATION, Lesson, check_lesson, lesson_of
from workbench.approaches.custom_running import Switch, switch_off_left
from workbench.approaches.custom_training import Training
from workbench.approaches.custom_upload import Place, Taught
from workbench.approaches.running import Running
from workbench.canonical import binary32, digest
from workbench.dataset.images import Dataset
from workbench.errors import ConfigError, CredentialsError, DatasetError, PrerequisiteError, ProviderError
from workbench.prepare.decode import Prepared
from workbench.prepare.encode import ENCODING, Encoded, encode_pixels

_NAME = "rekognition-custom"
_TRAIN = f"run `workbench train DATASET --approach {_NAME}`"
_HOUR = "rekognition/custom-labels"
_TRAINING_HOUR = "rekognition/custom-labels-training"
_CALLS_PER_UNIT = 4
_MOST_PERCENT = 100.001
"""A confidence is a single-precision percentage: a hair above 100 is 100."""


class RekognitionCustomOptions(AwsOptions):
    """Fields of `[approaches.rekognition-custom]`."""

    s3_endpoint_url: str = ""
    bucket: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")] = ""
    """For training: where images, manifests and evaluations go, in the region of the service."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", max_length=400)] = "workbench"
    """What every key in the bucket begins with."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=200)] = "workbench"
    """What projects are called; training adds the digest of the images. With `version` as a name: the whole name."""
    version: str = ""
    """ARN, or name in `project`, of a version that is there already, in place of one that is trained here."""
    inference_units: Annotated[int, Field(ge=1, le=5)] = 1
    learn_unknown: bool = False
    """Images of no category are learnt as a label of their own, which becomes the score of the unknown."""
    poll_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0
    """Between two looks at what is under way."""
    start_minutes: Annotated[float, Field(gt=0)] = 30.0
    """How long starting may take."""


class RekognitionCustom:
    """Image-level labels of one version. Confidences of different labels do not sum to one."""

    name = _NAME
    preparation = PREPARATION
    complete = False
    floors: Mapping[str, float] = MappingProxyType({})
    parts = 1
    rate = 0.0

    def __init__(
        self, setting: Setting, options: RekognitionCustomOptions, version: str, learnt: Trained | None
    ) -> None:
        taxonomy = setting.taxonomy
        self.taxonomy = taxonomy
        self.model_version = version
        known = taxonomy.unknown in (learnt.labels if learnt else setting.label_map)
        self.scores_unknown = known
        names = (*taxonomy.categories, *((taxonomy.unknown,) if known else ()))
        self._terms = {name: tuple(setting.label_map.get(name) or (name,)) for name in names}
        _check_terms(setting.label_map, self._terms, learnt)
        self.parallel = _CALLS_PER_UNIT * options.inference_units
        price = setting.prices.of(_HOUR)
        self.hourly_usd = None if price is None else price * options.inference_units
        self.price_note = _price_note(self.hourly_usd, options.inference_units)
        self.start_seconds = 60 * options.start_minutes
        self._connection = Connection("rekognition", options)
        self.question = digest(
            {
                "approach": _NAME,
                "endpoint": self._connection.endpoint,
                "version": version,
                "parameters": {"MinConfidence": 0},
                "preparation": self.preparation.id,
                "encoding": ENCODING,
                "most_bytes": MOST_BYTES,
            }
        )
        self.fingerprint = digest(
            {"question": self.question, "terms": self._terms, "reading": 1, "taxonomy": taxonomy.digest}
        )
        self._switch = Switch(
            _NAME,
            version,
            Calls(self._connection, options.poll_seconds),
            store=setting.store,
            profile=options.profile,
            units=options.inference_units,
            hourly_usd=self.hourly_usd,
            start_seconds=self.start_seconds,
        )

    @classmethod
    def build(cls, setting: Setting) -> RekognitionCustom:
        """Raises PrerequisiteError where no version was trained for this taxonomy, ConfigError for wrong settings.

        Asks nobody, unless `version` is a name: then the service is asked for its ARN.
        """
        options = read_options(RekognitionCustomOptions, _NAME, setting)
        learnt = None if options.version else _learnt(setting, options)
        version = learnt.version if learnt else options.version
        if not version.startswith("arn:"):
            version = _resolved(version, options)
        options = _in_region(options, version)
        if options.model_version not in ("", version):
            raise ConfigError(
                f"workbench.toml: approaches.{_NAME}.model_version: {options.model_version} is pinned, but the version "
                f"is {version}"
            )
        return cls(setting, options, version, learnt)

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        """What is missing to ask, in words; "" if nothing."""
        options = read_options(RekognitionCustomOptions, _NAME, setting)
        return lacks_aws(_in_region(options, options.version) if options.version.startswith("arn:") else options, _NAME)

    @classmethod
    def artefact(cls, dataset: Dataset, setting: Setting) -> Path:
        """A path that names taxonomy, training images (by content), project, region and endpoint."""
        options = read_options(RekognitionCustomOptions, _NAME, setting)
        return _artefact_path(setting, options, lesson_of(dataset, options.learn_unknown))

    @classmethod
    def fit(cls, dataset: Dataset, setting: Setting, progress: bool = False) -> Path:
        """Have a version trained on the *train* split alone; what is trained already is found again and not paid twice.

        Takes half an hour to a day, of which none is lost if the process ends. Images that cannot be prepared are left
        out and counted; so are unlabelled ones and, without `learn_unknown`, unknown ones. Raises DatasetError for too
        little to learn from or what the service refuses, PrerequisiteError where training fails.
        """
        options = read_options(RekognitionCustomOptions, _NAME, setting)
        _check_trainable(dataset, setting, options)
        lesson = lesson_of(dataset, options.learn_unknown)
        path = _artefact_path(setting, options, lesson)
        if path.exists():
            read_trained(path)
            return path
        check_lesson(lesson, dataset.name)
        missing = lacks_aws(options, _NAME)
        if missing:
            raise CredentialsError(missing)
        stored = options.model_copy(update={"endpoint_url": options.s3_endpoint_url})
        price = setting.prices.of(_TRAINING_HOUR)
        with Connection("rekognition", options) as service, Connection("s3", stored) as objects:
            s3 = Calls(objects, options.poll_seconds)
            with _telling(progress, price) as tell:
                place = Place(options.bucket, options.prefix, options.project)
                single = setting.taxonomy.mode == "single-label"
                calls = Calls(service, options.poll_seconds)
                try:
                    description, taught = Training(lesson, place, calls, s3, single, tell).run()
                except KeyboardInterrupt as stop:
                    stop.add_note(f"{_NAME}: what has begun goes on at the service; training again picks it up")
                    raise
            trained = _describe(description, lesson, taught, setting, service.endpoint, s3, price)
        write_trained(path, trained)
        return path

    @classmethod
    def remarks(cls, artefact: Path) -> list[str]:
        """What there is to say of a trained version."""
        trained = read_trained(artefact)
        hours = trained.billable_seconds / 3600
        cost = "a price that is not known" if trained.usd is None else f"${trained.usd:.2f}"
        rated = "" if trained.f1 is None else f"; F1 {trained.f1:.3f} on the images that the service set aside"
        left = ", ".join(f"{count} {reason}" for reason, count in trained.left_out.items())
        return [
            f"{trained.version}: {hours:.2f} hours of training at {cost}{rated}",
            f"trained on {trained.images} pictures" + (f"; left out: {left}" if left else ""),
        ]

    def estimate(self, width: int, height: int) -> Estimate:
        """A call costs nothing of its own: the hour does."""
        return Estimate(0.0, 0.0)

    def request(self, prepared: Prepared, part: int = 0) -> Encoded:
        """The image, within the limit of what is asked in bytes."""
        return encode_pixels(prepared.pixels, MOST_BYTES)

    def ask(self, request: Encoded) -> Answer:
        """Every label with its confidence. Raises PrerequisiteError where the version is not switched on (any more)."""
        try:
            raw = self._connection.call(
                "detect_custom_labels",
                later=("LimitExceededException",),
                ProjectVersionArn=self.model_version,
                Image={"Bytes": request.data},
                MinConfidence=0.0,
            )
        except ProviderError as error:
            if code_of(error) != "ResourceNotReadyException":
                raise
            raise PrerequisiteError(
                f"{self.model_version} is not running ({error.detail}); if somebody else has switched it off, "
                "run again: what was answered is kept"
            ) from None
        return Answer(raw, self.model_version)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """The highest confidence of a category's labels, as a share of one.

        All labels are asked for, so one that is absent is no low score: it means another model, and is malformed.
        """
        confidences = _confidences(raw)
        return {name: self._score(terms, confidences) for name, terms in self._terms.items()}

    def _score(self, terms: tuple[str, ...], confidences: Mapping[str, float]) -> float:
        missing = [term for term in terms if term not in confidences]
        if missing:
            raise ProviderError(
                "malformed_answer",
                f"no confidence for {', '.join(missing)}; labels of this version: {sorted(confidences)}",
            )
        return binary32(max(confidences[term] for term in terms) / 100)

    def start(self, say: Callable[[str], None]) -> None:
        """Switch the version on and wait until it answers; see `custom_running`."""
        self._switch.start(say)

    def stop(self, say: Callable[[str], None]) -> None:
        """Switch it off, if this process switched it on."""
        self._switch.stop(say)

    @classmethod
    def switch_off(cls, running: Running, say: Callable[[str], None]) -> bool:
        """Switch off what a dead process left on; False where it is still about to be off."""
        return switch_off_left(running)

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()


# ---------------------------------------------------------------- settings


def _check_terms(
    label_map: Mapping[str, tuple[str, ...]], terms: Mapping[str, tuple[str, ...]], learnt: Trained | None
) -> None:
    for name in label_map.keys() - terms.keys():
        raise ConfigError(
            f"workbench.toml: approaches.{_NAME}.labels.{name}: no category that this version scores; "
            "`learn_unknown = true` trains one for unknown images"
        )
    for name, labels in terms.items():
        for label in labels:
            if learnt is not None and label not in learnt.labels:
                raise ConfigError(
                    f"workbench.toml: approaches.{_NAME}.labels.{name}: the version was not trained on {label!r}; "
                    f"it knows {', '.join(learnt.labels)}"
                )


def _price_note(hourly: float | None, units: int) -> str:
    if hourly is None:
        return f"per inference unit and hour, at a price that is not known: set {_HOUR!r} in [prices] of workbench.toml"
    return f"${hourly:.2f} per hour while it is switched on ({units} inference units), however much is asked"


def _learnt(setting: Setting, options: RekognitionCustomOptions) -> Trained:
    path = setting.model
    if path is None or not path.exists():
        where = f" (there is no {path.name})" if path else ""
        raise PrerequisiteError(
            f"{_NAME} has not been trained on this data set{where}: {_TRAIN}, or set `version` in "
            f"[approaches.{_NAME}] of workbench.toml to the ARN of a version that is there already"
        )
    learnt = read_trained(path)
    if learnt.taxonomy.digest != setting.taxonomy.digest:
        raise PrerequisiteError(
            f"{path.name} was trained for another taxonomy ({list(learnt.taxonomy.categories)}): {_TRAIN}"
        )
    if learnt.preparation != PREPARATION.id:
        raise PrerequisiteError(f"{path.name} was trained on images prepared as {learnt.preparation}: {_TRAIN}")
    return learnt


def _in_region(options: RekognitionCustomOptions, version: str) -> RekognitionCustomOptions:
    """A version is asked where it is."""
    region = version.split(":")[3] if version.count(":") >= 5 and version.count("/") == 4 else ""
    if not region:
        raise ConfigError(f"workbench.toml: approaches.{_NAME}.version: {version} is not the ARN of a project version")
    if options.region not in ("", region):
        raise ConfigError(
            f"workbench.toml: approaches.{_NAME}.region: {options.region}, but the version is in {region}"
        )
    return options.model_copy(update={"region": region})


def _resolved(name: str, options: RekognitionCustomOptions) -> str:
    """The ARN of a version by its name."""
    try:
        with Connection("rekognition", options) as connection:
            calls = Calls(connection, options.poll_seconds)
            project = find_project(calls, options.project)
            found = find_versions(calls, project["ProjectArn"], name) if project else []
    except PrerequisiteError as error:
        raise type(error)(
            f"{_NAME}: AWS has to be asked for the ARN of version {name!r}, also for a plan (an ARN as `version` in"
            f" workbench.toml needs nobody): {error}"
        ) from None
    if not found:
        raise ConfigError(
            f"workbench.toml: approaches.{_NAME}.version: there is no version {name!r} in project {options.project!r}"
        )
    return str(found[0]["ProjectVersionArn"])


def _check_trainable(dataset: Dataset, setting: Setting, options: RekognitionCustomOptions) -> None:
    if dataset.taxonomy.digest != setting.taxonomy.digest:
        raise DatasetError(f"{dataset.name}: the data set has another taxonomy than the settings")
    if options.version:
        raise ConfigError(f"workbench.toml: approaches.{_NAME}.version: names a trained version; leave it out to train")
    if not options.bucket:
        raise ConfigError(f"workbench.toml: approaches.{_NAME}.bucket: training needs a bucket in S3 for its images")


def _artefact_path(setting: Setting, options: RekognitionCustomOptions, lesson: Lesson) -> Path:
    connection = Connection("rekognition", options)
    named = digest(
        {
            "taxonomy": setting.taxonomy.digest,
            "lesson": lesson.digest,
            "project": options.project,
            "region": connection.region,
            "endpoint": connection.endpoint,
        }
    )
    return setting.store / "models" / f"{_NAME}-{named[:32]}.json"


# ---------------------------------------------------------------- training


def _describe(
    description: Mapping[str, Any],
    lesson: Lesson,
    taught: Taught,
    setting: Setting,
    endpoint: str,
    s3: Calls,
    price: float | None,
) -> Trained:
    seconds = int(description.get("BillableTrainingTimeInSeconds", 0))
    f1 = description.get("EvaluationResult", {}).get("F1Score")
    return Trained(
        schema_version="1.0",
        approach=_NAME,
        taxonomy=setting.taxonomy,
        labels=lesson.labels,
        preparation=PREPARATION.id,
        train=lesson.digest,
        images=taught.pictures,
        by_label=taught.by_label,
        left_out=taught.left_out,
        version=str(description["ProjectVersionArn"]),
        endpoint=endpoint,
        billable_seconds=seconds,
        usd=None if price is None else price * seconds / 3600,
        f1=None if f1 is None else float(f1),
        ratings=read_ratings(description, s3),
    )


@contextmanager
def _telling(progress: bool, price: float | None) -> Iterator[Callable[[str], None]]:
    """Shows on standard error what is being done and for how long, if that is wanted."""
    if not progress:
        yield lambda text: None
        return
    from tqdm.auto import tqdm

    cost = (
        f"${price:.2f} per hour of training" if price is not None else f"unknown: {_TRAINING_HOUR!r} is not in [prices]"
    )
    tqdm.write(f"Training takes 30 minutes to 24 hours and goes on if this ends. Its price: {cost}.", file=sys.stderr)
    with tqdm(bar_format="{desc} ({elapsed})", file=sys.stderr) as shown:
        yield shown.set_description_str


# ---------------------------------------------------------------- answers


def _confidences(raw: Mapping[str, Any]) -> dict[str, float]:
    """Percent by label. Raises ProviderError for an answer of another form."""
    rows = raw.get("CustomLabels")
    if not isinstance(rows, list):
        raise ProviderError("malformed_answer", "no list of CustomLabels")
    found: dict[str, float] = {}
    for row in rows:
        name = row.get("Name") if isinstance(row, Mapping) else None
        if not isinstance(name, str):
            raise ProviderError("malformed_answer", f"a label without a name: {row!r}"[:200])
        if row.get("Geometry") or name in found:
            raise ProviderError(
                "malformed_answer", f"{name}: the version finds objects; one of image-level labels is wanted"
            )
        value = row.get("Confidence")
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ProviderError("malformed_answer", f"{name}: a confidence that is no number: {value!r}"[:200])
        percent = float(value)
        if not (math.isfinite(percent) and 0 <= percent <= _MOST_PERCENT):
            raise ProviderError("bad_probability", f"{name}: a confidence of {percent:g}, not 0 to 100")
        found[name] = min(percent, 100.0)
    return found
