"""The rival of the live panel: httpx, and rich's Live over the whole Markdown, as most clients."""

import json
import os

import httpx
from rich.live import Live
from rich.markdown import Markdown

url = os.environ["HOLYSHEEP_BASE_URL"] + "/chat/completions"
headers = {"Authorization": "Bearer " + os.environ["HOLYSHEEP_API_KEY"]}
body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
text = ""
with (
    httpx.Client(timeout=60) as client,
    client.stream("POST", url, headers=headers, json=body) as response,
    Live(refresh_per_second=12, vertical_overflow="visible") as live,
):
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
            if piece:
                text += piece
                live.update(Markdown(text))
