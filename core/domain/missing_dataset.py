"""Checks a spec whose dataset is still to come: a spec that no dataset would fit is refused before the upload."""

from collections.abc import Callable, Iterator

from core.domain.dataset import DatasetManifest, ManifestImage, Role
from core.domain.errors import InvalidSpec
from core.domain.model import ModelInfo
from core.domain.resolve import MIN_IMAGES_TO_HOLD_OUT
from core.domain.spec import MAX_STEPS, TrainingSpec

Planner = Callable[[TrainingSpec, DatasetManifest], object]
"""Raises InvalidSpec if the spec does not fit the dataset."""


def check_without_dataset(spec: TrainingSpec, model: ModelInfo, plan: Planner) -> None:
    """Plans with stand-ins for the dataset. Raises InvalidSpec if none of them fits: the first refusal that blames the
    spec itself, not the stand-in."""
    if spec.steps is None:  # the more images, the more steps
        spec = spec.model_copy(update={"steps": MAX_STEPS, "epochs": None})
    refusals = []
    for manifest in _stand_ins(model):
        try:
            plan(spec, manifest)
        except InvalidSpec as refusal:
            refusals.append(refusal)
        else:
            return
    raise next((refusal for refusal in refusals if "/dataset" not in refusal.errors), refusals[0])


def _stand_ins(model: ModelInfo) -> Iterator[DatasetManifest]:
    """They differ in what plans depend on: images to hold out, images for a batch, regularisation images."""
    for num_class_images in (0, 1):
        for num_subjects in (MIN_IMAGES_TO_HOLD_OUT, 2, 1):
            subjects = [_stand_in(model, number, "subject") for number in range(num_subjects)]
            class_images = [_stand_in(model, num_subjects + number, "class") for number in range(num_class_images)]
            yield DatasetManifest(images=(*subjects, *class_images))


def _stand_in(model: ModelInfo, number: int, role: Role) -> ManifestImage:
    return ManifestImage(
        name=f"{number}.png", key="", sha256=f"{number:064x}", size=1, width=model.resolution, height=model.resolution,
        caption="a caption", dhash="0" * 16, sharpness=100.0, role=role,
    )  # fmt: skip
