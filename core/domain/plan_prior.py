"""Which pictures say what the adapter must not change: regularisation pictures of the set, or what the base draws."""

from dataclasses import dataclass

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidSpec
from core.domain.model import ModelInfo
from core.domain.spec import TrainingSpec


@dataclass(frozen=True)
class PriorChoice:
    """``images``: of the set; without any the base draws ``num_images`` for the prompts, in turn."""

    images: tuple[ManifestImage, ...]
    prompts: tuple[str, ...]
    num_images: int


def choose_prior(spec: TrainingSpec, manifest: DatasetManifest, model: ModelInfo) -> PriorChoice:
    """Raises InvalidSpec where the base is asked to draw what the set has."""
    asked, given = spec.loss.prior_preservation, manifest.class_images
    wanted = model.defaults.prior_num_images if asked.num_images is None else asked.num_images
    if given and asked.num_images != 0:
        if asked.num_images is not None:
            raise InvalidSpec(
                f"The dataset has {len(given)} regularisation images, which are used instead of class pictures of the "
                "base: leave num_images out, or set it to 0 to train without them.",
                {"/loss/prior_preservation/num_images": ["the dataset has images of its own for it"]},
            )
        prompts = dict.fromkeys(text for image in given if (text := call_class_image(spec, image)))
        return PriorChoice(given, tuple(prompts) or ("",), len(given))
    prompt = asked.class_prompt
    known = (prompt,) if prompt else model.class_prompts
    return PriorChoice((), known if wanted else (), wanted if known else 0)


def call_class_image(spec: TrainingSpec, image: ManifestImage) -> str:
    """Its caption, or its folder's class, never with the trigger; sd-scripts has an empty text where there is none."""
    return image.caption or spec.loss.prior_preservation.class_prompt or ""
