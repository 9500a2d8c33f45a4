"""Suggestions for an unknown field, or for a value where an object belongs: the full path that was probably meant."""

import difflib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

MAX_HINTS = 3

OTHER_TOOLS = {
    "base_model": "model",
    "class_data_dir": "loss.prior_preservation",
    "dataset_id": "dataset",
    "gradient_accumulation_steps": "gradient_accumulation",
    "instance_prompt": "trigger",
    "learning_rate_schedule": "schedule.name",
    "lr": "optimizer.learning_rate",
    "lr_scheduler": "schedule.name",
    "lr_warmup_steps": "schedule.warmup_steps",
    "max_train_epochs": "epochs",
    "max_train_steps": "steps",
    "mixed_precision": "precision",
    "model_id": "model",
    "network_alpha": "adapter.alpha",
    "network_dim": "adapter.rank",
    "num_train_epochs": "epochs",
    "optimizer_type": "optimizer.name",
    "pretrained_model_name_or_path": "model",
    "text_encoder_lr": "text_encoder.learning_rate",
    "train_batch_size": "batch_size",
    "train_text_encoder": "text_encoder.train",
    "trigger_word": "trigger",
    "unet_lr": "optimizer.learning_rate",
}
"""The names of our fields in sd-scripts and diffusers' training scripts, if the names are not alike."""


class Fields:
    """The fields of a model and of the models within it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._paths = tuple(_list_paths(model, ()))
        self._dotted = frozenset(map(".".join, self._paths))
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            self._by_name[path[-1]].append(".".join(path))
        for paths in self._by_name.values():
            paths.sort(key=_is_of_text_encoder)

    def suggest(self, place: Sequence[str]) -> str:
        """``; did you mean …?`` with full paths for the field at ``place``, or nothing if no field is similar."""
        if (written := ".".join([*place[:-1], place[-1].replace("/", ".").strip(".")])) in self._dotted:
            return f"; write {_nest(written)}"
        found = self._find(place)
        return f"; did you mean {_say_one_of(found[:MAX_HINTS], nested=len(place) > 1)}?" if found else ""

    def _find(self, place: Sequence[str]) -> list[str]:
        *above, name = place
        own = {path[-1]: ".".join(path) for path in self._paths if list(path[:-1]) == list(above)}
        if name in OTHER_TOOLS:
            return [OTHER_TOOLS[name]]
        if name in self._by_name:
            return self._by_name[name]
        if close := difflib.get_close_matches(name, sorted(own), n=1):
            return [own[close[0]]]
        close = difflib.get_close_matches(name.rpartition(".")[2], sorted(self._by_name), n=1)
        return self._by_name[close[0]] if close else []

    def describe(self, place: Sequence[str]) -> str:
        """The object that belongs at ``place``, by its first fields."""
        inner = [path[-1] for path in self._paths if list(path[:-1]) == list(place)]
        return f"should be an object with fields such as {', '.join(inner[:2])}" if inner else "should be an object"


def _list_paths(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        if (inner := _find_model(field.annotation)) is not None:
            yield from _list_paths(inner, path)


def _find_model(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, even if it may be null."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _is_of_text_encoder(path: str) -> bool:
    """Rarely meant if another field has the same name."""
    return path.startswith("text_encoder.")


def _nest(path: str) -> str:
    """``a.b`` as `{"a": {"b": …}}`."""
    outer, _, inner = path.partition(".")
    return f'{{"{outer}": {_nest(inner) if inner else "…"}}}'


def _say_one_of(paths: Sequence[str], *, nested: bool) -> str:
    said = [f"{path} at the top" if nested and "." not in path else path for path in paths]
    return " or ".join(said)
