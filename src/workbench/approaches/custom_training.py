"""The way of a lesson to a trained model version at Amazon Rekognition Custom Labels.

Images → S3 → project → data sets → version. Every step looks first whether it has been taken: what is made is named
by the lesson's digest, so a run that ended early, however hard, goes on where it stopped, and nothing is trained (and
paid for) twice. A project holds one pair of data sets, so each lesson has a project of its own. The service moves 20 %
of the training images to the set that it tests with; images of other splits never reach it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.approaches.custom_calls import Calls, find_project, find_versions, project_name, version_name
from workbench.approaches.custom_manifest import Lesson
from workbench.approaches.custom_upload import Place, Taught, upload_lesson
from workbench.errors import DatasetError, PrerequisiteError

_SHOWN = 5
_THERE = ("ResourceInUseException", "ResourceAlreadyExistsException")
"""What another process has made in the meantime is as good as made: looking for it comes next."""
_MOVED = (*_THERE, "InvalidParameterException", "ResourceNotReadyException")
_CHANGING = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
_PROJECT_SECONDS = 600


@dataclass(frozen=True)
class Training:
    """One lesson on its way."""

    lesson: Lesson
    place: Place
    rekognition: Calls
    s3: Calls
    single: bool
    """An image has one label."""
    tell: Callable[[str], None]
    """Hears what is being done, whenever that is looked at."""

    def run(self) -> tuple[Mapping[str, Any], Taught]:
        """The description of a version that was trained on this lesson, and what was learnt from; waits for it.

        Raises DatasetError where the images or the data set are refused, PrerequisiteError where training fails, or
        has failed before: then the next run makes a new attempt.
        """
        taught = upload_lesson(self.lesson, self.place, self.s3, single=self.single, tell=self.tell)
        project = self._project()
        latest = self._latest(project)
        if latest is None or latest["Status"] == "TRAINING_FAILED":
            if latest:
                warnings.warn(f"a new attempt, because one failed before: {_failure(latest)}", stacklevel=2)
            self._data_sets(project, taught)
            failed = _attempt(latest["ProjectVersionArn"]) if latest else 0
            name = f"{self._version}-{failed + 1}"
            output = {"S3Bucket": self.place.bucket, "S3KeyPrefix": f"{self.place.prefix}/evaluation"}
            self.rekognition(
                "create_project_version", fine=_THERE, ProjectArn=project, VersionName=name, OutputConfig=output
            )
        else:
            name = version_name(latest["ProjectVersionArn"])
        return self._trained(project, name), taught

    # ------------------------------------------------------------ project and data sets

    def _project(self) -> str:
        name = self.place.project_of(self.lesson)
        if find_project(self.rekognition, name) is None:
            self.rekognition("create_project", fine=_THERE, ProjectName=name, Feature="CUSTOM_LABELS")

        def look() -> Mapping[str, Any]:
            self.tell(f"project {name}")
            return find_project(self.rekognition, name) or {"Status": "CREATING"}

        found = self.rekognition.wait_until(look, lambda item: item["Status"] == "CREATED", _PROJECT_SECONDS)
        if found["Status"] != "CREATED":
            raise PrerequisiteError(f"Custom Labels has not made the project {name} ({found['Status']}); try again")
        return str(found["ProjectArn"])

    def _data_sets(self, project: str, taught: Taught) -> None:
        """The data set of the lesson, and a fifth of it moved to the one that the service tests with."""
        source = {"GroundTruthManifest": {"S3Object": self.place.manifest_of(self.lesson)}}
        train, learnt = self._data_set(project, "TRAIN", DatasetSource=source)
        test, tested = self._data_set(project, "TEST")
        if learnt + tested != taught.pictures:
            raise DatasetError(
                f"the data sets of {project} hold {learnt + tested} images, the train split has {taught.pictures}: "
                "somebody has changed them; delete both and train again"
            )
        self._warn_of_errors((train, test), taught)
        if not tested:
            both = [{"Arn": train}, {"Arn": test}]
            self.rekognition("distribute_dataset_entries", fine=_MOVED, Datasets=both)
            self._data_set(project, "TRAIN")
            if not self._data_set(project, "TEST")[1]:
                raise DatasetError(f"Custom Labels has moved no images to the test set of {project}; try again")

    def _data_set(self, project: str, kind: str, **source: Any) -> tuple[str, int]:
        """ARN of a data set that nothing is changing any more, and how many images it has; made if need be."""
        arn = self._data_set_arn(project, kind)
        if arn is None:
            self.rekognition("create_dataset", fine=_THERE, ProjectArn=project, DatasetType=kind, **source)
            arn = self._data_set_arn(project, kind)

        def look() -> Mapping[str, Any]:
            found: Mapping[str, Any] = self.rekognition("describe_dataset", DatasetArn=arn)["DatasetDescription"]
            self.tell(f"{kind} data set: {found['Status']}")
            return found

        found = self.rekognition.wait_until(look, lambda item: item["Status"] not in _CHANGING)
        if found["Status"].endswith("FAILED"):
            raise DatasetError(
                f"Custom Labels refuses the {kind} data set {arn}: {found.get('StatusMessage') or found['Status']}; "
                "delete it and train again"
            )
        return str(arn), int(found["DatasetStats"]["TotalEntries"])

    def _data_set_arn(self, project: str, kind: str) -> str | None:
        found = find_project(self.rekognition, project_name(project)) or {}
        sets = found.get("Datasets", ())
        return next((str(item["DatasetArn"]) for item in sets if item["DatasetType"] == kind), None)

    def _warn_of_errors(self, data_sets: tuple[str, str], taught: Taught) -> None:
        """Images that the service does not take; above 20 % it refuses the whole data set."""
        listed = [line for arn in data_sets for line in self._faulty(arn, taught)]
        if listed:
            more = f"; and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
            warnings.warn(
                f"Custom Labels does not take {len(listed)} training images: {'; '.join(listed[:_SHOWN])}{more}",
                stacklevel=2,
            )

    def _faulty(self, arn: str, taught: Taught) -> Iterator[str]:
        for text in self.rekognition.pages("list_dataset_entries", "DatasetEntries", DatasetArn=arn, HasErrors=True):
            line = json.loads(text)
            key = str(line.get("source-ref", "")).rpartition("/")[2]
            errors = [item for item in line.get("errors", ()) if isinstance(item, Mapping)]
            codes = sorted({str(item.get("code", "")) for item in errors} - {""}) or ["no reason given"]
            yield f"{taught.names.get(key, key)} ({', '.join(codes)})"

    # ------------------------------------------------------------ the version

    @property
    def _version(self) -> str:
        """What every attempt's name begins with."""
        return self.lesson.digest[:32]

    def _latest(self, project: str) -> Mapping[str, Any] | None:
        """The latest attempt at this lesson; a sound one before failed ones."""
        ours = [
            item
            for item in find_versions(self.rekognition, project)
            if version_name(item["ProjectVersionArn"]).startswith(f"{self._version}-") and item["Status"] != "DELETING"
        ]
        ranks = [(item["Status"] != "TRAINING_FAILED", _attempt(item["ProjectVersionArn"])) for item in ours]
        return ours[ranks.index(max(ranks))] if ours else None

    def _trained(self, project: str, name: str) -> Mapping[str, Any]:
        """Botocore's waiter is blind to a version that runs or was stopped by now, and shows no progress.

        As there, the version has to be named, or others of the project would be waited for, too.
        """

        def look() -> Mapping[str, Any]:
            found = find_versions(self.rekognition, project, name)
            status = found[0]["Status"] if found else "TRAINING_IN_PROGRESS"
            self.tell(f"version {name}: {status}")
            return found[0] if found else {"Status": status}

        found = self.rekognition.wait_until(look, lambda item: item["Status"] != "TRAINING_IN_PROGRESS")
        if found["Status"] == "TRAINING_FAILED":
            raise PrerequisiteError(
                f"Custom Labels could not train {found['ProjectVersionArn']}: {_failure(found)}. "
                "Training again makes a new attempt"
            )
        return found


def _attempt(arn: str) -> int:
    number = version_name(arn).rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _failure(version: Mapping[str, Any]) -> str:
    summary = version.get("ManifestSummary", {}).get("S3Object", {})
    where = f" (see s3://{summary['Bucket']}/{summary['Name']})" if summary else ""
    return f"{version.get('StatusMessage') or 'no reason given'}{where}"
