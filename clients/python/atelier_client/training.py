"""A training from a folder to its adapter, as one object that is followed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier_client.errors import JobEnded, UnexpectedAnswer
from atelier_client.models import Adapter, Dataset, Job, JobEvent
from atelier_client.uploads import select_files
from atelier_client.waiting import explain_job, retry

if TYPE_CHECKING:
    from atelier_client.client import AtelierClient

Progress = Dataset | Job | JobEvent
"""The dataset once it is ready, the job once it is queued, and then what ``watch`` yields."""


class Training:
    """Iterate over it to follow it; ``result`` follows it to the end. Either may be interrupted, and called again:
    it then goes on with the same job.

    ``adapter`` is there once the job has succeeded.
    """

    def __init__(self, client: "AtelierClient", folder: Path, spec: Mapping[str, Any], name: str | None) -> None:
        self._client, self._folder, self._spec, self._name = client, folder, spec, name
        self._last_event: str | None = None
        self.job: Job | None = None
        self.adapter: Adapter | None = None

    def __iter__(self) -> Iterator[Progress]:
        """Raises InputError, DatasetUnusable, JobEnded if it failed or was canceled, and the other ClientErrors."""
        if self.job is None:
            dataset = self._provide_dataset()
            yield dataset
            self.job = self._client.create_job({**self._spec, "dataset": dataset.id})
            yield self.job
        if self.adapter is not None:
            return
        job_id = self.job.id
        for update in self._client.watch(job_id, after=self._last_event):
            if isinstance(update, Job):
                self.job = update
            else:
                self._last_event = update.id
            yield update
        self.adapter = self._find_adapter(self.job)

    def result(self) -> Adapter:
        """The adapter, once the job has succeeded. Raises as the iteration does."""
        for _ in self:
            pass
        assert self.adapter is not None
        return self.adapter

    def _provide_dataset(self) -> Dataset:
        """One of the same files that is there, or a new one."""
        selection = select_files(self._folder)
        self._client.check_spec(self._spec)
        known = self._client.find_dataset(selection)
        if known is None:
            known = self._client.upload_dataset(selection, name=self._name or selection.name)
        return self._client.wait_for_dataset(known.id)

    def _find_adapter(self, job: Job) -> Adapter:
        if job.status != "succeeded":
            raise JobEnded(explain_job(job), job)
        adapter_id = (job.result or {}).get("adapter_id")
        if not isinstance(adapter_id, str):
            raise UnexpectedAnswer(f"Job {job.id} has succeeded, and the service names no adapter of it.")
        return retry(lambda: self._client.get_adapter(adapter_id))
