"""The class images: regularisation images of the set, or images that the base draws."""

from dataclasses import dataclass

from core.domain.counts import counted
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidSpec
from core.domain.model import ModelInfo
from core.domain.plan import PlannedImage
from core.domain.prompts import call_plainly
from core.domain.spec import TrainingSpec


@dataclass(frozen=True)
class PriorChoice:
    """``images``: from the set; without any the base draws ``num_images`` for the prompts, in turn."""

    images: tuple[ManifestImage, ...]
    prompts: tuple[str, ...]
    num_images: int


def choose_prior(spec: TrainingSpec, manifest: DatasetManifest, model: ModelInfo) -> PriorChoice:
    """Raises InvalidSpec if the base is to draw class images that the set already has."""
    asked, given = spec.loss.prior_preservation, manifest.class_images
    wanted = model.defaults.prior_num_images if asked.num_images is None else asked.num_images
    if given and asked.num_images != 0:
        if asked.num_images is not None:
            raise InvalidSpec(
                f"The dataset has {counted(len(given), 'regularisation image')} of its own, used instead of class "
                "images drawn by the base: leave num_images out, or set it to 0 to train without them.",
                {"/loss/prior_preservation/num_images": ["the dataset has images of its own for it"]},
            )
        prompts = dict.fromkeys(text for image in given if (text := call_class_image(spec, image)))
        return PriorChoice(given, tuple(prompts) or ("",), len(given))
    prompt = asked.class_prompt
    known = (prompt,) if prompt else model.class_prompts
    return PriorChoice((), known, wanted) if known and wanted else PriorChoice((), (), 0)


def add_plain_captions(spec: TrainingSpec, images: tuple[PlannedImage, ...]) -> tuple[PlannedImage, ...]:
    """A style's images are class images too, by their captions without the trigger: the base's own prediction must
    stay for them, as in ai-toolkit's differential output preservation. Otherwise the things in the images, not the
    trigger, invoke the style."""
    if spec.preset != "style" or not spec.trigger:
        return images
    plain = call_plainly(spec.trigger, [image.caption for image in images])
    return tuple(image.model_copy(update={"plain_caption": text}) for image, text in zip(images, plain, strict=True))


def call_class_image(spec: TrainingSpec, image: ManifestImage) -> str:
    """Its caption, or its folder's class, never with the trigger; sd-scripts uses an empty text if there is none."""
    return image.caption or spec.loss.prior_preservation.class_prompt or ""
