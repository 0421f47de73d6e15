// The stream helper of the openai package for Node, which refuses events about what was not announced. Prints JSON.
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const stream = client.responses.stream({ model, input: "Hi" });
const deltas = [];
for await (const event of stream) if (event.type.endsWith(".delta")) deltas.push(event.delta);
const response = await stream.finalResponse();
console.log(JSON.stringify({ deltas, types: response.output.map((item) => item.type), text: response.output_text }));
