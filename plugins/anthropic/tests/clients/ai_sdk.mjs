// Vercel's AI SDK with its Anthropic provider: an object, a stream, and a loop with a tool. Prints what it got as JSON.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [url, apiKey, name] = process.argv.slice(2);
const model = createAnthropic({ baseURL: `${url}/v1`, apiKey })(name);
const providerOptions = { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } };
const asked = [];
const weather = tool({
  description: "Tell the weather.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    asked.push(city);
    return "Sunny";
  },
});

const loop = await generateText({
  model, prompt: "Weather?", tools: { weather }, stopWhen: stepCountIs(5), providerOptions, maxRetries: 0,
});
const stream = streamText({ model, prompt: "Hi", providerOptions, maxRetries: 0 });
const kinds = [];
for await (const part of stream.fullStream) kinds.push(part.type);
const object = await generateText({
  model, prompt: "A city", maxRetries: 0, output: Output.object({ schema: z.object({ name: z.string() }) }),
});
let refused;
try {
  await generateText({ model, prompt: "No", maxRetries: 0 });
} catch (error) {
  refused = { status: error.statusCode, message: error.message };
}
console.log(JSON.stringify({
  asked, text: loop.text, steps: loop.steps.length, reasoning: loop.steps[0].reasoningText, finish: loop.finishReason,
  kinds: [...new Set(kinds)], streamed: await stream.text, usage: await stream.usage, object: object.output, refused,
}));
