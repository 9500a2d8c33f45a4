"""Descriptions in the OpenAPI document for fields and parameters that have none where they are declared.

A description beside the field takes precedence. A test checks that none is missing in the end.
"""

from collections.abc import Iterator
from typing import Any

EVERYWHERE = {
    "adapter_id": "The adapter's id, `ad_…`.",
    "attempt": "The number of the attempt, from 1; 0 before the first.",
    "check_id": "The check's id, `chk_…`.",
    "created_at": "Time of creation (UTC).",
    "data": "The items, in the documented order.",
    "dataset": "The dataset's id, `ds_…`.",
    "dataset_id": "The dataset's id, `ds_…`.",
    "delivery_id": "The delivery's id: that of its event, `evt_…`.",
    "description": "Free text; may be empty.",
    "detail": "One or two sentences that say what to do.",
    "device": "The device, such as `cpu` or `cuda:0`.",
    "device_name": "The device's product name; empty until its first job.",
    "error": "Why it failed or was rejected; null if it did not.",
    "expires_at": "Time of expiry (UTC); null: never.",
    "family": "The family of the base model.",
    "file": "The file's name, with its folders.",
    "filename": "The file's name, with its folders.",
    "finished_at": "Time of its end (UTC); null until then.",
    "first_id": "The id of the first item; null if the list is empty.",
    "format": "The key names in the file: `kohya` or `diffusers`.",
    "generation_id": "The generation's id, `gen_…`.",
    "has_more": "Whether more items follow: request those `after` the last id.",
    "id": "Its id. Ids of one type sort by age.",
    "index": "The number of the image, from 0: within its step, or its generation.",
    "job": "The job's id, `job_…`.",
    "job_id": "The job's id, `job_…`.",
    "key_id": "The key's id, `key_…`.",
    "last-event-id": "Continue after this event: the `id` of the last message received.",
    "last_id": "The id of the last item: request those `after` it.",
    "learning_rate": "The learning rate of the step.",
    "limit": "The maximum number of items.",
    "loss": "The training loss, smoothed.",
    "message": "A message for people.",
    "metadata": "Your own strings, unchanged.",
    "metrics": "The training's measurements.",
    "model": "The base model's id.",
    "model_id": "The base model's id.",
    "name": "Its name.",
    "object": "The type of this object.",
    "resolution": "The side of the square training area in pixels.",
    "scopes": "The scopes of the key.",
    "secret": "The secret itself. Keep it safe.",
    "seen_at": "Time of the last heartbeat (UTC).",
    "seq": "The number of the event within its job, from 1.",
    "sha256": "SHA-256 of the bytes, in hexadecimal.",
    "size": "Size in bytes.",
    "started_at": "Time of its first start (UTC); null until then.",
    "status": "The current status.",
    "step": "The training step, from 1; 0 is the base without an adapter.",
    "tags": "Labels to search by.",
    "target": "The id of the affected object.",
    "tenant": "The tenant's id, `ten_…`.",
    "tenant_id": "The tenant's id, `ten_…`.",
    "title": "The type of problem, in a few words.",
    "trigger": "The phrase that invokes the concept in prompts.",
    "type": "Its type.",
    "url": "Its path on the service; needs the API key.",
    "urls": "Related paths on the service.",
    "validation_loss": "The loss on the held-out images; null if it was not measured.",
}

OF_SCHEMAS: dict[str, dict[str, str]] = {
    "AdapterChange": {"name": "The new name.", "description": "The new description.", "tags": "Replaces all tags."},
    "AdapterOut": {
        "files": "The file in each format, once it is ready.",
        "model_sha256": "SHA-256 of the base model's weights.",
        "source": "Whether it was trained by a job, imported, or merged from others.",
    },
    "AdapterUrls": {"": "Paths of the adapter and its file.", "download": "The file.", "self": "The adapter."},
    "Announced": {"filename": "The file's name in the dataset.", "size": "Its size in bytes."},
    "AttemptOut": {
        "at": "Time of sending (UTC).",
        "duration_seconds": "How long the response took.",
        "error": "Why there was no response; null if there was one.",
        "excerpt": "The start of the response's body.",
        "status_code": "The response's HTTP status; null if there was none.",
    },
    "AuditEntryOut": {"": "One recorded action.", "action": "The action."},
    "CheckpointOut": {"": "A saved training state."},
    "DatasetOut": {
        "manifest_sha256": "The hash of its images and captions; null until it is ready.",
        "report": "The validation's result for every file; null until validation has ended.",
        "validated_at": "Time of validation (UTC); null until then.",
    },
    "DatasetReport": {
        "files": "Counts of all files by result, which add up; null in reports of earlier versions.",
        "left_out": "Files that were left out, and why.",
        "notes": "The recognized layout of the set, such as repeats and masks.",
        "num_files": "Files received; files within archives count one by one.",
        "num_images": "Usable images.",
        "warnings": "Possible problems for training.",
    },
    "DatasetStatus": {"": "open: accepts files; validating: being checked; ready: immutable; rejected: see error."},
    "DatasetUrls": {
        "": "Related paths.",
        "download": "Its images and captions as a .zip.",
        "finalize": "Finalizes an open dataset.",
        "images": "Its images.",
        "revisions": "Makes a revision of it.",
        "self": "The dataset.",
    },
    "Defaults": {
        "adapter_type": "The type of adapter.",
        "batch_size": "Images per step.",
        "ema": "Decay of the weights' moving average; null: no average.",
        "learning_rate": "The optimizer's learning rate.",
        "max_steps": "The most steps that a preset chooses from the number of images.",
        "min_snr_gamma": "Weighting of timesteps (arXiv 2303.09556); null: uniform.",
        "min_steps": "The fewest steps that a preset chooses from the number of images.",
        "prior_batch_size": "Class images per step; null: as many as images.",
        "prior_num_images": "Class images that the base model draws for prior preservation; 0: none.",
        "prior_weight": "The weight of the class images' loss.",
        "rank": "The adapter's rank.",
        "sample_guidance_rescale": "Strength of the guidance rescale, which limits contrast.",
        "sample_guidance_scale": "How strongly samples follow their prompts.",
        "sample_guidance_start": "The fraction of the denoising steps after which guidance starts.",
        "sample_guidance_stop": "The fraction of the denoising steps after which guidance ends.",
        "sample_num_steps": "Denoising steps per sample.",
        "schedule": "The schedule of the learning rate.",
        "steps_per_image": "Training steps per image of the set.",
        "targets": "The adapted layers.",
    },
    "DeliveryOut": {
        "created_at": "Time of the event (UTC).",
        "delivered_at": "Time of the receiver's 2xx response (UTC); null until then.",
        "type": "The event's type.",
    },
    "DeliveryStatus": {"": "pending: due now or later; delivered; failed: after the last retry; canceled: by a 410."},
    "DroppedKey": {"": "A key that a tool ignores.", "key": "Its name in the file.", "reason": "The reason."},
    "EventOut": {"data": "The event's data, by its type.", "type": "The type of event."},
    "EventType": {"": "The type of event."},
    "ErrorOut": {"type": "The type of failure, as a stable path."},
    "FileOut": {"created_at": "Time of the upload (UTC)."},
    "Health": {"": "Whether the service is alive.", "status": "`ok`: it responds."},
    "ImageOut": {
        "caption": "Its caption; null if it has none.",
        "height": "Height in pixels.",
        "name": "The name of its source file.",
        "width": "Width in pixels.",
    },
    "InitAdapterOut": {"sha256": "SHA-256 of its file."},
    "JobOut": {
        "estimate": "The estimated time and memory, from before the job ran.",
        "phase": "The current phase; null if the job is not running.",
        "progress": "The job's progress.",
        "result": "The result, once the job has succeeded.",
        "spec": "The spec as posted.",
    },
    "JobStatus": {
        "": "queued and paused wait; running, pausing and canceling are held by a worker; succeeded, failed and "
        "canceled are final."
    },
    "KeyOut": {
        "prefix": "The start of the secret.",
        "revoked_at": "Time of revocation (UTC); null: not revoked.",
    },
    "NewKey": {
        "prefix": "The start of the secret.",
        "revoked_at": "Time of revocation (UTC); null: not revoked.",
        "secret": "The key itself, which is shown only once.",
    },
    "LastSamples": {
        "": "The samples of the adapter's step.",
        "grid_url": "All of them on one labelled grid.",
        "url": "The list of all samples of the job.",
    },
    "LeftOut": {"": "A file that was left out.", "reason": "Why, and what to do."},
    "LoadProof": {
        "family": "The base model's family.",
        "tools": "How each tool loads the file.",
    },
    "Measured": {
        "": "The update that the tool's own loader applied to the base model, compared with the trained one.",
        "max_difference": "The largest relative difference of a layer's update; null if a layer got none.",
        "num_layers": "Layers that have an update in the file.",
        "num_same": "Layers whose update is the trained one.",
    },
    "MetricOut": {"seconds_per_step": "How long the step took."},
    "ModelOut": {
        "example_prompts": "Prompts for samples if a job has none.",
        "sha256": "SHA-256 of its weights; null until it was examined.",
        "status": "ready: jobs may use it; checking: a worker prepares it; rejected: see error.",
    },
    "ModelRegistration": {"description": "Free text. Default: its source."},
    "Phase": {"": "The phase of a running job."},
    "Plan": {
        "adapter_dropout": "Fraction of the adapter's inputs that is dropped in training.",
        "adapter_type": "lora: transformer blocks; dora: with magnitudes; locon: convolutions too.",
        "alpha": "The update is scaled by alpha / rank.",
        "batch_size": "Images per forward pass.",
        "betas": "The optimizer's betas; null if it has none.",
        "caption_dropout": "Fraction of captions that are replaced by an empty one.",
        "caption_keep_tokens": "Tags at the front that are not shuffled.",
        "caption_shuffle": "Whether tags are shuffled.",
        "checkpoint_every": "Steps between checkpoints.",
        "checkpoint_keep": "How many of the newest checkpoints are kept.",
        "dataset_sha256": "The hash of the dataset's images and captions.",
        "ema": "Decay of the weights' moving average; null: no average.",
        "evaluation": "Whether the scores are measured at the end.",
        "flip": "Whether images are mirrored half of the time.",
        "gradient_accumulation": "Forward passes per step.",
        "gradient_checkpointing": "Whether to save memory at the cost of time; auto: by the device's memory.",
        "huber_c": "Where the huber loss becomes linear.",
        "init_adapter": "The adapter to start from; null: a new one.",
        "learning_rate": "The optimizer's learning rate.",
        "loss_type": "l2 or huber.",
        "masks": "Whether the images' masks weight the loss.",
        "max_duration_seconds": "The job fails after this time; null: no limit.",
        "max_grad_norm": "The norm that gradients are clipped to.",
        "min_delta": "The relative drop of the held-out loss that counts as an improvement.",
        "min_snr_gamma": "Weighting of timesteps (arXiv 2303.09556); null: uniform.",
        "model_file_sha256": "SHA-256 of the single file that the base model was converted from; null: none.",
        "model_sha256": "SHA-256 of the base model's weights.",
        "name": "The adapter's name.",
        "noise_offset": "Per-channel offset of the noise.",
        "num_cycles": "Cycles of the schedule with restarts.",
        "optimizer": "The optimizer's name.",
        "patience": "Evaluations without an improvement before training ends; null: training does not end early.",
        "precision": "The precision of training; auto: by the device.",
        "prediction_type": "The quantity that the base model predicts.",
        "prior_batch_size": "Class images per step; null: as many as images.",
        "prior_num_images": "Class images that the base model draws for prior preservation; 0: none.",
        "prior_weight": "The weight of the class images' loss.",
        "rank": "The rank of the update.",
        "rslora": "Whether the update is scaled by alpha / sqrt(rank) instead.",
        "sample_every": "Steps between grids.",
        "sample_guidance_rescale": "Strength of the guidance rescale, which limits contrast.",
        "sample_guidance_scale": "How strongly samples follow their prompts.",
        "sample_guidance_start": "The fraction of the denoising steps after which guidance starts.",
        "sample_guidance_stop": "The fraction of the denoising steps after which guidance ends.",
        "sample_num_steps": "Denoising steps per sample.",
        "sample_prompts": "The prompts of the samples.",
        "sample_seed": "The seed of the samples' noise.",
        "schedule": "The schedule of the learning rate.",
        "seed": "The seed of all random draws in training.",
        "steps": "The number of optimizer steps.",
        "targets": "The adapted layers of the transformer blocks.",
        "text_encoder_learning_rate": "The text encoders' learning rate; null: they are not trained.",
        "text_encoder_rank": "The rank of the text encoders' adapter; null: they are not trained.",
        "trigger": "The phrase that invokes the concept; may be empty.",
        "validation_every": "Steps between evaluations on the held-out images.",
        "warmup_steps": "Steps in which the learning rate rises.",
        "weight_decay": "How strongly weights decay towards 0.",
    },
    "IgnoredKey": {
        "": "A tensor of an imported file that was ignored.",
        "key": "Its name in the file.",
        "reason": "Why it does not fit.",
    },
    "Problem": {
        "errors": "The faults: JSON pointers into the body, or `/query/…`, with messages.",
        "instance": "The path of the request.",
        "status": "The HTTP status of the response.",
        "type": "The type of problem, as a stable path.",
    },
    "Progress": {
        "num_steps": "The total number of steps.",
        "percent": "Percentage of the steps that are done.",
        "seconds_per_step": "The pace; null before the first step.",
        "step": "Steps that are done.",
        "units_done": "For phases without steps: how many images are cached or drawn.",
        "units_total": "The total number of units; null if the phase has none.",
    },
    "Readiness": {
        "": "Whether the service can work.",
        "checks": "For each part of the service: `ok`, or its problem.",
        "status": "`ok`: every part responds.",
    },
    "ReportWarning": {"": "A warning about a dataset.", "code": "Its type.", "files": "The files concerned."},
    "Result": {"": "The result of a training.", "adapter": "The file in each format."},
    "ResultMetrics": {
        "num_parameters": "The number of trained parameters.",
        "peak_memory_bytes": "The peak memory use.",
        "seconds_per_image": "Time to draw one sample.",
        "seconds_per_sample": "Training time per image of a step.",
        "stopped_early": "Whether training ended before the last step.",
    },
    "SampleImage": {"": "A sample image.", "prompt": "Its prompt.", "seed": "The seed of its noise."},
    "SampleOut": {"grid": "All of them on one labelled grid.", "images": "In the order of the prompts."},
    "SecretOut": {"secret": "`whsec_…`, in the form of Standard Webhooks."},
    "TenantOut": {"": "A tenant: its users share datasets, jobs and adapters that no other tenant can see."},
    "ToolProof": {
        "dropped": "Keys that it ignores; at most twenty.",
        "loads": "Whether every key reaches a layer that it fits.",
        "notes": "Notes about the tool and this file.",
        "measured": "The result of its own loader; null if that was not run.",
        "num_keys": "Keys in the file.",
        "num_misplaced": "Keys that reach the wrong layer.",
        "num_resolved": "Keys that reach a layer.",
        "opens_base": "Whether the tool can open such a base model at all.",
        "offered": "Whether the tool lists the file for such a base model.",
        "required": "Whether Atelier promises that this type of file loads here.",
        "tool": "The tool's name.",
        "verdict": "same: the trained update; differs: nearly; wrong: another update; partial: a part; nothing.",
    },
    "UploadOut": {
        "expires_at": "Time at which the address expires (UTC).",
        "filename": "The file's name in the dataset.",
        "headers": "Send them unchanged.",
        "method": "The HTTP method.",
        "url": "Where to send the bytes, without the API key.",
    },
    "UploadsRequest": {"": "Files to be sent straight to the store.", "files": "The files."},
    "Urls": {
        "": "Related paths.",
        "adapter": "The finished adapter.",
        "cancel": "Cancels the job.",
        "events": "The job's events.",
        "self": "The job.",
    },
    "UsageOut": {"": "A tenant's usage and limits.", "stored_bytes": "Bytes in storage."},
    "Used": {"limit": "The limit; null: unlimited.", "used": "The current usage."},
    "WorkerOut": {"": "A training worker with a recent heartbeat."},
}
"""By the schema's name and the field's; the empty name is the schema itself."""

OF_PARAMETERS = {
    "action": "Only entries of this action.",
    "filename": "The file's name in the dataset, with its folders.",
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
    """Fills in the missing descriptions."""
    for name, schema in document["components"]["schemas"].items():
        _describe(name, schema)
    for operation in list_operations(document):
        for parameter in operation.get("parameters", ()):
            if not parameter.get("description"):
                name = parameter["name"]
                parameter["description"] = OF_PARAMETERS.get(name) or EVERYWHERE.get(name, "")


def tell_defaults(document: dict[str, Any]) -> None:
    """Defaults of request fields become words instead of the keyword: openapi-typescript (7.13) makes a field with a
    default a required one."""
    schemas = document["components"]["schemas"]
    for name in _list_sent(document):
        for field in schemas[name].get("properties", {}).values():
            default = field.pop("default", None)
            if default is not None and "Default:" not in field["description"]:
                field["description"] += f" Default: {_say(default)}."


def _say(default: Any) -> str:
    return ", ".join(map(_say, default)) if isinstance(default, list) else str(default).lower()


def _list_sent(document: dict[str, Any]) -> set[str]:
    """The schemas of request bodies, and those within them."""
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
    """The operations of the paths and of the webhooks."""
    for methods in (*document["paths"].values(), *document.get("webhooks", {}).values()):
        yield from methods.values()
