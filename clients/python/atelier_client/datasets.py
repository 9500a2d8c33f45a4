"""Datasets: upload, revise, download."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atelier_client.calls import LARGEST_PAGE, Calls
from atelier_client.errors import DatasetUnusable
from atelier_client.models import Dataset, DatasetLayout, Page
from atelier_client.transport import UPLOAD_TIMEOUT, quote
from atelier_client.uploads import LazyFile, Selection, select_files
from atelier_client.waiting import explain_dataset, poll, report_waiting


class DatasetCalls(Calls):
    def upload_dataset(
        self, source: Path | Selection, *, name: str | None = None, on_bytes: Callable[[int], None] | None = None
    ) -> Dataset:
        """Streams the files in one multipart request. ``source`` is a folder, an archive, an image or a
        ``Selection``; ``on_bytes`` is called with the length of each block that was read. Raises InputError."""
        selection = source if isinstance(source, Selection) else select_files(source)
        files = [
            ("files", (upload.name, LazyFile(upload.path, on_bytes), "application/octet-stream"))
            for upload in selection.uploads
        ]
        fields = {"name": name} if name else {}
        return self._transport.ask("POST", "/datasets", Dataset, data=fields, files=files, timeout=UPLOAD_TIMEOUT)

    def fetch_dataset(self, urls: Sequence[str], *, name: str | None = None) -> Dataset:
        """A dataset whose files the service fetches from these addresses: images, captions and archives on the public
        internet. It is ``validating`` first (see ``wait_for_dataset``); the report has those that were not fetched."""
        body = {"urls": list(urls), **({"name": name} if name else {})}
        return self._transport.ask("POST", "/datasets", Dataset, json=body)

    def get_dataset(self, dataset_id: str) -> Dataset:
        return self._transport.get(f"/datasets/{quote(dataset_id)}", Dataset)

    def list_datasets(self, *, parent: str | None = None, after: str | None = None) -> Iterator[Dataset]:
        """Newest first, starting after an id; only the revisions of ``parent``. Pages are fetched on demand."""
        return self._list("/datasets", Page[Dataset], {"parent": parent, "after": after})

    def find_dataset(self, selection: Selection) -> Dataset | None:
        """The newest dataset of the same files, by name and content, that is ready or being validated. Its report says
        which of them it left out. Reads every file. Raises InputError."""
        wanted = selection.content_hash()
        for dataset in self._list("/datasets", Page[Dataset], {"limit": str(LARGEST_PAGE)}):
            if dataset.files_sha256 == wanted and dataset.status in {"ready", "validating"}:
                return dataset
        return None

    def delete_dataset(self, dataset_id: str) -> None:
        """Fails while a job uses the dataset: ApiError with status 409."""
        self._transport.send("DELETE", f"/datasets/{quote(dataset_id)}")

    def wait_for_dataset(
        self,
        dataset_id: str,
        *,
        timeout_seconds: float = 3600,
        on_waiting: Callable[[str], None] = lambda _: None,
        on_update: Callable[[Dataset], object] = lambda _: None,
    ) -> Dataset:
        """Returns the dataset once it is ``ready``. Raises DatasetUnusable with its report, or WaitTimeout.
        ``on_waiting`` is called with the reason if the service has to postpone the check; ``on_update`` twice a second,
        for example to show how many files of ``num_sources`` there are."""
        report = report_waiting(on_waiting)

        def hear(dataset: Dataset) -> None:
            report(dataset)
            on_update(dataset)

        dataset = poll(
            lambda: self.get_dataset(dataset_id),
            lambda dataset: dataset.status == "validating",
            timeout_seconds=timeout_seconds,
            what=f"Dataset {dataset_id} is still being checked",
            on_pending=hear,
        )
        if dataset.status != "ready":
            raise DatasetUnusable(explain_dataset(dataset), dataset)
        return dataset

    def revise_dataset(self, dataset_id: str, edits: Mapping[str, Any], *, name: str | None = None) -> Dataset:
        """Makes a new dataset of a ready one, which shares its images. ``edits`` may contain ``exclude``, ``captions``,
        ``find_replace``, ``remove_tags``, ``add_tags``, ``prefix``, ``suffix``, ``crop`` and ``include``. With ``crop``
        it is ``validating`` first: see ``wait_for_dataset``."""
        body = {**edits, **({"name": name} if name else {})}
        return self._create(f"/datasets/{quote(dataset_id)}/revisions", Dataset, body)

    def download_dataset(self, dataset_id: str, target: Path, layout: DatasetLayout = "kohya") -> str:
        """Writes images and captions as a .zip, completely or not at all. Returns its sha256."""
        return self._download(f"/datasets/{quote(dataset_id)}/download?layout={layout}", target)
