"""The rival: what anybody would write with httpx in 15 lines, and no more than that.

`bare.py` prints the answer and lets Python buffer it; `bare.py flush` shows each piece when it
comes, as a chat has to.
"""

import json
import os
import sys

import httpx

url = os.environ["HOLYSHEEP_BASE_URL"] + "/chat/completions"
headers = {"Authorization": "Bearer " + os.environ["HOLYSHEEP_API_KEY"]}
body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
flush = sys.argv[1:] == ["flush"]
with (
    httpx.Client(timeout=60) as client,
    client.stream("POST", url, headers=headers, json=body) as response,
):
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
            if piece:
                print(piece, end="", flush=flush)
