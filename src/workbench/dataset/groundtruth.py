"""SageMaker Ground Truth and Rekognition Custom Labels manifests: one JSON object per line with a `source-ref`.

An image's labels are the `class-name` of each attribute's `-metadata`; several attributes make it multi-label. The
`class-map` of Ground Truth's own multi-label jobs is read too. Nothing is fetched: an `s3://` reference means the file
of the same key below the root, or of as much of the key's end as lies there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.dataset.paths import Refusal, Tree, relative_path

SOURCE = "source-ref"
_METADATA = "-metadata"
_CLASSIFICATION = "groundtruth/image-classification"
_OBJECT_STORE = "s3://"


@dataclass(frozen=True)
class _Annotation:
    """One attribute of a line, with its metadata."""

    name: str
    value: Any
    metadata: Mapping[str, Any]

    @property
    def classifies(self) -> bool:
        kind = self.metadata.get("type", _CLASSIFICATION)
        return isinstance(kind, str) and kind.startswith(_CLASSIFICATION)


def is_groundtruth(records: Sequence[Mapping[str, Any]]) -> bool:
    """The manifest is one of these: its first readable line has a `source-ref`."""
    return SOURCE in next((record for record in records if record), {})


def plain_record(record: Mapping[str, Any], tree: Tree, bucket: str) -> dict[str, Any] | Refusal:
    """The line as a record with `image`, `labels` and the keys that annotate nothing, or why it cannot be used."""
    reference = record.get(SOURCE)
    if not isinstance(reference, str):
        return Refusal("no_path", f"no {SOURCE} in this line")
    path = _local_path(reference, tree, bucket)
    labels = _labels(record)
    refusal = next((part for part in (path, labels) if isinstance(part, Refusal)), None)
    if refusal is not None:
        return refusal
    annotations = {key for name in _attributes(record) for key in (name, name + _METADATA)}
    rest = {
        key: value for key, value in record.items() if key not in annotations and key not in (SOURCE, "image", "labels")
    }
    return {"image": path, "labels": labels, **rest}


def bucket_of(records: Sequence[Mapping[str, Any]]) -> str:
    """The bucket of the first `s3://` reference; a manifest keeps to one. "" where there is none."""
    references = (record.get(SOURCE) for record in records)
    first = next((ref for ref in references if isinstance(ref, str) and ref.startswith(_OBJECT_STORE)), "")
    return first.removeprefix(_OBJECT_STORE).partition("/")[0]


def _local_path(reference: str, tree: Tree, bucket: str) -> str | Refusal:
    if not reference.startswith(_OBJECT_STORE):
        return reference
    found_in, _, key = reference.removeprefix(_OBJECT_STORE).partition("/")
    if found_in != bucket:
        return Refusal("other_bucket", f"{reference!r}: the images of one manifest lie in one bucket, here {bucket!r}")
    clean = relative_path(key)
    if isinstance(clean, Refusal):
        return Refusal(clean.code, f"{reference!r}: {clean.message}")
    parts = clean.split("/")
    for start in range(len(parts)):
        found = tree.locate("/".join(parts[start:]))
        if found is not None:
            return found
    return Refusal("not_fetched", f"{reference!r} is not fetched; copy the object to {clean!r} below the root")


def _attributes(record: Mapping[str, Any]) -> list[str]:
    """Names that have a `-metadata` beside them, or only that (a job that failed leaves no value)."""
    return [
        key.removesuffix(_METADATA)
        for key, value in record.items()
        if key.endswith(_METADATA) and isinstance(value, dict)
    ]


def _labels(record: Mapping[str, Any]) -> list[str] | Refusal | None:
    found = [_Annotation(name, record.get(name), record[name + _METADATA]) for name in _attributes(record)]
    classifying = [annotation for annotation in found if annotation.classifies]
    if not found:
        return None
    if not classifying:
        kinds = ", ".join(str(annotation.metadata.get("type")) for annotation in found)
        return Refusal("not_classification", f"annotations of type {kinds}; only {_CLASSIFICATION} is read")
    labels: list[str] = []
    for annotation in classifying:
        named = _class_names(annotation)
        if isinstance(named, Refusal):
            return named
        labels += named
    return labels


def _class_names(annotation: _Annotation) -> list[str] | Refusal:
    name, metadata = annotation.name, annotation.metadata
    if "failure-reason" in metadata:
        return Refusal("job_failed", f"{name}: the labelling job failed: {metadata['failure-reason']}")
    named = metadata.get("class-map")
    names = list(named.values()) if isinstance(named, dict) else [metadata.get("class-name")]
    labels = [label for label in names if isinstance(label, str)]
    if len(labels) < len(names):
        return Refusal("no_class_name", f"{name}{_METADATA} has no class-name")
    return labels
