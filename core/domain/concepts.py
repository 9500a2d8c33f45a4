"""Several datasets in one job: each with its own trigger, repeats and weight, or as the class images of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydantic import Field, model_validator

from core.domain.dataset import DatasetManifest
from core.domain.numbers import StrictBool, StrictFloat, StrictInt
from core.domain.phrases import Phrase
from core.domain.spec_part import SpecPart

MAX_CONCEPTS = 8
_OF_SUBJECTS = ("trigger", "repeats", "weight")


class ConceptSpec(SpecPart):
    """A further dataset of a job."""

    id: str = Field(min_length=1, max_length=100, description="The dataset's id.")
    trigger: Phrase | None = Field(None, description="The phrase that invokes its concept. Default: the job's.")
    repeats: StrictInt = Field(1, ge=1, le=100, description="How often each of its images occurs in an epoch.")
    weight: StrictFloat = Field(
        1.0, gt=0, le=10, allow_inf_nan=False, description="The weight of its images' loss; 1 as the others'."
    )
    prior: StrictBool = Field(
        False, description="Its images are class images for prior preservation, in place of those that the base draws."
    )

    @model_validator(mode="after")
    def _prior_has_no_concept(self) -> Self:
        if self.prior and self.model_fields_set.intersection(_OF_SUBJECTS):
            raise ValueError("class images have no trigger, repeats or weight: leave them out")
        return self


@dataclass(frozen=True)
class Concepts:
    """What a plan says otherwise of images of further datasets, by their names in the joined manifest."""

    triggers: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


def join_datasets(
    first: DatasetManifest, others: Sequence[tuple[ConceptSpec, DatasetManifest]]
) -> tuple[DatasetManifest, Concepts]:
    """One manifest of all images; those of further datasets are named ``<dataset's id>/<name>``."""
    images, triggers, weights = [*first.images], {}, {}
    for concept, manifest in others:
        for image in manifest.images:
            name = f"{concept.id}/{image.name}"
            role = "class" if concept.prior else image.role
            images.append(
                image.model_copy(update={"name": name, "role": role, "repeats": image.repeats * concept.repeats})
            )
            if concept.trigger is not None:
                triggers[name] = concept.trigger
            if concept.weight != 1:
                weights[name] = concept.weight
    return DatasetManifest(images=tuple(images)), Concepts(triggers, weights)
