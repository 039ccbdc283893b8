"""The face analyser on networks made by hand, whose answers follow from the picture's colours."""

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from bolid.errors import DataError, MissingExtraError, ModelError, UsageError
from bolid.models import face as face_module
from bolid.models.face import FaceAnalyser
from numpy.typing import NDArray

if any(importlib.util.find_spec(name) is None for name in ("insightface", "onnxruntime", "onnx")):
    pytest.skip("insightface is not installed", allow_module_level=True)

STRIDES = (8, 16, 32)
BOX = (2.0, 1.0, 3.0, 4.0)  # left, top, right and bottom from a place, in strides of 8
# The five landmarks from a place, in strides of 8: the aligned face lies well to the right of the place.
MARKS = ((10.0, 0.0), (14.0, 0.0), (12.0, 2.0), (10.5, 4.5), (13.5, 4.5))
GREY = (90, 90, 90)


def detector(file: Path) -> None:
    """SCRFD's outputs; the first anchor at stride 8 fires where the mean of 8 x 8 pixels is red and not blue."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes, constants = [], []
    names = [f"{kind}{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
    for stride in STRIDES:
        nodes.append(
            helper.make_node("AveragePool", ["in"], [f"mean{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        red = np.zeros((2, 3, 1, 1), np.float32)
        red[0, :, 0, 0] = (20.0, -10.0, -10.0)
        bias = np.array([-30.0, -60.0] if stride == 8 else [-90.0, -90.0], np.float32)
        none = {"bbox": BOX, "kps": np.array(MARKS).ravel()}
        layers = {"score": (red, bias)}
        for kind, value in none.items():
            many = np.tile(np.asarray(value, np.float32), 2)
            layers[kind] = (np.zeros((len(many), 3, 1, 1), np.float32), many)
        for kind, (weight, offset) in layers.items():
            name, width = f"{kind}{stride}", len(offset) // 2
            constants += [
                numpy_helper.from_array(weight, f"{name}w"),
                numpy_helper.from_array(offset, f"{name}b"),
                numpy_helper.from_array(np.array([-1, width]), f"{name}r"),
            ]
            nodes.append(helper.make_node("Conv", [f"mean{stride}", f"{name}w", f"{name}b"], [f"{name}c"]))
            nodes.append(helper.make_node("Transpose", [f"{name}c"], [f"{name}t"], perm=[0, 2, 3, 1]))
            last = f"{name}f" if kind == "score" else name
            nodes.append(helper.make_node("Reshape", [f"{name}t", f"{name}r"], [last]))
            if kind == "score":
                nodes.append(helper.make_node("Sigmoid", [last], [name]))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, {"s": 1, "b": 4, "k": 10}[name[0]]])
        for name in names
    ]
    source = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, "h", "w"])
    model = helper.make_model(
        helper.make_graph(nodes, "detector", [source], outputs, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model)
    save(model, str(file))


def recogniser(file: Path) -> None:
    """512 numbers: the mean red, green and blue over the aligned face, again and again, times 7."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    repeat = np.zeros((3, 512), np.float32)
    repeat[np.arange(512) % 3, np.arange(512)] = 7
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "repeat"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 512])],
        [numpy_helper.from_array(repeat, "repeat")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(file))


def ages(file: Path, years: float, redness: float = 0.0) -> None:
    """As insightface's genderage: 96 x 96 to (female, male, age / 100).

    The age is years + redness m, m the mean of red from -1 to 1 over the square of 1.5 times the face's box.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    weights = np.zeros((3, 3), np.float32)
    weights[0, 2] = redness / 100
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "ages",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, 96, 96])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([0.0, 1.0, years / 100], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "by-hand"
    made.mkdir()
    detector(made / "a.onnx")
    recogniser(made / "b.onnx")
    return made


@pytest.fixture(scope="module")
def analyse(folder: Path) -> FaceAnalyser:
    return FaceAnalyser(folder, det_size=(320, 320), threads=1)


def picture(
    size: tuple[int, int], spots: list[tuple[int, int, int]], colour: tuple[int, int, int] = (255, 0, 0)
) -> NDArray[np.uint8]:
    """Grey, with a square (x, y, side) for each face."""
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    for x, y, side in spots:
        image[y : y + side, x : x + side] = colour
    return image


@pytest.mark.parametrize("zoom", [1, 2])
def test_boxes_and_landmarks_are_in_pixels_of_the_given_image(analyse: FaceAnalyser, zoom: int) -> None:
    x, y, unit = 48 * zoom, 96 * zoom, 8 * zoom
    [found] = analyse(picture((320 * zoom, 320 * zoom), [(x, y, unit)]))
    assert found.box == pytest.approx((x - 2 * unit, y - unit, x + 3 * unit, y + 4 * unit))
    expected = np.array([x, y]) + np.array(MARKS) * unit
    np.testing.assert_allclose(found.landmarks, expected, rtol=1e-6)
    assert found.landmarks.dtype == np.float32
    mean = (127.5 / 128, -127.5 / 128, -127.5 / 128)
    assert found.score == pytest.approx(1 / (1 + np.exp(-(20 * mean[0] - 10 * (mean[1] + mean[2]) - 30))), abs=1e-5)


def test_images_are_rgb(analyse: FaceAnalyser) -> None:
    image = picture((320, 320), [(48, 96, 8)])
    assert len(analyse(image)) == 1
    assert analyse(np.ascontiguousarray(image[..., ::-1])) == []


def test_the_embedding_is_of_the_aligned_face_in_rgb_and_of_unit_length(analyse: FaceAnalyser) -> None:
    image = picture((320, 320), [(48, 96, 8)])
    image[40:220, 90:] = (200, 120, 30)  # holds the landmarks and the whole aligned face, and nothing else
    [found] = analyse(image)
    mean = (np.array([200, 120, 30]) - 127.5) / 127.5
    expected = mean[np.arange(512) % 3]
    assert found.embedding.shape == (512,)
    assert found.embedding.dtype == np.float32
    np.testing.assert_allclose(found.embedding, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("years", [0, 17, 63])
def test_the_age_is_that_of_the_network_for_it(folder: Path, tmp_path: Path, years: int) -> None:
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(folder / name, tmp_path / name)
    ages(tmp_path / "genderage.onnx", years)
    analyse = FaceAnalyser(tmp_path, det_size=(320, 320), threads=1)
    assert analyse.estimates_age
    [found] = analyse(picture((320, 320), [(48, 96, 8)]))
    assert (found.age, type(found.age)) == (years, int)


def test_without_that_network_no_age_is_told(analyse: FaceAnalyser) -> None:
    assert not analyse.estimates_age
    assert analyse(picture((320, 320), [(48, 96, 8)]))[0].age is None


def test_the_age_changes_nothing_else(folder: Path, tmp_path: Path, analyse: FaceAnalyser) -> None:
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(folder / name, tmp_path / name)
    ages(tmp_path / "0.onnx", 40)  # before the others by its name
    image = picture((320, 320), [(48, 96, 8)])
    [one], [other] = analyse(image), FaceAnalyser(tmp_path, det_size=(320, 320), threads=1)(image)
    assert (one.box, one.score) == (other.box, other.score)
    np.testing.assert_array_equal(one.embedding, other.embedding)


def test_a_view_of_an_array_is_as_good_as_a_copy(analyse: FaceAnalyser) -> None:
    image = picture((320, 320), [(48, 96, 8)])
    [mirrored] = analyse(image[:, ::-1])
    assert mirrored.box[0] == pytest.approx(320 - 48 - 8 - 16)


def test_every_face_is_found(analyse: FaceAnalyser) -> None:
    found = analyse(picture((320, 320), [(256, 256, 8), (48, 96, 8)]))
    assert sorted(face.box for face in found) == [(32.0, 88.0, 72.0, 128.0), (240.0, 248.0, 280.0, 288.0)]


def test_faces_are_ordered_by_area(monkeypatch: pytest.MonkeyPatch, analyse: FaceAnalyser) -> None:
    class Found:
        kps = np.zeros((5, 2), np.float32)
        embedding = np.ones(512, np.float32)

        def __init__(self, side: float, det_score: float) -> None:
            self.bbox, self.det_score = np.array([0, 0, side, side]), det_score

    class App:
        def get(self, image: NDArray[np.uint8]) -> list[Found]:
            return [Found(10, 0.9), Found(30, 0.6), Found(20, 0.8), Found(20, 0.95)]

    monkeypatch.setattr(analyse, "_app", App())
    found = analyse(np.zeros((64, 64, 3), np.uint8))
    assert [(face.area, face.score) for face in found] == [(900, 0.6), (400, 0.95), (400, 0.8), (100, 0.9)]


def test_a_line_of_pixels_holds_no_face(analyse: FaceAnalyser) -> None:
    assert analyse(np.zeros((1, 5000, 3), np.uint8)) == []


@pytest.mark.parametrize(
    "image", [np.zeros((20, 20), np.uint8), np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 3), np.float32)]
)
def test_what_is_no_image_is_named(analyse: FaceAnalyser, image: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match=r"uint8 \[height, width, 3\], not (uint8|float32) \[20, 20"):
        analyse(image)


def test_the_weights_digest_is_of_no_name(folder: Path, analyse: FaceAnalyser, tmp_path: Path) -> None:
    shutil.copy(folder / "a.onnx", tmp_path / "z.onnx")
    shutil.copy(folder / "b.onnx", tmp_path / "y.onnx")
    (tmp_path / "README.md").write_text("no weights")
    assert FaceAnalyser(tmp_path).weights_sha256 == analyse.weights_sha256
    parts = sorted(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a.onnx", "b.onnx"))
    assert analyse.weights_sha256 == hashlib.sha256("\n".join(parts).encode()).hexdigest()


def test_a_missing_folder_is_not_downloaded_but_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no face model at .*antelopev2; run: bolid models pull buffalo_l"):
        FaceAnalyser(tmp_path / "antelopev2")
    with pytest.raises(ModelError, match="holds no ONNX file; run: bolid models pull"):
        FaceAnalyser(tmp_path)


@pytest.mark.parametrize(("kept", "missing"), [("a.onnx", "recogniser"), ("b.onnx", "detector")])
def test_half_a_model_names_the_missing_half(folder: Path, tmp_path: Path, kept: str, missing: str) -> None:
    shutil.copy(folder / kept, tmp_path / kept)
    with pytest.raises(ModelError, match=f"holds no face {missing}; run: bolid models pull buffalo_l"):
        FaceAnalyser(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"<!DOCTYPE html>", b"half"])
def test_a_damaged_file_is_an_error_of_one_line(folder: Path, tmp_path: Path, damage: bytes) -> None:
    whole = (folder / "a.onnx").read_bytes()
    (tmp_path / "a.onnx").write_bytes(whole[: len(whole) // 2] if damage == b"half" else damage)
    shutil.copy(folder / "b.onnx", tmp_path / "b.onnx")
    with pytest.raises(ModelError, match=r"could not be loaded: .*; remove it and run: bolid models pull") as caught:
        FaceAnalyser(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["insightface", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed; run: pip install 'bolid\[face\]'"):
        FaceAnalyser(folder)


def test_devices_and_sizes_that_do_not_exist_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'tpu'; choose cpu, cuda or cuda:N"):
        FaceAnalyser(folder, device="tpu")
    with pytest.raises(UsageError, match="500x640 must be of multiples of 32"):
        FaceAnalyser(folder, det_size=(500, 640))


@pytest.mark.parametrize(
    ("card", "given", "said"),
    [
        (None, None, "non-commercial research only"),
        ("# x\n\n- Licence: Apache-2.0, as the code.\n", None, "Apache-2.0;"),
        ("- Licence: Apache-2.0\n", "bought", "bought;"),
    ],
)
def test_the_licence_of_the_weights_is_said_once(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    card: str | None,
    given: str | None,
    said: str,
) -> None:
    monkeypatch.setattr(face_module, "_noticed", set())
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(folder / name, tmp_path / name)
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    FaceAnalyser(tmp_path, licence=given)
    FaceAnalyser(tmp_path, licence=given)
    told = capsys.readouterr()
    assert " ".join(told.err.split()).count(f"weights {said}") == 1
    assert told.out == ""
