"""A process of its own that asks for small things with nothing to do, and measures how long it waits.

Reads a line of JSON: the addresses, the login and the tag; works until its input ends; writes what it measured.
"""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.caller import Answer, Caller, Lost
from tests.faults.installation import SOUTH, Login

ADDRESS = "127.0.0.7"
_PAUSE_SECONDS = 0.02


def main() -> None:
    """Measure until the input ends."""
    order = json.loads(sys.stdin.readline())
    caller = Caller(order["url"], Login(*order["login"]), source=ADDRESS)
    organization, tag = order["organization"], order["tag"]
    sync = {"imageTag": [tag], "remoteNamespace": organization, "remoteRegionId": SOUTH}
    path = f"/v2/manage/namespaces/{organization}/repos/app/sync_images"
    questions: tuple[tuple[str, Callable[[], Answer]], ...] = (
        ("GET /v2/", lambda: caller.registry("GET", "/v2/")),
        ("manifest", lambda: caller.registry("GET", f"/v2/{organization}/app/manifests/{tag}")),
        ("sync in place", lambda: caller.management("POST", path, sync)),
    )
    for _, ask in questions:
        ask()
    print("ready", flush=True)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    seconds: list[float] = []
    failures: Counter[str] = Counter()
    while not ended.is_set():
        for name, ask in questions:
            began = time.monotonic()
            try:
                answer = ask()
                if answer.status != 200:
                    failures[f"{name}: {answer.status}"] += 1
            except Lost:
                failures[f"{name}: not answered"] += 1
            seconds.append(time.monotonic() - began)
            if ended.wait(_PAUSE_SECONDS):
                break
    print(json.dumps({"seconds": seconds, "failures": failures}), flush=True)


if __name__ == "__main__":
    main()
