"""Made from ``atelier_client.training`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier_client.aio.waiting import retry
from atelier_client.errors import JobEnded, UnexpectedAnswer
from atelier_client.models import Adapter, Dataset, Job
from atelier_client.training import Progress
from atelier_client.uploads import select_files
from atelier_client.waiting import explain_job

if TYPE_CHECKING:
    from atelier_client.aio.client import AsyncAtelierClient


class Training:
    """Iterate over it to follow it; ``result`` follows it to the end. Either may be interrupted, and called again:
    it then goes on with the same job.

    ``adapter`` is there once the job has succeeded.
    """

    def __init__(self, client: "AsyncAtelierClient", folder: Path, spec: Mapping[str, Any], name: str | None) -> None:
        self._client, self._folder, self._spec, self._name = client, folder, spec, name
        self._last_event: str | None = None
        self.job: Job | None = None
        self.adapter: Adapter | None = None

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """Raises InputError, DatasetUnusable, JobEnded if it failed or was canceled, and the other ClientErrors."""
        if self.job is None:
            dataset = await self._provide_dataset()
            yield dataset
            self.job = await self._client.create_job({**self._spec, "dataset": dataset.id})
            yield self.job
        if self.adapter is not None:
            return
        job_id = self.job.id
        async for update in self._client.watch(job_id, after=self._last_event):
            if isinstance(update, Job):
                self.job = update
            else:
                self._last_event = update.id
            yield update
        self.adapter = await self._find_adapter(self.job)

    async def result(self) -> Adapter:
        """The adapter, once the job has succeeded. Raises as the iteration does."""
        async for _ in self:
            pass
        assert self.adapter is not None
        return self.adapter

    async def _provide_dataset(self) -> Dataset:
        """One of the same files that is there, or a new one."""
        selection = select_files(self._folder)
        await self._client.check_spec(self._spec)
        known = await self._client.find_dataset(selection)
        if known is None:
            known = await self._client.upload_dataset(selection, name=self._name or selection.name)
        return await self._client.wait_for_dataset(known.id)

    async def _find_adapter(self, job: Job) -> Adapter:
        if job.status != "succeeded":
            raise JobEnded(explain_job(job), job)
        adapter_id = (job.result or {}).get("adapter_id")
        if not isinstance(adapter_id, str):
            raise UnexpectedAnswer(f"Job {job.id} has succeeded, and the service names no adapter of it.")
        return await retry(lambda: self._client.get_adapter(adapter_id))
