"""What must hold before a worker starts: a broker answers, the topics exist, the web port is free."""

from __future__ import annotations

import asyncio
import logging
import socket

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError


class NotReady(RuntimeError):
    """The surroundings are not ready for a worker; the message says what to do."""


async def check_broker(bootstrap_servers: str, topics: tuple[str, ...], *, wait_s: float) -> None:
    """Raise NotReady unless a broker answers within `wait_s` and has `topics`."""
    admin = await _connect(bootstrap_servers, wait_s=wait_s)
    try:
        missing = sorted(set(topics) - set(await admin.list_topics()))
    except KafkaError as error:
        raise NotReady(f"the Kafka broker at {bootstrap_servers} does not list its topics: {error}") from error
    finally:
        await admin.close()
    if missing:
        raise NotReady(
            f"the Kafka broker at {bootstrap_servers} has no topic {' and no topic '.join(missing)}; "
            f"create the topics with `earshot topics --bootstrap-servers {bootstrap_servers}`"
        )


async def _connect(bootstrap_servers: str, *, wait_s: float) -> AIOKafkaAdminClient:
    """A connected client; tries again until `wait_s` has passed."""
    # Each attempt would log an error of its own, and the one message at the end says it all.
    noise = logging.getLogger("aiokafka")
    level = noise.level
    noise.setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + wait_s
    try:
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers.split(","), client_id="earshot-processor")
            try:
                async with asyncio.timeout_at(give_up_at):
                    await admin.start()
            except (KafkaError, OSError) as error:
                await admin.close()
                if loop.time() >= give_up_at:
                    reason = str(error) or "it says nothing"
                    raise NotReady(
                        f"no Kafka broker answers at {bootstrap_servers} after {wait_s:g} s ({reason}); "
                        "is it running, and is EARSHOT_BOOTSTRAP_SERVERS its address?"
                    ) from error
                await asyncio.sleep(min(0.5, wait_s))
            else:
                return admin
    finally:
        noise.setLevel(level)


def check_port(host: str, port: int) -> None:
    """Raise NotReady unless a server can listen on `host` and `port`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        raise NotReady(
            f"cannot serve metrics on {host}:{port} ({error.strerror or error}); "
            "choose others with EARSHOT_PROCESSOR_WEB_PORT (--web-port) and EARSHOT_PROCESSOR_WEB_HOST (--web-host)"
        ) from error
