"""What a coordinator is found to be: asked as a node, whatever that node may ask."""

import asyncio
import time

from kvcache.cluster.embedded import EmbeddedValkey
from kvcache.cluster.examination import examine_coordinator


async def test_an_open_server_is_described(coordinator):
    seen = await examine_coordinator(coordinator)
    assert seen["error"] is None
    assert (seen["info"]["role"], seen["info"]["maxmemory_policy"]) == ("master", "noeviction")
    assert (seen["save"], seen["user"], seen["open"]) == ("", "default", True)
    least, most = seen["ahead_ms"]
    assert least < most
    assert abs(least + most) / 2 <= (most - least) / 2  # the same clock: the truth, none, lies between the two


async def test_a_clock_that_is_ahead_is_seen_to_be(coordinator):
    seen = await examine_coordinator(coordinator, lambda: time.time_ns() // 1_000_000 + 60_000)
    least, most = seen["ahead_ms"]
    assert least <= 60_000 <= most


async def test_a_server_with_a_password_is_not_open_and_tells_who_asks(coordinator, coordinators, server, valkey):
    await server("ACL", "SETUSER", "cache", "on", ">a-word", "~kvcache:*", "+@all", "-@admin", "+acl|whoami")
    await server("CONFIG", "SET", "requirepass", "another-word")
    seen = await examine_coordinator(coordinators(valkey.url.replace("//", "//cache:a-word@")))
    assert (seen["error"], seen["user"], seen["open"]) == (None, "cache", False)
    assert seen["save"] is None  # CONFIG is among what this user may not ask
    assert "a-word" not in str(seen)


async def test_a_user_who_may_ask_next_to_nothing_is_told_what_there_is(coordinators, server, valkey):
    await server("ACL", "SETUSER", "cache", "on", ">a-word", "~kvcache:*", "+time", "+hello", "+client", "+ping")
    seen = await examine_coordinator(coordinators(valkey.url.replace("//", "//cache:a-word@")))
    assert (seen["error"], seen["info"], seen["user"]) == (None, {}, None)


async def test_a_server_that_is_gone_is_an_error_and_nothing_else(coordinator, valkey):
    await valkey.stop()
    seen = await examine_coordinator(coordinator)
    assert "does not answer" in seen["error"]
    assert set(seen) == {"server", "error"}


async def test_connections_of_the_servers_former_life_are_not_taken_for_its_silence(coordinators, valkey):
    coordinator = coordinators(valkey.url)
    await asyncio.gather(*(coordinator.ask("PING") for _ in range(4)))  # so many are in the pool
    await valkey.stop()
    async with EmbeddedValkey(valkey.port):
        assert (await examine_coordinator(coordinator))["error"] is None
