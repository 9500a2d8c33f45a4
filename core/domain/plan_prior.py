"""The class images: regularisation images of the set, or images that the base draws."""

from dataclasses import dataclass

from core.domain.captions import teach
from core.domain.counts import counted
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidSpec
from core.domain.model import ModelInfo
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
    if not known or not wanted:
        return PriorChoice((), (), 0)
    plain = _call_without_style(spec, manifest)[: wanted // 2]
    return PriorChoice((), (*plain, *known), wanted)


def _call_without_style(spec: TrainingSpec, manifest: DatasetManifest) -> tuple[str, ...]:
    """A style's captions without its trigger: the base must keep drawing the same things in its own way, as in
    ai-toolkit's differential output preservation. Otherwise the things, not the trigger, invoke the style."""
    if spec.preset != "style" or not spec.trigger:
        return ()
    captions = [teach(spec, image.caption) for image in manifest.subjects]
    return tuple(dict.fromkeys(call_plainly(spec.trigger, captions)))


def call_class_image(spec: TrainingSpec, image: ManifestImage) -> str:
    """Its caption, or its folder's class, never with the trigger; sd-scripts uses an empty text if there is none."""
    return image.caption or spec.loss.prior_preservation.class_prompt or ""
