"""A well-behaved client in its own process, which repeats small requests and measures their duration.

Reads a line of JSON: the addresses, the login and the tag; runs until its input ends; writes its measurements.
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
    login = Login(*order["login"])
    organization, tag = order["organization"], order["tag"]
    sync = {"imageTag": [tag], "remoteNamespace": organization, "remoteRegionId": SOUTH}
    path = f"/v2/manage/namespaces/{organization}/repos/app/sync_images"
    questions: tuple[tuple[str, Callable[[Caller], Answer]], ...] = (
        ("GET /v2/", lambda caller: caller.registry("GET", "/v2/")),
        ("manifest", lambda caller: caller.registry("GET", f"/v2/{organization}/app/manifests/{tag}")),
        ("sync in place", lambda caller: caller.management("POST", path, sync)),
    )
    if not order["signs"]:
        questions = questions[:-1]
    callers = [Caller(order["url"], login, source=ADDRESS) for _ in questions]
    for caller, (_, ask) in zip(callers, questions, strict=True):
        ask(caller)
    print("ready", flush=True)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    seconds: list[float] = []
    failures: Counter[str] = Counter()

    def work(caller: Caller, name: str, ask: Callable[[Caller], Answer]) -> None:
        while not ended.is_set():
            began = time.monotonic()
            try:
                answer = ask(caller)
                if answer.status != 200:
                    failures[f"{name}: {answer.status}"] += 1
            except Lost:
                failures[f"{name}: not answered"] += 1
            seconds.append(time.monotonic() - began)
            ended.wait(_PAUSE_SECONDS)

    workers = [
        threading.Thread(target=work, args=(caller, *question))
        for caller, question in zip(callers, questions, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps({"seconds": seconds, "failures": failures}), flush=True)


if __name__ == "__main__":
    main()
