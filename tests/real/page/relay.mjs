// A stand-in for the relay: its page's protocol and nothing else, on 127.0.0.1. Its store is a Map.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { answer } from "./answers.mjs";

const { WebSocketServer } = createRequire(process.cwd() + "/")("ws");  // of the folder it is run in
const read = (name) => readFileSync(new URL(`../../../holychat/commands/serve/page/${name}`, import.meta.url), "utf8");
const sleep = (time) => new Promise((done) => setTimeout(done, time));

/* The page in one piece, as commands/serve/page.py makes it. */
function joined() {
  return read("index.html")
    .replace(/<link rel="stylesheet" href="(.*?)">/, (_, name) => `<style>\n${read(name)}</style>`)
    .replace(/(?:<script src=".*?"><\/script>\n)+/, (tags) => {
      const parts = [...tags.matchAll(/src="(.*?)"/g)].map(([, name]) => read(name)).join("\n");
      return `<script>\n"use strict";\n(() => {\n${parts}})();\n</script>\n`;
    });
}

function policy(page) {
  const hash = (tag) => {
    const inside = page.match(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`))[1];
    return `'sha256-${createHash("sha256").update(inside).digest("base64")}'`;
  };
  return `default-src 'none'; script-src ${hash("script")}; style-src ${hash("style")}; ` +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
    "require-trusted-types-for 'script'; trusted-types 'none'";
}

export async function relay({ token = randomBytes(16).toString("base64url"), port = 0 } = {}) {
  const store = new Map(), sockets = new Set();
  let deaf = false;
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://relay"), [, api, what, id] = url.pathname.split("/");
    const send = (status, value) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(value));
    };
    if (url.pathname === "/") {
      const page = joined();
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy(page),
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer" });
      return response.end(page);
    }
    if (request.headers.authorization !== `Bearer ${token}`) return send(401, { error: { message: "token" } });
    if (api !== "api") return send(404, { error: { message: "nothing here" } });
    if (what === "models") {
      const names = ["holysheep/deepseek-chat", "holysheep/gpt-4.1", "deepseek/deepseek-reasoner", "ollama/org/llama3.2"];
      return send(200, { models: names.map((name, at) => ({ id: name, default: !at })) });
    }
    if (id) return store.has(id) ? send(200, store.get(id)) : send(404, { error: { message: "no such conversation" } });
    const query = url.searchParams.get("q").toLowerCase();
    const found = [...store.values()].reverse().map(({ messages, ...each }) => {
      const hit = messages.find(({ text }) => text.toLowerCase().includes(query));
      return (hit || each.title.toLowerCase().includes(query)) && { ...each, snippet: hit?.text.slice(0, 90) ?? "" };
    }).filter(Boolean);
    send(200, { conversations: found.slice(0, +url.searchParams.get("limit")) });
  });

  const upgrade = new WebSocketServer({ noServer: true, handleProtocols: () => "holychat" });
  server.on("upgrade", (request, socket, head) => {
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(/, */);
    if (!offered.includes("bearer." + token)) return socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    upgrade.handleUpgrade(request, socket, head, serve);
  });

  function serve(socket) {
    let running = null;
    sockets.add(socket);
    socket.on("close", () => { sockets.delete(socket); if (running) running.stopped = true; });
    socket.on("message", async (data) => {
      const asks = JSON.parse(data);
      if (deaf) return;
      if (asks.type === "cancel") { if (running) running.stopped = true; return; }
      const mine = running = { stopped: false };
      await turn(socket, asks, mine);
      if (running === mine) running = null;
    });
  }

  async function turn(socket, { text, conversation, model, regenerate }, mine) {
    const tell = (type, more = {}) => socket.readyState === 1 && !deaf && socket.send(JSON.stringify({ type, ...more }));
    const said = answer(text), [provider, name] = !model || model === "auto" ? ["deepseek", "deepseek-chat"] : model.split(/\/(.*)/);
    if (said.ends === "error") {
      await sleep(50);
      return tell("error", { message: "the provider refuses it", hint: "Try again in a minute." });
    }
    const id = conversation || randomBytes(6).toString("hex");
    if (!store.has(id)) store.set(id, { id, title: text.slice(0, 60), updated: Date.now(), provider, model: name, messages: [] });
    const { messages } = store.get(id);
    if (regenerate && messages.at(-1)?.role === "assistant") messages.pop();
    if (!regenerate) messages.push({ role: "user", text, reasoning: "", model: "", provider: "", cost_text: "" });
    for (const text of said.notices) tell("notice", { text });
    await sleep(80);
    tell("begin", { conversation: id, provider, model: name });
    const part = { role: "assistant", text: "", reasoning: said.reasoning, model: name, provider, cost_text: "$0.0004" };
    messages.push(part);
    const stream = async (type, whole, each = () => {}) => {
      for (let at = 0; at < whole.length && !mine.stopped; at += said.size) {
        const piece = whole.slice(at, at + said.size);
        each(piece);
        tell(type, { text: piece });
        if (said.pace) await sleep(said.pace);
      }
    };
    await stream("reasoning", said.reasoning);
    await stream("delta", said.text, (piece) => { part.text += piece; });
    store.get(id).updated = Date.now();
    tell("done", { finish: mine.stopped ? "interrupted" : "stop", cost: 4e-4, cost_text: "$0.0004", seconds: 2.41,
      first: 0.31, provider, model: name, seams: [],
      usage: { prompt: 412, completion: part.text.length >> 2, cached: 128, reasoning: 0, estimated: mine.stopped } });
  }

  let at = port;
  const listen = () => new Promise((done) => server.listen(at, "127.0.0.1", () => { at = server.address().port; done(); }));
  await listen();
  return {
    token, store, listen,
    get url() { return `http://127.0.0.1:${at}/`; },
    deaf() { deaf = true; },
    hear() { deaf = false; },
    cut() { for (const each of sockets) each.terminate(); },
    close() {
      this.cut();
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
    remove() {},
  };
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const { url, token } = await relay({ port: +(process.argv[2] ?? 0) });
  console.log(`${url}#token=${token}`);
}
