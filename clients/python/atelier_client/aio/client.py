"""Made from ``atelier_client.client`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from atelier_client.aio.activity import ActivityCalls
from atelier_client.aio.adapters import AdapterCalls
from atelier_client.aio.captions import CaptionCalls
from atelier_client.aio.datasets import DatasetCalls
from atelier_client.aio.generations import GenerationCalls
from atelier_client.aio.sharing import SharingCalls
from atelier_client.aio.steps import StepCalls
from atelier_client.aio.training import Training
from atelier_client.aio.transport import Transport
from atelier_client.aio.waiting import poll
from atelier_client.aio.watching import watch_job
from atelier_client.errors import ApiError, JobEnded, ModelUnusable
from atelier_client.models import (
    AdapterFormat,
    AuditEntry,
    Delivery,
    Job,
    JobEvent,
    Key,
    LoginLink,
    Metric,
    Model,
    NewKey,
    Page,
    Plan,
    SampleSet,
    Tenant,
    Worker,
)
from atelier_client.transport import quote
from atelier_client.waiting import explain_job
from atelier_client.watching import Update


class AsyncAtelierClient(
    ActivityCalls, AdapterCalls, CaptionCalls, DatasetCalls, GenerationCalls, SharingCalls, StepCalls
):
    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        find_url: Callable[[], str | None] = lambda: None,
    ) -> None:
        """``find_url`` is called when nothing listens at ``url``. If it returns another address, all requests go there
        from then on. Raises InputError for an invalid address. Sends nothing before the first call."""
        super().__init__(Transport(url, api_key, transport, find_url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.http.aclose()

    # --- models -----------------------------------------------------------------------------------------

    def list_models(self) -> AsyncIterator[Model]:
        return self._list("/models", Page[Model])

    async def get_model(self, model_id: str) -> Model:
        return await self._transport.get(f"/models/{quote(model_id)}", Model)

    async def register_model(self, source: Mapping[str, Any]) -> Model:
        """For admins. ``source`` has a ``path`` below the service's models directory or a ``hub_id``, and optionally
        ``id``, ``prediction_type``, ``resolution`` and ``description``. A base without a card is ``checking`` first."""
        return await self._transport.ask("POST", "/models", Model, json=dict(source))

    async def wait_for_model(
        self,
        model_id: str,
        *,
        timeout_seconds: float | None = None,
        on_waiting: Callable[[], None] = lambda: None,
    ) -> Model:
        """Returns the base once it is ``ready``. Raises ModelUnusable with the reason, or WaitTimeout. A download from
        the Hub may take many minutes, so the default is no timeout. ``on_waiting`` is called twice a second."""
        model = await poll(
            lambda: self.get_model(model_id),
            lambda model: model.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"Model {model_id} is still being prepared",
            on_pending=lambda _: on_waiting(),
        )
        if model.status != "ready":
            raise ModelUnusable(model.error.detail if model.error else f"Model {model_id} was rejected.", model)
        return model

    async def delete_model(self, model_id: str) -> None:
        """For admins. Fails while a job needs the base: ApiError with status 409."""
        await self._transport.send("DELETE", f"/models/{quote(model_id)}")

    def train(self, folder: Path, spec: Mapping[str, Any], *, name: str | None = None) -> Training:
        """From a folder of images to an adapter; ``spec`` is ``{model, …TrainingSpec}``. Uploads the images, unless the
        service has the same files already. Nothing is sent before the training is iterated over, or its ``result`` is
        asked for. ``name``: the dataset's, by default the folder's."""
        return Training(self, folder, spec, name)

    # --- jobs -------------------------------------------------------------------------------------------

    async def create_job(self, body: Mapping[str, Any]) -> Job:
        """``body`` is ``{model, dataset, …TrainingSpec}``. Retries carry a key, so that they make one job."""
        return await self._create("/jobs", Job, body)

    async def check_spec(self, body: Mapping[str, Any]) -> None:
        """Checks a body of ``create_job`` that has no dataset yet. Raises ApiError for any other fault."""
        try:
            await self.plan_job({**body, "dataset": "ds_to_be_sent"})
        except ApiError as error:
            if set(error.problem.errors) != {"/dataset"}:
                raise

    async def plan_job(self, body: Mapping[str, Any]) -> Plan:
        """The job's plan and an estimate, without queueing a job."""
        return await self._transport.ask("POST", "/jobs", Plan, json=dict(body), params={"dry_run": "true"})

    def list_jobs(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        text: str | None = None,
        after: str | None = None,
    ) -> AsyncIterator[Job]:
        """Newest first, starting after an id. ``text`` is searched in name, trigger and id. Pages are fetched on
        demand."""
        return self._list("/jobs", Page[Job], {"status": status, "model": model, "text": text, "after": after})

    async def get_job(self, job_id: str) -> Job:
        return await self._transport.get(f"/jobs/{quote(job_id)}", Job)

    async def cancel_job(self, job_id: str) -> Job:
        return await self._transport.ask("POST", f"/jobs/{quote(job_id)}/cancel", Job)

    async def delete_job(self, job_id: str) -> None:
        """Deletes a job that has ended, with its files and its adapter."""
        await self._transport.send("DELETE", f"/jobs/{quote(job_id)}")

    async def pause_job(self, job_id: str) -> Job:
        return await self._transport.ask("POST", f"/jobs/{quote(job_id)}/pause", Job)

    async def resume_job(self, job_id: str) -> Job:
        return await self._transport.ask("POST", f"/jobs/{quote(job_id)}/resume", Job)

    def watch(
        self, job_id: str, *, after: str | None = None, on_outage: Callable[[], object] = lambda: None
    ) -> AsyncGenerator[Update]:
        """Yields every event once and in order, the job whenever its progress changes, and at last the ended job.
        ``on_outage`` is called once when the service stops answering; the watch then tries again for two minutes."""
        return watch_job(self._transport, job_id, after, on_outage)

    async def wait_for_job(self, job_id: str, *, on_update: Callable[[Update], object] = lambda _: None) -> Job:
        """Returns the job once it has succeeded. Raises JobEnded if it failed or was canceled. ``on_update`` is called
        with everything that ``watch`` yields."""
        job = await self.get_job(job_id)
        async for update in self.watch(job_id):
            on_update(update)
            job = update if isinstance(update, Job) else job
        if job.status != "succeeded":
            raise JobEnded(explain_job(job), job)
        return job

    def list_events(self, job_id: str) -> AsyncIterator[JobEvent]:
        return self._list(f"/jobs/{quote(job_id)}/events", Page[JobEvent])

    def list_metrics(self, job_id: str, *, points: int | None = None) -> AsyncIterator[Metric]:
        """Of every step; or of about ``points`` steps, evenly spaced, with the last and all that have a held-out
        loss."""
        params = None if points is None else {"points": str(points)}
        return self._list(f"/jobs/{quote(job_id)}/metrics", Page[Metric], params)

    def list_samples(self, job_id: str) -> AsyncIterator[SampleSet]:
        return self._list(f"/jobs/{quote(job_id)}/samples", Page[SampleSet])

    def list_deliveries(self, job_id: str) -> AsyncIterator[Delivery]:
        """The webhooks of a job, in the order of its events."""
        return self._list(f"/jobs/{quote(job_id)}/deliveries", Page[Delivery])

    def list_all_deliveries(self, *, status: str | None = None) -> AsyncIterator[Delivery]:
        """The webhooks of all jobs, newest first. ``status``: `pending`, `delivered`, `failed` or `canceled`."""
        return self._list("/webhooks/deliveries", Page[Delivery], {"status": status})

    async def send_test_delivery(self, job_id: str) -> Delivery:
        """Sends the job's receiver a signed message of the type `webhook.test`."""
        return await self._transport.ask("POST", f"/jobs/{quote(job_id)}/deliveries/test", Delivery)

    async def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Sends a webhook again now, whether or not it was delivered before."""
        return await self._transport.ask(
            "POST", f"/jobs/{quote(job_id)}/deliveries/{quote(delivery_id)}/redeliver", Delivery
        )

    # --- keys and tenants: for admins, and the operator ---------------------------------------------------

    async def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("read", "jobs"),
        expires_at: datetime | None = None,
        tenant: str | None = None,
    ) -> NewKey:
        """Only this answer contains the secret. ``tenant``: another than your own, for the operator."""
        end = None if expires_at is None else expires_at.isoformat()
        body = {"name": name, "scopes": list(scopes), "expires_at": end, "tenant": tenant}
        return await self._transport.ask("POST", "/keys", NewKey, json=body)

    def list_keys(self, *, tenant: str | None = None) -> AsyncIterator[Key]:
        """Newest first, including revoked keys."""
        return self._list("/keys", Page[Key], {"tenant": tenant})

    async def rotate_key(self, key_id: str, *, overlap_seconds: int = 3600, tenant: str | None = None) -> NewKey:
        """Replaces a key by a new one. The old key stays valid for the overlap."""
        body, params = {"overlap_seconds": overlap_seconds}, {"tenant": tenant} if tenant else {}
        return await self._transport.ask("POST", f"/keys/{quote(key_id)}/rotate", NewKey, json=body, params=params)

    async def revoke_key(self, key_id: str, *, tenant: str | None = None) -> None:
        await self._transport.send("DELETE", f"/keys/{quote(key_id)}", params={"tenant": tenant} if tenant else {})

    async def create_tenant(self, name: str) -> Tenant:
        return await self._transport.ask("POST", "/tenants", Tenant, json={"name": name})

    def list_tenants(self) -> AsyncIterator[Tenant]:
        return self._list("/tenants", Page[Tenant])

    def list_audit_entries(self, *, action: str | None = None, tenant: str | None = None) -> AsyncIterator[AuditEntry]:
        """Who did what, newest first."""
        return self._list("/audit", Page[AuditEntry], {"action": action, "tenant": tenant})

    # --- the service itself -------------------------------------------------------------------------------

    async def create_login_link(self) -> LoginLink:
        """A link that opens the dashboard once, with the rights of this client's key."""
        return await self._transport.ask("POST", "/ui/tokens", LoginLink)

    def list_workers(self) -> AsyncIterator[Worker]:
        """The training workers that have sent a heartbeat within the last minute."""
        return self._list("/workers", Page[Worker])

    # --- files ------------------------------------------------------------------------------------------

    async def download_adapter(
        self, job_id: str, target: Path, adapter_format: AdapterFormat = "kohya", *, step: int | None = None
    ) -> str:
        """Writes the .safetensors file completely or not at all. Returns its sha256. ``step``: one of ``list_steps``
        instead of the job's own."""
        of_step = "" if step is None else f"&step={step}"
        return await self._download(f"/jobs/{quote(job_id)}/adapter?format={adapter_format}{of_step}", target)

    async def download_grid(self, job_id: str, step: int, target: Path) -> str:
        return await self._download(f"/jobs/{quote(job_id)}/samples/{step}/grid.png", target)
