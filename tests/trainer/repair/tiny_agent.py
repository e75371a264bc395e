"""An agent of two turns for the tests of the harness: what it does to area.py is decided by the first letter of the model.

tiny_agent.py TASK BASE_URL MODEL [stream]
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path


def ask(base_url: str, model: str, messages: list[dict[str, str]], *, stream: bool) -> str:
    body = {"model": model, "messages": messages, "max_tokens": 6, "temperature": 0.2, "stream": stream}
    request = urllib.request.Request(
        f"{base_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        if not stream:
            return str(json.load(response)["choices"][0]["message"]["content"])
        text = ""
        for line in response:
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                text += "".join(choice["delta"].get("content") or "" for choice in json.loads(data)["choices"])
        return text


def main() -> None:
    task, base_url, model, *more = sys.argv[1:]
    messages = [{"role": "user", "content": task}]
    for observation in ("it has three lines", "done"):
        text = ask(base_url, model, messages, stream="stream" in more)
        messages += [{"role": "assistant", "content": text}, {"role": "tool", "content": observation}]
    path = Path("area.py")
    if messages[1]["content"][:1] < "l":
        path.write_text(path.read_text().replace("+", "*"))


if __name__ == "__main__":
    main()
