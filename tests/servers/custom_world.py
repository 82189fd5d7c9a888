"""Custom Labels and S3 side by side on the loopback interface, and settings that lead there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer
from PIL import Image

from servers.aws_json import KEY, SECRET
from servers.custom_labels import CustomLabels
from workbench.approaches.base import Setting
from workbench.config.prices import packaged_prices
from workbench.records import Taxonomy

REGION = "us-east-1"
FAST = 200_000.0
"""Seconds of the service per second here: an hour of training takes 18 ms."""


@dataclass(frozen=True)
class Storage:
    """S3, as moto plays it."""

    url: str
    client: Any


@dataclass(frozen=True)
class World:
    """A service, a bucket of its own, and a store."""

    server: CustomLabels
    storage: Storage
    bucket: str
    store: Path

    def setting(self, taxonomy: Taxonomy, **options: Any) -> Setting:
        """For an approach that asks here."""
        usual: Mapping[str, Any] = {
            "region": REGION,
            "endpoint_url": self.server.url,
            "s3_endpoint_url": self.storage.url,
            "bucket": self.bucket,
            "poll_seconds": 0.02,
        }
        return Setting(taxonomy, {}, self.store, options={**usual, **options})

    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket, by key."""
        pages = self.storage.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key: self.storage.client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def images(self) -> list[Image.Image]:
        """The images in the bucket."""
        return [Image.open(BytesIO(data)) for key, data in self.objects().items() if "/images/" in key]

    def manifests(self) -> list[bytes]:
        """The manifests in the bucket."""
        return [data for key, data in self.objects().items() if "/manifests/" in key]


@contextmanager
def storage_server() -> Iterator[Storage]:
    """S3 for a whole session."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    client = boto3.client("s3", region_name=REGION, endpoint_url=url, **keys)
    yield Storage(url, client)
    client.close()
    server.stop()
    if server._server is not None:
        server._server.server_close()


@contextmanager
def custom_world(storage: Storage, store: Path, **options: Any) -> Iterator[World]:
    """A service without anything in it, and an empty bucket."""
    bucket = f"b-{uuid4().hex}"
    storage.client.create_bucket(Bucket=bucket)
    with CustomLabels(storage.client, **{"speed": FAST, **options}) as server:
        yield World(server, storage, bucket, store)


def with_prices(setting: Setting, **usd: float) -> Setting:
    """The setting with prices of its own; `training=2.0` is USD per hour."""
    names = {"training": "rekognition/custom-labels-training", "hour": "rekognition/custom-labels"}
    return replace(setting, prices=packaged_prices().override({names[name]: price for name, price in usd.items()}, ""))
