// `holychat serve` itself, with the provider of provider.mjs behind it, in a folder that is gone
// afterwards. It can do what the stand-in of relay.mjs can: be cut, be deaf, go and come back.
// HOLYCHAT_TEST_PROGRAM names another holychat than `python3 -m holychat`, with its arguments.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { provider } from "./provider.mjs";

export async function real() {
  const home = mkdtempSync(join(tmpdir(), "holychat-page-")), config = join(home, "config.toml");
  const [program, ...given] = (process.env.HOLYCHAT_TEST_PROGRAM ?? "python3 -m holychat").split(" ");
  writeFileSync(config, `provider = "local"\n[providers.local]\nmodel = "tiny"\napi_key = "sk-test"\n` +
    `base_url = "http://127.0.0.1:${await provider()}/v1"\n`, { mode: 0o600 });
  let running = null, link = "", port = 0;

  async function listen() {
    const arguments_ = [...given, "serve", "--port", String(port), "--token-file", join(home, "token"), "--store", join(home, "store.db")];
    const mine = running = spawn(program, arguments_, {
      cwd: home,
      env: { PATH: process.env.PATH, HOME: home, LANG: "C.UTF-8", HOLYCHAT_CONFIG: config, PYTHONDONTWRITEBYTECODE: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "", err = "";
    mine.stderr.on("data", (data) => { err += data; });
    await new Promise((done, fail) => {
      mine.stdout.on("data", (data) => { if ((out += data).includes("\n")) done(); });
      mine.on("error", fail);
      mine.on("exit", () => fail(new Error(`holychat serve ended at once: ${err}`)));
    });
    link = out.trim();
    port = +new URL(link).port;
  }

  function end(signal) {
    const gone = new Promise((done) => running.once("exit", done));
    running.kill(signal);
    running.kill("SIGCONT");  // it may be deaf
    return gone;
  }

  await listen();
  return {
    get url() { return link.replace(/#.*/, ""); },
    get token() { return link.replace(/.*token=/, ""); },
    listen,
    deaf() { running.kill("SIGSTOP"); },
    hear() { running.kill("SIGCONT"); },
    async cut() { await end("SIGKILL"); await listen(); },
    close() { return end("SIGTERM"); },
    remove() { rmSync(home, { recursive: true, force: true }); },
  };
}
