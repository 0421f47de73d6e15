// A tool loop, a stream and an error with the openai package for Node. Prints one line of JSON.
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const looked = [];
const tool = {
  type: "function",
  function: {
    name: "look",
    parameters: { type: "object", properties: { at: { type: "number" } } },
    parse: JSON.parse,
    function: ({ at }) => (looked.push(at), `seen ${at}`),
  },
};
const messages = [{ role: "user", content: "Look (Node)." }];
const runner = client.chat.completions.runTools({ model, messages, tools: [tool], stream: true });
const text = await runner.finalContent();

let streamed = "";
let usage = null;
const stream_options = { include_usage: true };
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

let refused = null;
try {
  await client.chat.completions.create({ model, messages: [{ role: "user", content: 5 }] });
} catch (error) {
  refused = { status: error.status, param: error.param };
}
console.log(JSON.stringify({ looked, text, streamed, tokens: usage.total_tokens, refused }));
