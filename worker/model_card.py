"""The model card of a published adapter: what the Hub shows, finds and offers to try.

https://huggingface.co/docs/hub/model-cards and https://huggingface.co/docs/hub/model-cards-widgets describe the fields.
"""

from collections.abc import Iterator, Sequence

import yaml

from core.db.publications import PublicationClaim
from core.domain.adapter_merge import Merge, describe_sources
from core.domain.model import FAMILY_FACTS

TAGS = ("text-to-image", "diffusers", "lora", "template:sd-lora")
PIPELINE = "AutoPipelineForText2Image"


def describe_adapter(claim: PublicationClaim, weights: Sequence[str]) -> str:
    """``weights``: the names of the adapter's files in the repository."""
    front = yaml.safe_dump(_front_matter(claim), allow_unicode=True, sort_keys=False, width=1000)
    return f"---\n{front}---\n\n" + "\n\n".join(_write_sections(claim, weights)) + "\n"


def _front_matter(claim: PublicationClaim) -> dict[str, object]:
    adapter, spec = claim.adapter, claim.spec
    tags = dict.fromkeys((*TAGS, FAMILY_FACTS[adapter.family].hub_tag, *adapter.tags))
    license_id = spec.license or adapter.license
    widgets = [
        {"text": picture.prompt, "output": {"url": f"images/{number}.png"}}
        for number, picture in enumerate(claim.pictures)
    ]
    given: dict[str, object] = {
        "license": license_id,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "base_model": spec.base_model,
        "base_model_relation": "adapter" if spec.base_model else None,
        "instance_prompt": adapter.trigger or None,
        "tags": list(tags),
        "widget": widgets or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _write_sections(claim: PublicationClaim, weights: Sequence[str]) -> Iterator[str]:
    adapter, spec = claim.adapter, claim.spec
    yield f"# {_plain(adapter.name)}"
    base = spec.base_model or adapter.model_id
    kind = "LoCon" if adapter.type == "locon" else "DoRA" if adapter.type == "dora" else "LoRA"
    yield f"A {kind} adapter for {FAMILY_FACTS[adapter.family].title}: {_plain(base)}."
    if adapter.description:
        yield _plain(adapter.description)
    if claim.pictures:
        yield "<Gallery />"
    if adapter.trigger:
        yield f"## Trigger\n\nSay `{_code(adapter.trigger)}` in the prompt."
    yield "## Use it\n\n" + _write_usage(claim, weights)
    yield "## How it was made\n\n" + "\n".join(f"- {fact}" for fact in _list_facts(claim))


def _write_usage(claim: PublicationClaim, weights: Sequence[str]) -> str:
    base = claim.spec.base_model or "the/base"
    prompt = claim.adapter.trigger or "your prompt"
    name = weights[-1]
    return (
        f"```python\nimport torch\nfrom diffusers import {PIPELINE}\n\n"
        f'pipeline = {PIPELINE}.from_pretrained({base!r}, torch_dtype=torch.float16).to("cuda")\n'
        f"pipeline.load_lora_weights({claim.spec.repo_id!r}, weight_name={name!r})\n"
        f"image = pipeline({prompt!r}).images[0]\n```\n\n"
        f"In ComfyUI, A1111 and Forge use `{_code(weights[0])}`."
    )


def _list_facts(claim: PublicationClaim) -> Iterator[str]:
    adapter, plan = claim.adapter, claim.outline
    yield f"Base: {_plain(adapter.model_id)}, SHA-256 of its weights `{adapter.model_sha256}`"
    yield f"Rank {adapter.rank}"
    if plan:
        yield (
            f"Trained with Atelier: {plan['steps']} steps of batch {plan['batch_size']} at {plan['resolution']} pixels,"
            " "
            f"{plan['optimizer']} with a learning rate of {plan['learning_rate']:g}, seed {plan['seed']}"
        )
    elif adapter.merge is not None:
        merge = Merge.model_validate(adapter.merge)
        how = "Extracted" if merge.method == "extract" else "Merged"
        yield f"{how} with Atelier from {_plain(describe_sources(merge.sources))}"
    else:
        yield "Imported into Atelier from a file that another tool made"
    for name, score in (adapter.metrics or {}).items():
        if name in {"validation_loss", "base_validation_loss", "retention"} and score is not None:
            yield f"{name.replace('_', ' ').capitalize()}: {score:.4g}"


def _plain(text: str) -> str:
    """As text: no HTML, heading, image or link of the writer's."""
    for char in "\\`*_[]<>#|!":
        text = text.replace(char, f"\\{char}")
    return text


def _code(text: str) -> str:
    return text.replace("`", "'")
