"""A stand-in for Amazon Rekognition Custom Labels: projects, data sets, training, running, by a clock of its own.

It trains nothing: a version "knows" the labels of its data set, and what an image shows is what `sees` says.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from PIL import Image

from servers.aws_json import RefusedError
from servers.base import Bucket, Reply, Seen, serve
from servers.eyes import kinds_in
from servers.rekognition import ImageLimits, Rekognition

ACCOUNT = "123456789012"
LIMITS = ImageLimits(most_bytes=4_000_000, least_side=64, most_side=4096, slimmest=20)
TRAINED = ("TRAINING_COMPLETED", "RUNNING", "STARTING", "STOPPING", "STOPPED", "FAILED")
_MOST_RUNNING = 2
_MOST_UNITS = 5
_MOST_TRAINING = 2
_MOST_INVALID = 0.2
_MOST_LABELS = 250
_PAGE = 2
"""Versions and entries per page at most: small, so that whoever forgets to turn pages is found out."""
_SOURCE_ERROR = "ERROR_INVALID_SOURCE_REF_FORMAT"


@dataclass
class DataSet:
    """TRAIN or TEST."""

    arn: str
    kind: str
    created: float
    status: str
    until: float
    """When the status changes; infinity where it stays."""
    becomes: str = "CREATE_COMPLETE"
    message: str = ""
    entries: list[dict[str, Any]] = field(default_factory=list)

    @property
    def labels(self) -> set[str]:
        return {label for entry in self.entries for label in labels_of(entry)}


@dataclass
class Version:
    """A model version."""

    arn: str
    created: float
    output: Mapping[str, Any]
    labels: tuple[str, ...]
    status: str = "TRAINING_IN_PROGRESS"
    until: float = math.inf
    becomes: str = "TRAINING_COMPLETED"
    message: str = ""
    units: int = 0
    started: float = 0.0
    unit_seconds: float = 0.0
    """Billed for running, so far."""
    trained_seconds: int = 0
    sets: tuple[int, int] = (0, 0)
    bucket: Bucket | None = None


@dataclass
class Project:
    """A project."""

    arn: str
    created: float
    until: float
    sets: dict[str, DataSet] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)


class CustomLabels(Rekognition):
    """`speed` of its seconds pass per second of the world; `move` lets some pass at once."""

    def __init__(
        self,
        s3: Any = None,
        sees: Callable[[Image.Image], Mapping[str, float]] = kinds_in,
        *,
        speed: float = 1.0,
        calls_per_unit: float | None = None,
        latency: float = 0.0,
        rate: float | None = None,
    ) -> None:
        super().__init__(latency=latency, rate=rate)
        self.s3 = s3
        self.sees = sees
        self.speed = speed
        self.calls_per_unit = calls_per_unit
        self.region = "us-east-1"
        self.lasts = {"project": 5.0, "dataset": 60.0, "training": 3600.0, "starting": 300.0, "stopping": 60.0}
        self.training_fails = ""
        """A StatusMessage: the next training fails with it."""
        self.starting_fails = ""
        self.projects: dict[str, Project] = {}
        self.trainings = 0
        self._began, self._moved = time.monotonic(), 0.0
        self._since = time.time()
        self.operations |= {
            "CreateProject": self.create_project,
            "DescribeProjects": self.describe_projects,
            "CreateDataset": self.create_dataset,
            "DescribeDataset": self.describe_dataset,
            "ListDatasetEntries": self.list_dataset_entries,
            "DistributeDatasetEntries": self.distribute_dataset_entries,
            "CreateProjectVersion": self.create_project_version,
            "DescribeProjectVersions": self.describe_project_versions,
            "StartProjectVersion": self.start_project_version,
            "StopProjectVersion": self.stop_project_version,
            "DeleteProjectVersion": self.delete_project_version,
            "DetectCustomLabels": self.detect_custom_labels,
        }

    # ------------------------------------------------------------ clock

    def now(self) -> float:
        return self._since + (time.monotonic() - self._began) * self.speed + self._moved

    def move(self, seconds: float) -> None:
        """Let time pass."""
        with self.lock:
            self._moved += seconds

    def answer(self, seen: Seen) -> Reply:
        with self.lock:
            self.settle()
        return super().answer(seen)

    def settle(self) -> None:
        """Whatever is due by now has happened."""
        now = self.now()
        for project in self.projects.values():
            for data in project.sets.values():
                if now >= data.until:
                    data.status, data.until = data.becomes, math.inf
            for version in project.versions.values():
                if now >= version.until:
                    self._become(version)

    def _become(self, version: Version) -> None:
        at, version.until = version.until, math.inf
        version.status = version.becomes
        if version.becomes == "RUNNING":
            version.started = at
            version.bucket = Bucket(self.calls_per_unit * version.units) if self.calls_per_unit else None
        elif version.becomes == "STOPPED":
            version.unit_seconds += version.units * (at - version.started)
        elif version.becomes == "TRAINING_COMPLETED":
            version.trained_seconds = int(self.lasts["training"])
            self._write_summary(version)

    # ------------------------------------------------------------ what tests ask

    def version(self, name: str = "") -> Version:
        """The one version, or the one of this name."""
        with self.lock:
            self.settle()
            found = [item for project in self.projects.values() for item in project.versions.values()]
            (version,) = [item for item in found if not name or f"/version/{name}/" in item.arn]
            return version

    def running(self) -> list[str]:
        """ARNs of what costs money now."""
        with self.lock:
            self.settle()
            return [item.arn for item in self._versions() if item.status in ("STARTING", "RUNNING", "STOPPING")]

    def add_version(self, project: str, name: str, labels: Sequence[str], status: str = "TRAINING_COMPLETED") -> str:
        """A version that is there already; its ARN."""
        with self.lock:
            home = self.projects.setdefault(project, Project(self._arn(f"project/{project}"), self.now(), 0.0))
            arn = self._arn(f"project/{project}/version/{name}")
            made = Version(arn, self.now(), {"S3Bucket": "none"}, tuple(labels), status)
            made.started, made.units = self.now(), 1
            home.versions[name] = made
            return arn

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """Parameters of every call of an operation."""
        wanted = f"RekognitionService.{operation}"
        return [json.loads(seen.body) for seen in self.seen if seen.headers.get("x-amz-target") == wanted]

    # ------------------------------------------------------------ projects and data sets

    def create_project(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["ProjectName"]
        with self.lock:
            if name in self.projects:
                raise RefusedError("ResourceInUseException", f"A project named {name} already exists.")
            arn = self._arn(f"project/{name}")
            self.projects[name] = Project(arn, self.now(), self.now() + self.lasts["project"])
        return {"ProjectArn": arn}

    def describe_projects(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            found = [item for name, item in self.projects.items() if name in given.get("ProjectNames", self.projects)]
            rows = [
                {
                    "ProjectArn": item.arn,
                    "CreationTimestamp": item.created,
                    "Status": "CREATED" if self.now() >= item.until else "CREATING",
                    "Feature": "CUSTOM_LABELS",
                    "Datasets": [
                        {
                            "CreationTimestamp": data.created,
                            "DatasetType": data.kind,
                            "DatasetArn": data.arn,
                            "Status": data.status,
                            "StatusMessage": data.message,
                        }
                        for data in item.sets.values()
                    ],
                }
                for item in found
            ]
        return _page(rows, given, "ProjectDescriptions")

    def create_dataset(self, given: dict[str, Any]) -> dict[str, Any]:
        source = given.get("DatasetSource", {}).get("GroundTruthManifest", {}).get("S3Object")
        text = self._object(source["Bucket"], source["Name"]) if source else b""
        if text is None:
            raise RefusedError("InvalidS3ObjectException", "Unable to get object metadata from S3. Check object key.")
        with self.lock:
            project, kind = self._project(given["ProjectArn"]), given["DatasetType"]
            if self.now() < project.until:
                raise RefusedError("ResourceInUseException", "The project is being created.")
            if kind in project.sets:
                raise RefusedError("ResourceAlreadyExistsException", f"The project has a {kind} dataset.")
            arn = self._arn(f"project/{_name(project.arn)}/dataset/{kind.lower()}")
            data = DataSet(arn, kind, self.now(), "CREATE_IN_PROGRESS", self.now() + self.lasts["dataset"])
            project.sets[kind] = data
        if source:
            data.entries = list(self._read_manifest(text))
            data.message = _refusal(data.entries)
            data.becomes = "CREATE_FAILED" if data.message else "CREATE_COMPLETE"
        return {"DatasetArn": arn}

    def _read_manifest(self, text: bytes) -> Iterator[dict[str, Any]]:
        """Entries, with `errors` where something is wrong."""
        buckets: set[str] = set()
        for line in text.decode().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                yield {"source-ref": "", "errors": [{"code": "ERROR_INVALID_JSON_LINE", "message": line[:50]}]}
                continue
            code = self._fault(entry, buckets)
            yield entry | ({"errors": [{"code": code, "message": code.lower()}]} if code else {})

    def _fault(self, entry: dict[str, Any], buckets: set[str]) -> str:
        if "source-ref" not in entry:
            return "ERROR_MISSING_SOURCE_REF"
        scheme, _, place = entry["source-ref"].partition("://")
        bucket, _, key = place.partition("/")
        buckets.add(bucket)
        if scheme != "s3" or not key or len(buckets) > 1:
            return _SOURCE_ERROR
        names = [name for name in entry if name != "source-ref" and not name.endswith("-metadata")]
        if not names:
            return "ERROR_NO_LABEL_ATTRIBUTES"
        for name in names:
            if type(entry[name]) is not int:
                return "ERROR_INVALID_LABEL_ATTRIBUTE_FORMAT"
            if not _sound(entry.get(f"{name}-metadata")):
                return "ERROR_INVALID_LABEL_ATTRIBUTE_METADATA_FORMAT"
        data = self._object(bucket, key)
        if data is None or len(data) > LIMITS.most_stored_bytes:
            return "ERROR_INVALID_IMAGE"
        try:
            self.picture({"Bytes": data}, ImageLimits(LIMITS.most_stored_bytes, 0, 64, 4096, 20))
        except RefusedError as refused:
            dimension = refused.code in ("InvalidParameterException", "ImageTooLargeException")
            return "ERROR_INVALID_IMAGE_DIMENSION" if dimension else "ERROR_INVALID_IMAGE"
        return ""

    def describe_dataset(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            data = self._data_set(given["DatasetArn"])
            description = {
                "CreationTimestamp": data.created,
                "LastUpdatedTimestamp": self.now(),
                "Status": data.status,
                "StatusMessage": data.message if data.status == "CREATE_FAILED" else "",
                "StatusMessageCode": "CLIENT_ERROR" if data.status == "CREATE_FAILED" else "SUCCESS",
            }
            if data.status.endswith("COMPLETE"):
                description["DatasetStats"] = {
                    "LabeledEntries": sum("errors" not in entry for entry in data.entries),
                    "TotalEntries": len(data.entries),
                    "TotalLabels": len(data.labels),
                    "ErrorEntries": sum("errors" in entry for entry in data.entries),
                }
        return {"DatasetDescription": description}

    def list_dataset_entries(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            data = self._data_set(given["DatasetArn"])
            if data.status == "CREATE_IN_PROGRESS":
                raise RefusedError("ResourceNotReadyException", "The dataset is not ready.")
            wanted = given.get("HasErrors")
            found = [entry for entry in data.entries if wanted is None or ("errors" in entry) == wanted]
            return _page([json.dumps(entry) for entry in found], given, "DatasetEntries")

    def distribute_dataset_entries(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            sets = {data.kind: data for data in (self._data_set(item["Arn"]) for item in given["Datasets"])}
            if set(sets) != {"TRAIN", "TEST"} or sets["TEST"].entries:
                raise RefusedError("InvalidParameterException", "A TRAIN dataset and an empty TEST dataset are wanted.")
            if any(not data.status.endswith("COMPLETE") for data in sets.values()):
                raise RefusedError("ResourceNotReadyException", "The dataset is not ready.")
            train, test = sets["TRAIN"], sets["TEST"]
            # a fifth of each label, more or less
            ranked = sorted(train.entries, key=lambda entry: (labels_of(entry), entry.get("source-ref", "")))
            test.entries = ranked[2::5]
            train.entries = [entry for number, entry in enumerate(ranked) if number % 5 != 2]
            for data in sets.values():
                data.status, data.becomes = "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"
                data.until = self.now() + self.lasts["dataset"]
        return {}

    # ------------------------------------------------------------ versions

    def create_project_version(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            project, name = self._project(given["ProjectArn"]), given["VersionName"]
            if name in project.versions:
                raise RefusedError("ResourceInUseException", f"A version named {name} already exists.")
            if ("TrainingData" in given or "TestingData" in given) and project.sets:
                raise RefusedError("InvalidParameterException", "The project has datasets: give no manifests.")
            if {"TRAIN", "TEST"} - project.sets.keys() or not all(data.entries for data in project.sets.values()):
                raise RefusedError("InvalidParameterException", "The project needs a training and a test dataset.")
            if any(not data.status.endswith("COMPLETE") for data in project.sets.values()):
                raise RefusedError("ResourceInUseException", "A dataset is being changed.")
            if sum(item.status == "TRAINING_IN_PROGRESS" for item in self._versions()) >= _MOST_TRAINING:
                raise RefusedError("LimitExceededException", "Too many models are being trained.")
            train, test = project.sets["TRAIN"], project.sets["TEST"]
            arn = self._arn(f"project/{_name(project.arn)}/version/{name}")
            made = Version(arn, self.now(), given["OutputConfig"], tuple(sorted(train.labels)))
            made.until = self.now() + self.lasts["training"]
            made.sets = len(train.entries), len(test.entries)
            self.trainings += 1
            if 2 * len(train.labels & test.labels) < len(train.labels):
                made.becomes, made.message = "TRAINING_FAILED", "ERROR_INSUFFICIENT_USABLE_LABEL_OVERLAP"
            if self.training_fails:
                made.becomes, made.message, self.training_fails = "TRAINING_FAILED", self.training_fails, ""
            project.versions[name] = made
        return {"ProjectVersionArn": arn}

    def describe_project_versions(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            project = self._project(given["ProjectArn"])
            names = given.get("VersionNames", list(project.versions))
            rows = [self._describe(item) for name, item in reversed(project.versions.items()) if name in names]
        return _page(rows, given, "ProjectVersionDescriptions")

    def _describe(self, version: Version) -> dict[str, Any]:
        row: dict[str, Any] = {
            "ProjectVersionArn": version.arn,
            "CreationTimestamp": version.created,
            "Status": version.status,
            "StatusMessage": version.message,
            "OutputConfig": dict(version.output),
            "Feature": "CUSTOM_LABELS",
        }
        if version.status in TRAINED and version.trained_seconds:
            where = {"Bucket": version.output["S3Bucket"], "Name": self._summary_key(version)}
            row["BillableTrainingTimeInSeconds"] = version.trained_seconds
            row["EvaluationResult"] = {"F1Score": 0.875, "Summary": {"S3Object": where}}
        if version.status in ("STARTING", "RUNNING"):
            row["MinInferenceUnits"] = version.units
        if version.status == "TRAINING_FAILED":
            where = {"Bucket": version.output["S3Bucket"], "Name": "manifest_summary.json"}
            row["ManifestSummary"] = {"S3Object": where}
        return row

    def _summary_key(self, version: Version) -> str:
        _, project, _, name, _ = version.arn.split("/")
        return f"{version.output.get('S3KeyPrefix', '')}/EvaluationResultSummary-{project}-{name}.json"

    def _write_summary(self, version: Version) -> None:
        train, test = version.sets
        metrics = {"F1Score": 0.875, "Precision": 0.9, "Recall": 0.85, "Threshold": 0.5}
        summary = {
            "Version": 1,
            "AggregatedEvaluationResults": {"ConfusionMatrix": [], "F1Score": 0.875, "Precision": 0.9, "Recall": 0.85},
            "EvaluationDetails": {
                "EvaluationEndTimestamp": f"{datetime.now():%Y-%m-%dT%H:%M:%S.%f}",
                "Labels": list(version.labels),
                "NumberOfTestingImages": test,
                "NumberOfTrainingImages": train,
                "ProjectVersionArn": version.arn,
            },
            "LabelEvaluationResults": [
                {"Label": label, "Metrics": metrics, "NumberOfTestingImages": test} for label in version.labels
            ],
        }
        body = json.dumps(summary).encode()
        self.s3.put_object(Bucket=version.output["S3Bucket"], Key=self._summary_key(version), Body=body)

    def start_project_version(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            version = self._version(given["ProjectVersionArn"])
            if version.status not in ("TRAINING_COMPLETED", "STOPPED", "FAILED"):
                raise RefusedError("ResourceInUseException", f"The version is {version.status}.")
            if given["MinInferenceUnits"] > _MOST_UNITS:
                raise RefusedError("LimitExceededException", f"At most {_MOST_UNITS} inference units.")
            if len([item for item in self._versions() if item.status in ("STARTING", "RUNNING")]) >= _MOST_RUNNING:
                raise RefusedError("LimitExceededException", "Too many models are running.")
            version.status, version.units = "STARTING", given["MinInferenceUnits"]
            version.becomes, version.until = "RUNNING", self.now() + self.lasts["starting"]
            if self.starting_fails:
                version.becomes, version.message, self.starting_fails = "FAILED", self.starting_fails, ""
        return {"Status": "STARTING"}

    def stop_project_version(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            version = self._version(given["ProjectVersionArn"])
            if version.status != "RUNNING":
                raise RefusedError("ResourceInUseException", f"The version is {version.status}.")
            version.status, version.becomes = "STOPPING", "STOPPED"
            version.until = self.now() + self.lasts["stopping"]
        return {"Status": "STOPPING"}

    def delete_project_version(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            version = self._version(given["ProjectVersionArn"])
            if version.status in ("STARTING", "RUNNING", "STOPPING", "TRAINING_IN_PROGRESS"):
                raise RefusedError("ResourceInUseException", f"The version is {version.status}.")
            del self.projects[_name(version.arn)].versions[version.arn.split("/")[3]]
        return {"Status": "DELETING"}

    def detect_custom_labels(self, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            version = self._version(given["ProjectVersionArn"])
            if version.status != "RUNNING":
                raise RefusedError("ResourceNotReadyException", f"The version is {version.status}.")
            if version.bucket is not None and not version.bucket.admits():
                raise RefusedError("ProvisionedThroughputExceededException", "Provisioned Rate exceeded")
        image = self.picture(given["Image"], LIMITS)
        self.bill("DetectCustomLabels")
        shown = self.sees(image)
        none = 1 - max(shown.values(), default=0.0)
        sure = {label: 100 * shown.get(label, none) for label in version.labels}
        lowest = given.get("MinConfidence", 50.0)
        ranked = sorted(sure.items(), key=lambda item: (-item[1], item[0]))
        rows = [{"Name": label, "Confidence": value} for label, value in ranked if value >= lowest]
        return {"CustomLabels": rows[: given.get("MaxResults")]}

    # ------------------------------------------------------------ finding things

    def _arn(self, what: str) -> str:
        return f"arn:aws:rekognition:{self.region}:{ACCOUNT}:{what}/{int(self.now() * 1000)}"

    def _versions(self) -> list[Version]:
        return [item for project in self.projects.values() for item in project.versions.values()]

    def _project(self, arn: str) -> Project:
        return self._found(self.projects.values(), arn)

    def _version(self, arn: str) -> Version:
        return self._found(self._versions(), arn)

    def _data_set(self, arn: str) -> DataSet:
        return self._found([data for project in self.projects.values() for data in project.sets.values()], arn)

    def _found(self, things: Any, arn: str) -> Any:
        for thing in things:
            if thing.arn == arn:
                return thing
        raise RefusedError("ResourceNotFoundException", f"{arn} cannot be found.")

    def _object(self, bucket: str, key: str) -> bytes | None:
        try:
            data: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except (self.s3.exceptions.NoSuchKey, self.s3.exceptions.NoSuchBucket):
            return None
        return data


def labels_of(entry: Mapping[str, Any]) -> list[str]:
    """Labels of a manifest line that is sound."""
    return [value["class-name"] for name, value in entry.items() if name.endswith("-metadata")]


def _sound(metadata: Any) -> bool:
    if not isinstance(metadata, dict):
        return False
    try:
        datetime.fromisoformat(metadata["creation-date"])
        return (
            0 <= metadata["confidence"] <= 1
            and isinstance(metadata["class-name"], str)
            and 0 < len(metadata["class-name"]) <= 255
            and metadata["human-annotated"] in ("yes", "no")
            and metadata["type"] == "groundtruth/image-classification"
        )
    except (KeyError, TypeError, ValueError):
        return False


def _refusal(entries: Sequence[Mapping[str, Any]]) -> str:
    """Why a whole manifest is refused; "" if it is not."""
    invalid = sum("errors" in entry for entry in entries)
    if not entries or invalid > _MOST_INVALID * len(entries):
        return "ERROR_TOO_MANY_INVALID_ROWS_IN_MANIFEST"
    labels = {label for entry in entries if "errors" not in entry for label in labels_of(entry)}
    return "" if 2 <= len(labels) <= _MOST_LABELS else "ERROR_TOO_FEW_LABELS"


def _name(arn: str) -> str:
    return arn.split("/")[1]


def _page(rows: list[Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    start = int(given.get("NextToken", 0))
    size = min(_PAGE, given.get("MaxResults", _PAGE))
    more = {"NextToken": str(start + size)} if start + size < len(rows) else {}
    return {name: rows[start : start + size], **more}


def _ready(**options: Any) -> CustomLabels:
    """With one version to start."""
    server = CustomLabels(**options)
    server.add_version("shapes", "v1", ("disc", "stripes", "checks"))
    return server


if __name__ == "__main__":
    serve(_ready)
