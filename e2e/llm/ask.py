"""Ask an HTTP service, in a pod: ``python ask.py REQUESTS``, JSON on both sides; standard library alone.

REQUESTS is a list of ``{"url": …, "body": null or JSON, "raw": text instead of JSON, "headers": {…}}``; each is
answered in order with ``{"status": …, "headers": {…}, "body": JSON or text}``, a stream of events in place of the body
with ``"events": [JSON of each but [DONE]], "done": whether [DONE] was the last``.
"""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

_SECONDS = 120.0


def ask(request: dict[str, Any]) -> dict[str, Any]:
    body = request.get("body")
    text = request.get("raw", None if body is None else json.dumps(body))
    headers = {"Content-Type": "application/json", **request.get("headers", {})}
    question = urllib.request.Request(request["url"], None if text is None else text.encode(), headers)
    try:
        with urllib.request.urlopen(question, timeout=_SECONDS) as answer:
            status, told, content = answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        status, told, content = error.code, dict(error.headers), error.read().decode()
    found: dict[str, Any] = {"status": status, "headers": {k.lower(): v for k, v in told.items()}}
    if "text/event-stream" in found["headers"].get("content-type", ""):
        events = [line.removeprefix("data:").strip() for line in content.splitlines() if line.startswith("data:")]
        return found | {"events": [json.loads(e) for e in events if e != "[DONE]"], "done": events[-1:] == ["[DONE]"]}
    try:
        return found | {"body": json.loads(content)}
    except ValueError:
        return found | {"body": content}


if __name__ == "__main__":
    print(json.dumps([ask(request) for request in json.loads(sys.argv[1])]))
