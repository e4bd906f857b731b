// A provider with the answers of answers.mjs, for a real relay: `node provider.mjs PORT`.

import { createServer } from "node:http";
import { answer } from "./answers.mjs";

const sleep = (time) => new Promise((done) => setTimeout(done, time));

/* Listens at `port` of 127.0.0.1; gives the one it has. */
export async function provider(port = 0) {
  const refused = new Set();  // prompts that had to be asked again once
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    if (request.url.endsWith("/models")) return response.end(JSON.stringify({ object: "list", data: [{ id: "tiny", object: "model" }, { id: "large", object: "model" }] }));
    const { messages, model } = JSON.parse(body), prompt = messages.at(-1).content, said = answer(prompt);
    const refuse = (status, message, headers = {}) => {
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify({ error: { message } }));
    };
    if (said.ends === "error") return refuse(400, "the provider refuses it");
    if (said.notices.length && !refused.has(prompt)) {
      refused.add(prompt);
      return refuse(429, "too many requests", { "Retry-After": "0" });
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const tell = (choices, more = {}) => response.write(`data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", model, choices, ...more })}\n\n`);
    for (const [field, whole] of [["reasoning_content", said.reasoning], ["content", said.text]]) {
      for (let at = 0; at < whole.length && !response.closed; at += said.size) {
        tell([{ index: 0, delta: { [field]: whole.slice(at, at + said.size) } }]);
        if (said.pace) await sleep(said.pace);
      }
    }
    tell([{ index: 0, delta: {}, finish_reason: "stop" }]);
    tell([], { usage: { prompt_tokens: 412, completion_tokens: said.text.length >> 2, total_tokens: 412 + (said.text.length >> 2) } });
    response.end("data: [DONE]\n\n");
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return server.address().port;
}

if (process.argv[1] === new URL(import.meta.url).pathname) await provider(+process.argv[2]);
