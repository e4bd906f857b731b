// The AI SDK against a relay, as its users write it: `node aisdk.mjs URL TOKEN CHECK PACKAGE`, with
// "openai-compatible" or "openai" as the package. Prints what came as JSON lines;
// tests/real/test_serve_node.py asserts on them.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [baseURL, apiKey, check, of] = process.argv.slice(2);
const say = (said) => console.log(JSON.stringify(said));

const PACKAGES = {
  "openai-compatible": (key) => createOpenAICompatible({
    name: "holychat", baseURL, apiKey: key, includeUsage: true, supportsStructuredOutputs: true,
  }),
  "openai": (key) => createOpenAI({ baseURL, apiKey: key }).chat,
};
const model = (name = "auto", key = apiKey) => PACKAGES[of](key)(name);
const weather = tool({
  description: "The weather of a place",
  inputSchema: z.object({ place: z.string() }),
  execute: async ({ place }) => `${place}: rain`,
});

function told(error) {
  say({
    error: error.name,
    api: APICallError.isInstance(error),
    status: error.statusCode,
    message: error.message,
    after: error.responseHeaders?.["retry-after"] ?? null,
    again: error.isRetryable,
  });
}

const CHECKS = {
  async whole() {
    const got = await generateText({ model: model(), prompt: "hi" });
    say({
      text: got.text,
      reasoning: got.reasoningText ?? null,
      finish: got.finishReason,
      usage: got.usage,
    });
  },

  async stream() {
    const got = streamText({ model: model(), prompt: "hi", onError: ({ error }) => told(error) });
    for await (const piece of got.textStream) say({ piece });
    say({
      reasoning: (await got.reasoningText) ?? null,
      finish: await got.finishReason,
      usage: await got.usage,
    });
  },

  // Asked, called by the SDK, answered.
  async tools() {
    const asked = {
      model: model(), prompt: "How is it in Oslo?", tools: { weather }, stopWhen: stepCountIs(3),
    };
    const made = (steps) => steps.map(({ toolCalls }) => toolCalls.map((one) => [one.toolName, one.input]));
    const whole = await generateText(asked);
    say({ text: whole.text, steps: made(whole.steps) });
    const stream = streamText({ ...asked, onError: ({ error }) => told(error) });
    const kinds = new Set();
    for await (const part of stream.fullStream) kinds.add(part.type);
    say({ text: await stream.text, steps: made(await stream.steps), kinds: [...kinds] });
  },

  async object() {
    const output = Output.object({ schema: z.object({ place: z.string(), degrees: z.number() }) });
    const got = await generateText({ model: model(), prompt: "How is it in Oslo?", output });
    say({ output: got.output });
  },

  async errors() {
    const asked = { prompt: "hi", maxRetries: 0 };
    await generateText({ ...asked, model: model("auto", "sk-wrong") }).catch(told);
    await generateText({ ...asked, model: model("nope") }).catch(told);
    await generateText({ ...asked, model: model() }).catch(told);  // 429
  },

  // It waits as long as it was told, and asks again.
  async patience() {
    const began = performance.now();
    const got = await generateText({ model: model(), prompt: "hi" });
    say({ text: got.text, seconds: (performance.now() - began) / 1000 });
  },

  // A stream that breaks after its head is out.
  async broken() {
    const errors = [];
    const got = streamText({ model: model(), prompt: "hi", onError: ({ error }) => errors.push(error) });
    let text = "";
    for await (const piece of got.textStream) text += piece;
    say({ text, errors: errors.map((error) => error.message ?? error), finish: await got.finishReason });
  },

  async abort() {
    const leave = new AbortController();
    const got = streamText({ model: model(), prompt: "hi", abortSignal: leave.signal });
    const kinds = [];
    let text = "";
    for await (const part of got.fullStream) {
      kinds.push(part.type);
      if (part.type === "text-delta") text += part.text;
      if (text) leave.abort();
    }
    say({ text, last: kinds.at(-1) });
  },

  async "abort whole"() {
    const abortSignal = AbortSignal.timeout(500);
    await generateText({ model: model(), prompt: "hi", abortSignal }).catch(told);
  },
};

await CHECKS[check]();
