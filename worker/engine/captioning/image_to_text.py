"""Captioners of transformers: whatever its ``AutoModelForImageTextToText`` opens, such as BLIP, BLIP-2, Florence-2, GIT
and chat models with vision. Weights are read from safetensors alone, and no code of a repository is run."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from core.domain.captioner import CaptionerKind
from worker.engine.cores import choose_threads
from worker.engine.errors import BadInput, describe_unexpected

MAX_NEW_TOKENS = 256
CHAT_PROMPT = "Describe this image in one or two sentences."
TASK_OF = {"florence2": "<CAPTION>"}
"""What models that do nothing without a task are asked for by default."""
CONTINUING = frozenset({"blip", "git"})
"""Their prompt is the beginning of the caption; what others answer does not contain the prompt."""


class ImageToText:
    """``prompt``: None for the model's default."""

    kind: CaptionerKind = "image-to-text"
    num_tags = None

    def __init__(self, folder: Path, *, device: str, cpu_threads: int, prompt: str | None) -> None:
        """Raises BadInput for a folder that is not a captioner."""
        self._device = torch.device(device)
        if self._device.type == "cpu":
            torch.set_num_threads(choose_threads(cpu_threads))
        try:
            self._processor = _open_processor(folder)
            self._model = _open_model(folder, self._device)
        except BadInput:
            raise
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a broken or foreign configuration fails wherever it is read
            raise BadInput(f"transformers cannot load it: {describe_unexpected(error)}") from error
        self._model_type = str(getattr(self._model.config, "model_type", ""))
        self._is_chat = bool(getattr(self._processor, "chat_template", None))
        self._prompt = prompt
        self.takes_prompt = self._is_chat or self._model_type in TASK_OF

    @property
    def architecture(self) -> str:
        return type(self._model).__name__

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._model.parameters())

    def try_prompt(self, image: Image.Image) -> None:
        """Finds out whether a prompt can be given, by giving one."""
        if not self.takes_prompt:
            try:
                self._write(image, "a photo of")
                self.takes_prompt = True
            except Exception:  # each processor and model refuses text in its own way
                self.takes_prompt = False

    def caption(self, image: Image.Image) -> str:
        try:
            return self._write(image, self._prompt)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # as above
            raise BadInput(f"The model cannot caption an image: {describe_unexpected(error)}") from error

    def _write(self, image: Image.Image, prompt: str | None) -> str:
        inputs = self._prepare(image, prompt).to(self._device)
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[name] = value.to(self._model.dtype)
        with torch.inference_mode():
            written = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        tokens = self._drop_prompt(written[0], inputs.get("input_ids"))
        text: str = self._processor.decode(tokens, skip_special_tokens=True)
        return text

    def _prepare(self, image: Image.Image, prompt: str | None) -> Any:
        if self._is_chat:
            content = [{"type": "image", "image": image}, {"type": "text", "text": prompt or CHAT_PROMPT}]
            return self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        text = prompt or TASK_OF.get(self._model_type)
        extra = {} if text is None else {"text": text}
        return self._processor(images=image, return_tensors="pt", **extra)

    def _drop_prompt(self, written: torch.Tensor, asked: torch.Tensor | None) -> torch.Tensor:
        if asked is None or self._model_type in CONTINUING:
            return written
        length = asked.shape[1]
        return written[length:] if torch.equal(written[:length], asked[0]) else written


class _Pair:
    """The processor of a repository that states an image processor and a tokenizer by themselves."""

    chat_template = None

    def __init__(self, folder: Path) -> None:
        self._images = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def __call__(self, images: Image.Image, return_tensors: str) -> Any:
        """Takes no text: a prompt fails."""
        return self._images(images=images, return_tensors=return_tensors)

    def decode(self, tokens: torch.Tensor, skip_special_tokens: bool) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
        return text


def _open_processor(folder: Path) -> Any:
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return processor if getattr(processor, "image_processor", None) is not None else _Pair(folder)


def _open_model(folder: Path, device: torch.device) -> Any:
    """In half precision on a GPU. Raises BadInput for weights that do not fit the configuration: transformers would
    draw the missing ones at random."""
    model, loaded = AutoModelForImageTextToText.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
        output_loading_info=True,
    )
    wrong = sorted({*loaded.get("missing_keys", ()), *(str(key) for key in loaded.get("mismatched_keys", ()))})
    if wrong:
        raise BadInput(
            f"Its weights do not fit its configuration: {len(wrong)} tensors are missing or have other sizes, such as "
            f"{wrong[0]}. A repository with code of its own has to be converted to transformers' own class first."
        )
    return model.to(device).eval()
