"""Keypoints of pictures with a gradient to their pixels: the raw maps of a pose network, read by a soft arg-max.

Every anchor of a YOLO-pose network says how sure it is of a person and where that person's keypoints are. A detector
keeps the anchor with the best score; here all anchors of that person are averaged with weights that grow with score and
confidence in the keypoint, so that the answer has a gradient through all of them (integral regression, Sun et al. 2018,
over anchors in place of pixels). Which anchors are that person's, by the overlap of their boxes, has none.

Legend: N pictures, A anchors, K = 17 keypoints of COCO.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from .pose import torch_network

KEYPOINTS = 17
PADDING = 114 / 255
"""Grey that ultralytics puts round a picture that is not square."""
SAME_PERSON = 0.5
"""Intersection over union with the best anchor's box, from which on an anchor is taken to show the same person."""
SHARPNESS = 64.0
"""Power to which an anchor's score is raised before anchors are averaged.

On 24 procedural people with the demo's network, the median distance of a body keypoint from the detector's own is
2.8 % of the torso at 8, 1.8 % at 32, 1.0 % at 64; as many anchors as 6.1, 3.2 and 2.1 share the mean. The detector's
distance from the truth is 12 % there, and within 0.2 % the same for all.
"""


@dataclass(frozen=True)
class SoftPose:
    """The most visible person of each picture.

    Attributes:
        keypoints: `[N, 17, 3]` x, y in pixels of the given pictures and confidence 0..1.
        score: `[N]`, 0..1, that there is a person; without a gradient.
    """

    keypoints: Tensor
    score: Tensor


class DifferentiablePose:
    """A frozen YOLO-pose network whose answer has a gradient to the picture.

    Args:
        weights: a `.pt` file, as `PoseEstimator` takes it.
        image_size: pixels of the longer side that pictures are scaled to; None takes the size stored with the weights.
        sharpness: see `SHARPNESS`; larger is nearer to the best anchor alone.

    Raises:
        MissingExtraError: ultralytics is not installed.
        ModelError: the file is missing, damaged or holds another kind of network.
    """

    def __init__(self, weights: Path, *, image_size: int | None = None, sharpness: float = SHARPNESS) -> None:
        self._network, stored = torch_network(weights)
        self._size, self._sharpness = image_size or stored, sharpness

    def place(self, device: torch.device) -> None:
        """Move the network; it stays in float32, since half precision moves keypoints by pixels."""
        self._network.to(device)

    def __call__(self, pictures: Tensor) -> SoftPose:
        """Read the keypoints of the most visible person of each picture.

        Args:
            pictures: `[N, 3, H, W]` RGB in 0..1.
        """
        with torch.autocast(pictures.device.type, enabled=False):
            framed, scale, corner = letterbox(pictures.float(), self._size)
            raw = self._raw(framed)
            x, y, confidence, score = soft_arg_max(raw, self._sharpness)
            keypoints = torch.stack([(x - corner[0]) / scale[0], (y - corner[1]) / scale[1], confidence], -1)
            return SoftPose(keypoints, score)

    def _raw(self, framed: Tensor) -> Tensor:
        answer: Any = self._network(framed)
        raw: Tensor = answer[0]
        if raw.ndim != 3 or raw.shape[1] != 5 + 3 * KEYPOINTS:
            raise ModelError(
                f"the pose network answers {list(raw.shape)} in place of one row an anchor; "
                "choose one without an end-to-end head, as: bolid models pull yolo11x-pose"
            )
        return raw


def letterbox(pictures: Tensor, side: int) -> tuple[Tensor, tuple[float, float], tuple[int, int]]:
    """Scale pictures to fit a square and put grey round them, as ultralytics prepares what it predicts on.

    Args:
        pictures: `[N, 3, H, W]` in 0..1.
        side: of the square, in pixels.

    Returns:
        `[N, 3, side, side]`, the factors in x and y, and where the picture's corner (x, y) went.
    """
    height, width = pictures.shape[-2:]
    ratio = min(side / height, side / width)
    to = (max(round(height * ratio), 1), max(round(width * ratio), 1))
    scaled = pictures
    if to != (height, width):  # without a low-pass filter, as the network has seen its pictures in training
        scaled = F.interpolate(pictures, to, mode="bilinear", align_corners=False)
    free = (side - to[0], side - to[1])
    top, left = round(free[0] / 2 - 0.1), round(free[1] / 2 - 0.1)
    framed = F.pad(scaled, (left, free[1] - left, top, free[0] - top), value=PADDING)
    return framed, (to[1] / width, to[0] / height), (left, top)


def soft_arg_max(raw: Tensor, sharpness: float = SHARPNESS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Average the anchors of the best person, weighted by score^sharpness times the confidence in the keypoint.

    Args:
        raw: `[N, 5 + 3 K, A]`: centre, width and height of a box, score, then x, y and confidence of each keypoint.
        sharpness: the power.

    Returns:
        x, y and confidence of each keypoint, `[N, K]`, and the score of the best anchor, `[N]`, without a gradient.
    """
    score_NA = raw[:, 4]
    x_NKA, y_NKA, sure_NKA = raw[:, 5:].reshape(len(raw), KEYPOINTS, 3, -1).unbind(2)
    best_N = score_NA.detach().argmax(1)
    same_NA = _overlap(raw[:, :4].detach(), best_N) >= SAME_PERSON
    tiny = torch.finfo(raw.dtype).tiny
    evidence_NKA = sharpness * score_NA[:, None].clamp(min=tiny).log() + sure_NKA.clamp(min=tiny).log()
    share_NKA = evidence_NKA.masked_fill(~same_NA[:, None], -torch.inf).softmax(-1)
    mean = [(share_NKA * value).sum(-1) for value in (x_NKA, y_NKA, sure_NKA)]
    return mean[0], mean[1], mean[2], score_NA.detach().amax(1)


def _overlap(boxes_N4A: Tensor, best_N: Tensor) -> Tensor:
    """Return the intersection over union of every anchor's box with the best one's, `[N, A]`; 1 for the best itself."""
    rows = torch.arange(len(best_N), device=best_N.device)
    centre, size = boxes_N4A[:, :2], boxes_N4A[:, 2:]
    low, high = centre - size / 2, centre + size / 2
    low_best, high_best = low[rows, :, best_N][..., None], high[rows, :, best_N][..., None]
    shared_NA = (torch.minimum(high, high_best) - torch.maximum(low, low_best)).clamp(min=0).prod(1)
    area_NA = size.prod(1)
    overlap_NA = shared_NA / (area_NA + area_NA[rows, best_N][:, None] - shared_NA).clamp(min=1e-9)
    overlap_NA[rows, best_N] = 1.0
    return overlap_NA
