"""/v1/admin/webhooks: where the ends of jobs are told."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.admin_keys import InTenant
from api.hooks.endpoints import Delivery, Endpoint
from api.hooks.events import Event
from api.identity import Acting
from api.paging import After, Limit, page
from api.state import State

routes = APIRouter(prefix="/v1/admin/webhooks", tags=["Administration"])


class WebhookRequest(BaseModel):
    """A webhook to be told."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=2000)
    tenant: str | None = Field(None, description="Id or name of a tenant, for admins. Unset: your own.")
    description: str = Field("", max_length=200)
    events: Annotated[list[Event], Field(min_length=1, max_length=10)] | None = Field(None, description="null: all.")


@routes.post("", status_code=201)
async def create_webhook(asked: WebhookRequest, state: State, by: Acting, response: Response) -> dict[str, Any]:
    """Have the ends of jobs told to an address; its secret is in this answer and nowhere else, ever."""
    webhook, secret = await state.directory.webhooks.create(
        by, asked.tenant, asked.url, asked.description, asked.events
    )
    response.headers["cache-control"] = "no-store"  # of any cache, that of `Idempotency-Key` included
    return {**_shown(webhook), "secret": secret}


@routes.get("")
async def list_webhooks(
    state: State, by: Acting, tenant: InTenant = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The tenant's webhooks, the newest first, without their secrets."""
    return page(await state.directory.webhooks.page(by, tenant, after, limit + 1), limit, _shown)


@routes.get("/{webhook_id}")
async def get_webhook(webhook_id: str, state: State, by: Acting) -> dict[str, Any]:
    """One webhook, without its secret."""
    return _shown(await state.directory.webhooks.get(by, webhook_id))


@routes.delete("/{webhook_id}")
async def delete_webhook(webhook_id: str, state: State, by: Acting) -> dict[str, Any]:
    """Tell it nothing more."""
    await state.directory.webhooks.delete(by, webhook_id)
    return {"id": webhook_id, "object": "webhook.deleted", "deleted": True}


@routes.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: str, state: State, by: Acting, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """What it was told, and what it is to be told, the newest first."""
    return page(await state.directory.webhooks.told(by, webhook_id, after, limit + 1), limit, _delivery)


@routes.post("/{webhook_id}/deliveries/{delivery_id}/redeliver")
async def redeliver(webhook_id: str, delivery_id: str, state: State, by: Acting) -> dict[str, Any]:
    """Tell it again, under the same id."""
    return _delivery(await state.directory.webhooks.redeliver(by, webhook_id, delivery_id))


def _shown(webhook: Endpoint) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "object": "webhook",
        "url": webhook.url,
        "tenant": webhook.tenant_id,
        "description": webhook.description,
        "events": webhook.events,
        "created_at": int(webhook.created_at),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    shown = {**asdict(delivery), "object": "webhook.delivery"}
    for moment in ("next_at", "created_at", "ended_at"):
        shown[moment] = None if shown[moment] is None else int(shown[moment])
    return shown
