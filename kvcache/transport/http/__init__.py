"""HTTP on the node's port: plain requests for ``curl``, dashboards and programs without a client of their own.

Here lives everything that speaks HTTP. Never here: where a key lives or how it is written; any node serves any key,
because an embedded client carries each request to the key's owners. The path of one request::

    listener --first byte is A-Z--> HttpConnection (deadlines) -> aiohttp's parser -> HttpFrontDoor (routes, errors)
        -> kv | batch -> a plan, driven by the embedded client -> owners ... -> answers -> aiohttp's writer -> socket

============================  =========================================================================================
GET, HEAD  /v1/kv/{key}       the value; its type is the Content-Type, its version the ETag, KvCache-TTL the seconds left
PUT        /v1/kv/{key}       write, ``?ttl=60`` or ``?ttl=5m``; ``If-Match`` is compare-and-set, ``If-None-Match: *`` is add
DELETE     /v1/kv/{key}       delete
POST       /v1/batch          many keys in one msgpack body (``batch`` describes it)
GET        /v1/events         the overview of the cluster once a second, as server-sent events (``event_stream``)
GET        /v1/topology       the topology document, JSON
GET        /v1/stats          the node's counters, JSON
GET        /metrics           the same for Prometheus
GET        /healthz           200 while the event loop runs
GET        /readyz            200 while the node can serve, else 503 with the reason
GET        /openapi.json      this table as an OpenAPI document
GET        /                  the dashboard, with its files under /dashboard/ (``page``)
============================  =========================================================================================

With secrets, all but the last four ask for ``Authorization: Bearer SECRET``, and what changes the cluster for one of an
admin (``gate``). All this is a table of its own (``routes``). Every error is JSON: ``{"error": name, "message": text,
"retryable": bool, "detail": number or text or null}``. There are no CORS headers, and a batch must say ``Content-Type:
application/msgpack``: a web page of somebody else can then neither read nor write a cache that the browser can reach.
"""

from kvcache.transport.http.front_door import HttpFrontDoor, NodeView
from kvcache.transport.http.limits import HttpCounters, HttpLimits

__all__ = ["HttpCounters", "HttpFrontDoor", "HttpLimits", "NodeView"]
