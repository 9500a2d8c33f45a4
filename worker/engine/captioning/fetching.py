"""Fetches a captioner from the Hugging Face Hub, on a machine with a network.

    python -m worker.engine.captioning.fetching PARENT_PID < order.json > answer.json

It alone knows the Hub's token, and opens nothing of what it fetches.
"""

import shutil

from huggingface_hub import snapshot_download

from core.domain.captioner import FetchOrder, FetchResult
from worker.answers import answer_order
from worker.engine.bases.hub import REFUSALS, explain, is_offline

WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "*.csv", "*.onnx", "*.onnx_data")
_LAYOUT = (
    "A captioner has a transformers model (config.json and .safetensors weights), or model.onnx and selected_tags.csv."
)


def fetch(order: FetchOrder) -> FetchResult:
    """As plain files. What was fetched before a failure is removed."""
    if is_offline():
        return FetchResult(
            refusal=f"{order.hub_id} cannot be fetched: HF_HUB_OFFLINE is set. Put its folder into the models "
            "directory and register its path."
        )
    try:
        snapshot_download(order.hub_id, local_dir=order.folder, allow_patterns=list(WANTED))
        shutil.rmtree(order.folder / ".cache", ignore_errors=True)
    except REFUSALS as error:
        shutil.rmtree(order.folder, ignore_errors=True)
        return FetchResult(refusal=explain(order.hub_id, error, layout=_LAYOUT))
    return FetchResult(done=True)


def main() -> None:
    answer_order(FetchOrder.model_validate_json, fetch)


if __name__ == "__main__":
    main()
