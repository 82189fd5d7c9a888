"""A lesson in S3: its images, each named by its content, and the manifest that labels them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from workbench.approaches.custom_calls import Calls
from workbench.approaches.custom_manifest import (
    Lesson,
    TrainingImage,
    check_counts,
    encode_image,
    key_of,
    manifest_of,
    merge_twins,
)
from workbench.prepare.decode import Unprepared

_UPLOADS = 8


@dataclass(frozen=True)
class Place:
    """Where images and results lie, and what things are called."""

    bucket: str
    prefix: str
    project: str
    """Without the lesson's digest."""

    def project_of(self, lesson: Lesson) -> str:
        """The project of a lesson."""
        return f"{self.project}-{lesson.digest[:16]}"

    def manifest_of(self, lesson: Lesson) -> dict[str, str]:
        """Where the manifest of a lesson lies, as an S3Object."""
        return {"Bucket": self.bucket, "Name": f"{self.prefix}/manifests/{lesson.digest}.jsonl"}


@dataclass(frozen=True)
class Taught:
    """What a lesson became in S3."""

    by_label: Mapping[str, int]
    left_out: Mapping[str, int]
    names: Mapping[str, str]
    """Image id by key."""
    pictures: int
    """Lines of the manifest."""


def upload_lesson(lesson: Lesson, place: Place, s3: Calls, *, single: bool, tell: Callable[[str], None]) -> Taught:
    """Put the images of a lesson and its manifest into S3; an image that is there already is not sent again.

    single  an image has one label

    Raises DatasetError where too few images of a label can be prepared.
    """
    folder = f"{place.prefix}/images/"
    listed = s3.pages("list_objects_v2", "Contents", Bucket=place.bucket, Prefix=folder)
    there = {item["Key"] for item in listed}
    done = Counter[str]()

    def put(image: TrainingImage) -> str | Unprepared:
        encoded = encode_image(image.file)
        done["images"] += 1
        tell(f"images {done['images']} of {len(lesson.images)}")
        if isinstance(encoded, Unprepared):
            return encoded
        key = key_of(encoded)
        if folder + key not in there:
            kind = encoded.media_type
            s3("put_object", Bucket=place.bucket, Key=folder + key, Body=encoded.data, ContentType=kind)
        return key

    pool = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload")
    try:
        found = list(zip(lesson.images, pool.map(put, lesson.images), strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    keyed = [(image, key) for image, key in found if isinstance(key, str)]
    merged, conflicting = merge_twins(((key, image.labels) for image, key in keyed), single)
    counts = check_counts(merged.values(), lesson.labels, "of what could be prepared")
    manifest = manifest_of(merged, f"s3://{place.bucket}/{folder}", place.project_of(lesson))
    where = place.manifest_of(lesson)
    s3("put_object", Bucket=where["Bucket"], Key=where["Name"], Body=manifest)
    left_out = Counter(lesson.left_out) + Counter(key.outcome for _, key in found if isinstance(key, Unprepared))
    left_out += Counter(conflicting=conflicting)
    return Taught(counts, left_out, {key: image.image_id for image, key in keyed}, len(merged))
