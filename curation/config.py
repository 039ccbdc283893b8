"""What `bolid curate` decides by; thresholds may change without computing anything again."""

from pydantic import Field, field_validator

from ..config import Config

LEAST_AGE = 18
"""Years; the limit of the age can be raised and not be lowered."""


class PoseConfig(Config):
    """Who counts as a person, and when a photo has one too many."""

    min_score: float = Field(0.3, ge=0, le=1)
    """Least score of the main person."""
    sure_score: float = Field(0.5, ge=0, le=1)
    """Score from which on anybody counts as a person."""
    second_person: float = Field(0.4, gt=0, le=1)
    """A photo of two people: the second one's box has at least this share of the main one's area."""
    keypoint: float = Field(0.5, ge=0, le=1)
    """Least confidence of a keypoint that was found (ultralytics leaves out the place of those below)."""
    min_keypoints: int = Field(2, ge=0, le=12)
    """Fewest body keypoints of a clear pose; a photo without a usable face needs one."""


class FaceConfig(Config):
    """Which faces are good enough to tell people apart by."""

    min_score: float = Field(0.7, ge=0, le=1)
    """Least score of the detector (Immich's)."""
    min_side: float = Field(40, ge=0)
    """Shorter side of the box, px."""
    max_roll: float = Field(60, ge=0, le=180)
    """Degrees by which a face may be turned in the picture, as that of somebody who lies."""


class IdentityConfig(Config):
    """Cosines; each that is left out is the face model's own."""

    same: float | None = Field(None, ge=-1, le=1)
    """Least cosine of two faces of one person."""
    keep: float | None = Field(None, ge=-1, le=1)
    """Least cosine of a face to its gallery's centre, beyond doubt."""
    reject: float | None = Field(None, ge=-1, le=1)
    """Below this it is somebody else; between, the photo is kept and marked for review."""
    merge: float | None = Field(None, ge=-1, le=1)
    """Least cosine of the centres of two galleries that are proposed to be one person."""
    min_faces: int = Field(3, ge=2)
    """Fewest usable faces of one person that make a gallery hers (Immich's)."""
    outlier_mad: float = Field(3.5, gt=0)
    """A doubtful face goes when it lies so many median absolute deviations below its gallery's median."""


class QualityConfig(Config):
    """Nothing is rejected for its quality unless a threshold is given."""

    min_sharpness: float | None = Field(None, ge=0)
    """Variance of the Laplacian of the person at 512 px."""
    min_exposure: float | None = Field(None, ge=0, le=1)
    """Mean luminance of the person, 0 black to 1 white."""
    max_exposure: float | None = Field(None, ge=0, le=1)
    """The same, at most."""


class ExclusionsConfig(Config):
    """Who must not be in the data."""

    min_age: int = LEAST_AGE
    """Photos with a face that is estimated younger are excluded, years; nothing of the face is stored."""

    @field_validator("min_age")
    @classmethod
    def _only_raised(cls, years: int) -> int:
        if years < LEAST_AGE:
            raise ValueError(f"the age limit can only be raised; give {LEAST_AGE} or more")
        return years


class CurateConfig(Config):
    """What `bolid curate` decides by, and with which networks."""

    min_res: int = Field(1000, ge=1)
    """Smallest short side, px."""
    max_aspect: float = Field(3.0, ge=1)
    """Largest long side / short side."""
    near_duplicate: int = Field(4, ge=0, le=64)
    """Most bits in which the 64-bit perceptual hashes of near duplicates differ."""
    min_photos: int = Field(20, ge=1)
    """Fewest kept photos of an identity."""
    pose_model: str | None = None
    """Name or file of the pose network, `none`, or the usual one if it is here."""
    face_model: str | None = None
    """Name or folder of the face model, `none`, or the usual one if it is here."""
    caption: str | None = None
    """Name or folder of the captioner, `attributes`, `none`, or the best that is here (None)."""
    device: str = "auto"
    """Of the networks: cpu, cuda, cuda:N, or auto: cuda where torch can use it."""
    pose: PoseConfig = PoseConfig()
    face: FaceConfig = FaceConfig()
    identity: IdentityConfig = IdentityConfig()
    quality: QualityConfig = QualityConfig()
    exclusions: ExclusionsConfig = ExclusionsConfig()
