"""What an entry may say besides a key reaches the provider: headers of a front door, other ways to be let in."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from router.config import load
from router.errors import RouterError
from router.router import Answer, open_router
from tests.integration.providers.asking import chat
from tests.integration.providers.aws_wire import ACCESS_KEY
from tests.integration.providers.conftest import CHATS
from tests.integration.providers.wire import Seen, Wire

pytestmark = pytest.mark.slow


async def _sent(wire: Wire, tmp_path: Path, without: tuple[str, ...] = (), **more: Any) -> tuple[Seen, Answer | None]:
    """What reaches the server from an entry that says more, or less, than its own."""
    entry = wire.entries()[0]
    entry["litellm_params"] = {k: v for k, v in entry["litellm_params"].items() if k not in without} | more
    path = tmp_path / "stoker.yaml"
    path.write_text(yaml.safe_dump({"model_list": [entry]}))
    config = load(path)
    assert not config.unsupported
    answer = None
    async with open_router(config) as router:
        with contextlib.suppress(RouterError):
            answer = await router.open(chat(wire.name))
    (seen,) = wire.seen
    return seen, answer


@pytest.mark.parametrize("name", CHATS)
async def test_a_header_with_a_secret_reaches_the_provider(
    wires: dict[str, Wire], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIRE_DOOR", "open sesame")
    seen, answer = await _sent(wires[name], tmp_path, extra_headers={"x-front-door": "os.environ/WIRE_DOOR"})
    assert seen.headers["x-front-door"] == "open sesame"
    assert answer is not None  # Amazon's signatures hold with it


async def test_azure_takes_a_token_of_its_directory(wires: dict[str, Wire], tmp_path: Path) -> None:
    seen, _ = await _sent(wires["azure"], tmp_path, ("api_key",), azure_ad_token="eyJ.directory")
    assert seen.headers["authorization"] == "Bearer eyJ.directory"
    assert "api-key" not in seen.headers
    assert "eyJ" not in seen.raw.decode()


async def test_bedrock_takes_a_bearer_key(wires: dict[str, Wire], tmp_path: Path) -> None:
    keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    seen, _ = await _sent(wires["bedrock"], tmp_path, keys, api_key="bedrock-api-key-1")
    assert seen.headers["authorization"] == "Bearer bedrock-api-key-1"


async def test_bedrock_may_be_behind_a_private_endpoint(wires: dict[str, Wire], tmp_path: Path) -> None:
    wire = wires["bedrock"]
    _, answer = await _sent(wire, tmp_path, ("api_base",), aws_bedrock_runtime_endpoint=wire.url)
    assert answer is not None


@pytest.mark.parametrize("name", ["bedrock", "sagemaker"])
async def test_amazons_keys_may_stand_in_a_profile(
    wires: dict[str, Wire], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = wires[name]
    told = wire.environment()
    file = tmp_path / "credentials"
    file.write_text(
        f"[team]\naws_access_key_id = {told['WIRE_AWS_ID']}\naws_secret_access_key = {told['WIRE_AWS_SECRET']}\n"
        f"aws_session_token = {told['WIRE_AWS_TOKEN']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    seen, answer = await _sent(wire, tmp_path, keys, aws_profile_name="team")
    assert ACCESS_KEY in seen.headers["authorization"]
    assert answer is not None


async def test_amazons_keys_may_come_from_a_role(wires: dict[str, Wire], tmp_path: Path) -> None:
    wire, asked = wires["bedrock"], []
    told = wire.environment()
    role = {"aws_role_name": "arn:aws:iam::111122223333:role/chat", "aws_session_name": "s1", "aws_external_id": "e1"}

    async def assume(request: web.Request) -> web.Response:
        form = await request.post()
        asked.append({name: str(value) for name, value in form.items()})
        if form["Action"] != "AssumeRole":
            return web.Response(status=403)
        keys = (
            f"<AccessKeyId>{told['WIRE_AWS_ID']}</AccessKeyId><SecretAccessKey>{told['WIRE_AWS_SECRET']}"
            f"</SecretAccessKey><SessionToken>{told['WIRE_AWS_TOKEN']}</SessionToken>"
        )
        whole = f"<Credentials>{keys}<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
        answer = f"<AssumeRoleResult>{whole}</AssumeRoleResult>"
        return web.Response(
            text=f'<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{answer}</AssumeRoleResponse>',
            content_type="text/xml",
        )

    app = web.Application()
    app.router.add_post("/", assume)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sts = f"http://127.0.0.1:{runner.addresses[0][1]}"
        base = {"aws_access_key_id": "AKIABASE", "aws_secret_access_key": "base"}
        _, answer = await _sent(wire, tmp_path, ("aws_session_token",), aws_sts_endpoint=sts, **base, **role)
    finally:
        await runner.cleanup()
    assert answer is not None
    (assumed,) = (one for one in asked if one["Action"] == "AssumeRole")
    assert (assumed["RoleArn"], assumed["RoleSessionName"], assumed["ExternalId"]) == (*role.values(),)
