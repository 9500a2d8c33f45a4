"""What the OpenAPI document says of fields and parameters that do not describe themselves where they are declared.

A description beside the field stands over these. A test holds that none is missing in the end.
"""

from collections.abc import Iterator
from typing import Any

EVERYWHERE = {
    "adapter_id": "The adapter's id, `ad_…`.",
    "attempt": "Which try of the job, from 1; 0 before the first.",
    "created_at": "When it was made (UTC).",
    "data": "The items, in the order that the call names.",
    "dataset": "The dataset's id, `ds_…`.",
    "dataset_id": "The dataset's id, `ds_…`.",
    "delivery_id": "The delivery's id: that of its event, `evt_…`.",
    "description": "Words for people; may be empty.",
    "detail": "One or two sentences that say what to do.",
    "device": "Such as `cpu` or `cuda:0`.",
    "device_name": "What the device's maker calls it; empty until its first job.",
    "error": "Why it failed or was rejected; null where it did not.",
    "expires_at": "Until when it is valid (UTC); null: without end.",
    "family": "Which kind of Stable Diffusion: `sd1`, `sd2` or `sdxl`.",
    "file": "The file's name, with its folders.",
    "filename": "The file's name, with its folders.",
    "finished_at": "When it ended (UTC); null until then.",
    "first_id": "The id of the first item; null where there is none.",
    "format": "Which tools' key names the file has: `kohya` or `diffusers`.",
    "has_more": "Whether more items follow: ask for those `after` the last id.",
    "id": "Its id. Ids of one kind sort by age.",
    "index": "Which picture of the step, from 0.",
    "job": "The job's id, `job_…`.",
    "job_id": "The job's id, `job_…`.",
    "key_id": "The key's id, `key_…`.",
    "last-event-id": "Go on after this event: the `id` of the last message that was read.",
    "last_id": "The id of the last item: ask for those `after` it.",
    "learning_rate": "The learning rate of the step.",
    "limit": "How many items at most.",
    "loss": "The training loss, smoothed.",
    "message": "A sentence for people.",
    "metadata": "Your own strings, as they were sent.",
    "metrics": "What the training measured.",
    "model": "The base model's id.",
    "model_id": "The base model's id.",
    "name": "What it is called.",
    "object": "The kind of thing this is.",
    "resolution": "Side of a square in pixels.",
    "scopes": "What the key may do.",
    "secret": "The secret itself. Keep it.",
    "seen_at": "When it was last heard of (UTC).",
    "seq": "The number of the event within its job, from 1.",
    "sha256": "SHA-256 of the bytes, in hexadecimal.",
    "size": "In bytes.",
    "started_at": "When it first began (UTC); null until then.",
    "status": "What has become of it so far.",
    "step": "The training step, from 1; 0 is the base without an adapter.",
    "tags": "Words to find it by.",
    "target": "The id of what it was done to.",
    "tenant": "The tenant's id, `ten_…`.",
    "tenant_id": "The tenant's id, `ten_…`.",
    "title": "The kind of problem, in a few words.",
    "trigger": "The phrase that calls the concept in prompts.",
    "type": "What kind it is.",
    "url": "Where it is, relative to the service; it needs the API key.",
    "urls": "Where to go on from here, relative to the service.",
    "validation_loss": "The loss on the held-out pictures; null where none was measured.",
}

OF_SCHEMAS: dict[str, dict[str, str]] = {
    "AdapterChange": {"name": "A new name.", "description": "A new description.", "tags": "All tags anew."},
    "AdapterOut": {
        "files": "The file in each format, once it is ready.",
        "model_sha256": "SHA-256 of the base's weights.",
        "source": "Whether a job made it or it was imported.",
    },
    "AdapterUrls": {"": "Where an adapter is, and where its file is.", "download": "The file.", "self": "The adapter."},
    "Announced": {"filename": "The name that the file gets in the dataset.", "size": "Its length in bytes."},
    "AttemptOut": {
        "at": "When it was sent (UTC).",
        "duration_seconds": "How long the answer took.",
        "error": "Why there was no answer; null where there was.",
        "excerpt": "How the answer's body began.",
        "status_code": "The answer's status; null where there was none.",
    },
    "AuditEntryOut": {"": "Something that somebody did.", "action": "What was done."},
    "CheckpointOut": {"": "A state of the training that is kept."},
    "DatasetOut": {
        "manifest_sha256": "The hash of its images and captions; null until it is ready.",
        "report": "What became of every file; null until it was validated.",
        "validated_at": "When it was validated (UTC); null until then.",
    },
    "DatasetReport": {
        "files": "What became of all files, in numbers that add up; null in reports of earlier versions.",
        "left_out": "Files that were not taken, and why.",
        "notes": "What was understood of the set's layout, such as repeats and masks.",
        "num_files": "Files received, those within archives counted one by one.",
        "num_images": "Images that can be trained on.",
        "warnings": "What may keep the set from teaching what it should.",
    },
    "DatasetStatus": {"": "open: takes files; validating: a worker reads it; ready: it stays so; rejected: see error."},
    "DatasetUrls": {
        "": "Where to go on from a dataset.",
        "finalize": "Closes an open dataset.",
        "images": "Its images.",
        "self": "The dataset.",
    },
    "Defaults": {
        "adapter_type": "The kind of adapter.",
        "batch_size": "Pictures in a step.",
        "ema": "Decay of the weights' moving average; null: none is kept.",
        "learning_rate": "The optimizer's learning rate.",
        "max_steps": "The most steps that are chosen by the number of pictures.",
        "min_snr_gamma": "How timesteps are weighed (arXiv 2303.09556); null: all alike.",
        "min_steps": "The fewest steps that are chosen by the number of pictures.",
        "prior_batch_size": "Class pictures in a step; null: as many as pictures.",
        "prior_num_images": "Class pictures that the base draws for prior preservation; 0: none.",
        "prior_weight": "The class pictures' loss against the pictures'.",
        "rank": "The adapter's rank.",
        "sample_guidance_rescale": "How far guidance may not raise the contrast.",
        "sample_guidance_scale": "How strongly sample pictures follow their prompts.",
        "sample_guidance_start": "The part of the steps after which guidance begins.",
        "sample_guidance_stop": "The part of the steps after which guidance ends.",
        "sample_num_steps": "Denoising steps of sample pictures.",
        "schedule": "How the learning rate goes over the steps.",
        "steps_per_image": "Steps for each picture of the set.",
        "targets": "Which layers are adapted.",
    },
    "DeliveryOut": {
        "created_at": "When the event happened (UTC).",
        "delivered_at": "When the receiver answered with 2xx (UTC); null until then.",
        "type": "The event's.",
    },
    "DeliveryStatus": {"": "pending: due now or later; delivered; failed: after the last try; canceled: by a 410."},
    "DroppedKey": {"": "A key that a tool leaves out.", "key": "Its name in the file.", "reason": "Why."},
    "EventOut": {"data": "What the event says, by its type.", "type": "What happened."},
    "EventType": {"": "What can happen to a job."},
    "Failure": {"type": "The reason, as a path that does not change."},
    "FileOut": {"created_at": "When it was received (UTC)."},
    "Health": {"": "Whether the service is alive.", "status": "`ok`: it answers."},
    "ImageOut": {
        "caption": "Its caption; null where there is none.",
        "height": "In pixels.",
        "name": "The name of the file it came from.",
        "width": "In pixels.",
    },
    "InitAdapterOut": {"sha256": "SHA-256 of its file."},
    "JobOut": {
        "estimate": "What the job takes, said before it ran.",
        "phase": "What it is doing while it runs; null while it does not.",
        "progress": "How far it is.",
        "result": "What came of it, once it has succeeded.",
        "spec": "As it was posted.",
    },
    "JobStatus": {
        "": "queued and paused wait; running, pausing and canceling are held by a worker; succeeded, failed and "
        "canceled are final."
    },
    "KeyOut": {
        "prefix": "How the secret begins.",
        "revoked_at": "When it was revoked (UTC); null: it was not.",
    },
    "NewKey": {
        "prefix": "How the secret begins.",
        "revoked_at": "When it was revoked (UTC); null: it was not.",
        "secret": "The key itself: it is shown this once.",
    },
    "LastSamples": {
        "": "The samples of the adapter's step.",
        "grid_url": "All of them on one labelled grid.",
        "url": "The list of all samples of the job.",
    },
    "LeftOut": {"": "A file that was not taken.", "reason": "Why, and what to do."},
    "LoadProof": {
        "family": "Of the base.",
        "images_match": "Whether both formats draw the same picture in diffusers; null: nobody has looked.",
        "max_pixel_difference": "How far they are apart at most, in steps of 0 to 255.",
        "tools": "What each tool makes of the file.",
    },
    "Measured": {
        "": "What the tool's own loader put on the base's layers, held against what was trained.",
        "max_difference": "The largest difference of a layer's update, as a share of it; null where a layer got none.",
        "num_layers": "Layers that the file has an update for.",
        "num_same": "Layers whose update arrived.",
    },
    "MetricOut": {"seconds_per_step": "How long the step took."},
    "ModelOut": {
        "example_prompts": "What samples are drawn for where a job names no prompts.",
        "sha256": "Of its weights; null until it was looked at.",
        "status": "ready: jobs may name it; checking: a worker prepares it; rejected: see error.",
    },
    "ModelRegistration": {"description": "Words for people. Default: where it came from."},
    "Phase": {"": "What a running job is doing."},
    "Plan": {
        "adapter_dropout": "Part of the adapter's inputs that is dropped while training.",
        "adapter_type": "lora: transformer blocks; dora: with magnitudes; locon: convolutions too.",
        "alpha": "The update is scaled by alpha / rank.",
        "batch_size": "Pictures in a forward pass.",
        "betas": "The optimizer's; null for one that has none.",
        "caption_dropout": "Part of captions left empty.",
        "caption_keep_tokens": "Tags at the front that shuffling leaves in place.",
        "caption_shuffle": "Whether tags are shuffled.",
        "checkpoint_every": "Steps between checkpoints.",
        "checkpoint_keep": "How many of the newest are kept.",
        "dataset_sha256": "The hash of the dataset's images and captions.",
        "ema": "Decay of the weights' moving average; null: none is kept.",
        "evaluation": "Whether the scores are measured at the end.",
        "flip": "Whether half of the draws are mirrored.",
        "gradient_accumulation": "Batches before a step.",
        "gradient_checkpointing": "Whether memory is saved at the cost of time; auto: by the device.",
        "huber_c": "Where the huber loss turns linear.",
        "init_adapter": "The adapter that it goes on from; null: a fresh one.",
        "learning_rate": "The optimizer's learning rate.",
        "loss_type": "l2 or huber.",
        "masks": "Whether pictures' masks weigh the loss.",
        "max_duration_seconds": "After which the job fails; null: no limit.",
        "max_grad_norm": "To which gradients are clipped.",
        "min_delta": "By which part the held-out loss has to fall to count as better.",
        "min_snr_gamma": "How timesteps are weighed (arXiv 2303.09556); null: all alike.",
        "model_file_sha256": "Of the single file that the base was converted from; null: it was not.",
        "model_sha256": "SHA-256 of the base's weights.",
        "name": "What the adapter is called.",
        "noise_offset": "Per-channel offset of the noise.",
        "num_cycles": "Cycles of the schedule with restarts.",
        "optimizer": "The optimizer's name.",
        "patience": "Evaluations without a better loss after which training ends; null: it does not.",
        "precision": "auto: by the device.",
        "prediction_type": "What the base predicts.",
        "prior_batch_size": "Class pictures in a step; null: as many as pictures.",
        "prior_num_images": "Class pictures that the base draws for prior preservation; 0: none.",
        "prior_weight": "The class pictures' loss against the pictures'.",
        "rank": "Width of the low-rank update.",
        "rslora": "Whether the update is scaled by alpha / sqrt(rank) instead.",
        "sample_every": "Steps between grids.",
        "sample_guidance_rescale": "How far guidance may not raise the contrast.",
        "sample_guidance_scale": "How strongly samples follow their prompts.",
        "sample_guidance_start": "The part of the steps after which guidance begins.",
        "sample_guidance_stop": "The part of the steps after which guidance ends.",
        "sample_num_steps": "Denoising steps of a sample.",
        "sample_prompts": "What samples are drawn for.",
        "sample_seed": "Of the samples' noise.",
        "schedule": "How the learning rate goes over the steps.",
        "seed": "Of all that is drawn in training.",
        "steps": "How many times the weights are changed.",
        "targets": "Which layers of the transformer blocks are adapted.",
        "text_encoder_learning_rate": "Of the text encoders; null: they are not trained.",
        "text_encoder_rank": "Of the text encoders' adapter; null: they are not trained.",
        "trigger": "The phrase that calls the concept; may be empty.",
        "validation_every": "Steps between looks at the held-out pictures.",
        "warmup_steps": "Steps in which the learning rate rises.",
        "weight_decay": "How strongly weights are pulled towards 0.",
    },
    "IgnoredKey": {
        "": "A tensor of an imported file that was not taken over.",
        "key": "Its name in the file.",
        "reason": "Why it does not fit.",
    },
    "Problem": {
        "errors": "What is wrong where: JSON pointers into the body, or `/query/…`, with messages.",
        "instance": "The path of the request.",
        "status": "The answer's HTTP status.",
        "type": "The kind of problem, as a path that does not change.",
    },
    "Progress": {
        "num_steps": "How many steps there are in all.",
        "percent": "Of the steps.",
        "seconds_per_step": "The pace; null before the first step.",
        "step": "Steps that are done.",
        "units_done": "Within a phase that counts no steps, such as images that are cached or drawn.",
        "units_total": "Of how many units; null where the phase counts none.",
    },
    "Readiness": {
        "": "Whether the service can work.",
        "checks": "Each part that it needs: `ok`, or what is wrong.",
        "status": "`ok`: every part answers.",
    },
    "ReportWarning": {"": "Something to look at in a dataset.", "code": "What it is about.", "files": "Which files."},
    "Result": {"": "What came of a training.", "adapter": "The file in each format."},
    "ResultMetrics": {
        "num_parameters": "How many numbers were trained.",
        "peak_memory_bytes": "The most memory that was taken at once.",
        "seconds_per_picture": "Time to draw one sample.",
        "seconds_per_sample": "Time for one picture of a step.",
        "stopped_early": "Whether training ended before all steps.",
    },
    "SampleImage": {"": "A picture that was drawn.", "prompt": "What it was drawn for.", "seed": "Of its noise."},
    "SampleOut": {"grid": "All of them on one labelled grid.", "images": "In the order of the prompts."},
    "SecretOut": {"secret": "`whsec_…`, as Standard Webhooks have it."},
    "TenantOut": {"": "Those who share datasets, jobs and adapters, and whom nobody else sees."},
    "ToolProof": {
        "dropped": "Keys that it leaves out, twenty at most.",
        "loads": "Whether every key lands on a layer that it fits.",
        "notes": "What to know of the tool and this file.",
        "measured": "What its own loader did; null where that was not run.",
        "num_keys": "Keys in the file.",
        "num_misplaced": "Keys that land on another layer than their own.",
        "num_resolved": "Keys that land on a layer.",
        "opens_base": "Whether the tool can open such a base at all.",
        "offered": "Whether the tool shows the file for such a base.",
        "required": "Whether this kind of file is promised to load here.",
        "tool": "The tool's name.",
        "verdict": "same: the trained update arrives; differs: nearly; wrong: another one; partial: a part; nothing.",
    },
    "UploadOut": {
        "expires_at": "Until when the address takes the file (UTC).",
        "filename": "The name that the file gets in the dataset.",
        "headers": "To be sent as they are.",
        "method": "The HTTP method.",
        "url": "Where to send the bytes, without the API key.",
    },
    "UploadsRequest": {"": "Files that will be sent straight to the store.", "files": "What each of them is."},
    "Urls": {
        "": "Where to go on from a job.",
        "adapter": "The finished adapter.",
        "cancel": "Ends the job.",
        "events": "What happens to it.",
        "self": "The job.",
    },
    "UsageOut": {"": "What a tenant uses of what it may.", "stored_bytes": "Bytes in storage."},
    "Used": {"limit": "How much is allowed; null: there is no limit.", "used": "How much is used."},
    "WorkerOut": {"": "A training worker that was heard of just now."},
}
"""By the schema's name and the field's; the empty name is the schema itself."""

OF_PARAMETERS = {
    "action": "Only entries of this action.",
    "filename": "The name that the file gets in the dataset, with its folders.",
    "format": "`kohya` for A1111, Forge, ComfyUI and sd-scripts, or `diffusers`.",
    "model": "Only those of this base model.",
    "sha256": "The image's hash, as the list of images has it.",
    "status": "Only those with this status.",
    "step": "The training step.",
    "tag": "Only those with this tag.",
    "trigger": "Only those with this trigger.",
}
_PAGE = "A page of a list. Continue with `after` = `last_id` while `has_more`."


def describe_all(document: dict[str, Any]) -> None:
    """Fills in what is not described."""
    for name, schema in document["components"]["schemas"].items():
        _describe(name, schema)
    for operation in list_operations(document):
        for parameter in operation.get("parameters", ()):
            if not parameter.get("description"):
                name = parameter["name"]
                parameter["description"] = OF_PARAMETERS.get(name) or EVERYWHERE.get(name, "")


def tell_defaults(document: dict[str, Any]) -> None:
    """In words instead of the keyword, for what is sent: of a field with a default, openapi-typescript (7.13) makes one
    that has to be there."""
    schemas = document["components"]["schemas"]
    for name in _list_sent(document):
        for field in schemas[name].get("properties", {}).values():
            default = field.pop("default", None)
            if default is not None and "Default:" not in field["description"]:
                field["description"] += f" Default: {_say(default)}."


def _say(default: Any) -> str:
    return ", ".join(map(_say, default)) if isinstance(default, list) else str(default).lower()


def _list_sent(document: dict[str, Any]) -> set[str]:
    """The schemas of bodies, and those within them."""
    bodies = [
        operation.get("requestBody", {}) for methods in document["paths"].values() for operation in methods.values()
    ]
    found: set[str] = set()
    waiting = _list_references(bodies)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _list_references(document["components"]["schemas"][name])
    return found


def _list_references(part: Any) -> set[str]:
    if isinstance(part, list):
        return set().union(*map(_list_references, part))
    if not isinstance(part, dict):
        return set()
    own = {part["$ref"].rpartition("/")[2]} if isinstance(part.get("$ref"), str) else set()
    return own.union(*map(_list_references, part.values()))


def _describe(name: str, schema: dict[str, Any]) -> None:
    own = OF_SCHEMAS.get(name, {})
    if not schema.get("description"):
        schema["description"] = _PAGE if name.startswith("Page_") else own.get("", "")
    for field, described in schema.get("properties", {}).items():
        if not described.get("description"):
            described["description"] = own.get(field) or EVERYWHERE.get(field, "")


def list_operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of the paths and of the webhooks."""
    for methods in (*document["paths"].values(), *document.get("webhooks", {}).values()):
        yield from methods.values()
