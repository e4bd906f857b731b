// The openai SDK for Node against a relay, as its users write it: `node openai.mjs URL TOKEN CHECK`.
// Prints what came as JSON lines; tests/real/test_serve_node.py asserts on them.

import OpenAI from "openai";

const [baseURL, apiKey, check] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const say = (said) => console.log(JSON.stringify(said));
const asked = (text) => ({ model: "auto", messages: [{ role: "user", content: text }] });
const tools = [{
  type: "function",
  function: {
    name: "weather",
    description: "The weather of a place",
    parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
  },
}];

// What a request is refused with, in the SDK's own words.
async function refused(request) {
  try {
    await request;
    say({ error: null });
  } catch (error) {
    say({
      error: error.constructor.name,
      status: error.status,
      code: error.code,
      type: error.type,
      param: error.param,
      message: error.message,
      after: error.headers?.get("retry-after") ?? null,
    });
  }
}

const CHECKS = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    say({ ids });
  },

  async whole() {
    const { data, response } = await client.chat.completions.create(asked("hi")).withResponse();
    const choice = data.choices[0];
    say({
      text: choice.message.content,
      finish: choice.finish_reason,
      usage: data.usage,
      provider: response.headers.get("x-holychat-provider"),
    });
  },

  async stream() {
    const stream = await client.chat.completions.create({ ...asked("hi"), stream: true });
    for await (const chunk of stream) say(chunk);
  },

  async usage() {
    const options = { stream: true, stream_options: { include_usage: true } };
    const stream = await client.chat.completions.create({ ...asked("hi"), ...options });
    for await (const chunk of stream) say(chunk);
  },

  // Asked, called, answered; the first half whole or as a stream, which the SDK puts together.
  async tools() {
    for (const streamed of [false, true]) {
      const question = { ...asked("How is it in Oslo?"), tools };
      const first = streamed
        ? await client.chat.completions.stream(question).finalChatCompletion()
        : await client.chat.completions.create(question);
      const { message, finish_reason: finish } = first.choices[0];
      const calls = message.tool_calls;
      const results = calls.map((call) => ({
        role: "tool",
        tool_call_id: call.id,
        content: `${JSON.parse(call.function.arguments).place}: rain`,
      }));
      const messages = [...question.messages, message, ...results];
      const second = await client.chat.completions.create({ ...question, messages });
      say({ finish, calls, text: second.choices[0].message.content });
    }
  },

  // The SDK's own loop: it calls the function, sends what it returned, and streams the end.
  async runner() {
    const runner = client.chat.completions.runTools({
      ...asked("How is it in Oslo?"),
      stream: true,
      tools: [{
        type: "function",
        function: { ...tools[0].function, parse: JSON.parse, function: ({ place }) => `${place}: rain` },
      }],
    });
    say({ text: await runner.finalContent() });
  },

  async authentication() {
    const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong" });
    await refused(stranger.chat.completions.create(asked("hi")));
    await refused(stranger.models.list());
  },

  async rate() {
    await refused(client.chat.completions.create(asked("hi"), { maxRetries: 0 }));
  },

  // The SDK waits as long as it was told, and asks again.
  async patience() {
    const began = performance.now();
    const got = await client.chat.completions.create(asked("hi"));
    say({ text: got.choices[0].message.content, seconds: (performance.now() - began) / 1000 });
  },

  async wrong() {
    await refused(client.chat.completions.create({ model: "auto", messages: [] }));
    await refused(client.chat.completions.create({ ...asked("hi"), n: 2 }));
  },

  async lost() {
    await refused(client.chat.completions.create({ ...asked("hi"), model: "nope" }));
    await refused(client.models.retrieve("nope/and/none"));
  },

  // What the relay has tried already is not tried again.
  async busy() {
    await refused(client.chat.completions.create(asked("hi")));
  },

  // A stream that breaks after its head is out.
  async broken() {
    let text = "";
    await refused((async () => {
      const stream = await client.chat.completions.create({ ...asked("hi"), stream: true });
      for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    })());
    say({ text });
  },

  async abort() {
    const leave = new AbortController();
    const options = { signal: leave.signal };
    const stream = await client.chat.completions.create({ ...asked("hi"), stream: true }, options);
    let text = "";
    for await (const chunk of stream) {  // the SDK ends such a loop without an error
      text += chunk.choices[0]?.delta?.content ?? "";
      if (text) leave.abort();
    }
    say({ text, aborted: leave.signal.aborted });
  },

  async "abort whole"() {
    const leave = new AbortController();
    setTimeout(() => leave.abort(), 500);
    await refused(client.chat.completions.create(asked("hi"), { signal: leave.signal }));
  },
};

await CHECKS[check]();
