// The openai package for Node on one WebSocket: a warm-up, an error, and two turns. Prints what came as JSON.
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";

const [baseURL, apiKey, model] = process.argv.slice(2);
const socket = new ResponsesWS(new OpenAI({ baseURL, apiKey }));
const events = [];
let ended = () => {};
socket.on("event", (event) => {
  events.push(event.type);
  if (["response.completed", "error"].includes(event.type)) ended(event);
});
socket.on("error", () => {}); // it would be thrown otherwise

const turn = (fields) =>
  new Promise((resolve) => {
    ended = resolve;
    socket.send({ type: "response.create", model, ...fields });
  });

const warm = (await turn({ input: [], generate: false })).response;
const first = (await turn({ input: "One", store: false, previous_response_id: warm.id })).response;
const error = await turn({ input: "Two", previous_response_id: "resp_unknown" });
const second = (await turn({ input: "Two", store: false, previous_response_id: first.id })).response;
const text = (response) => response.output.flatMap((item) => item.content ?? []).map((part) => part.text).join("");
const closed = new Promise((resolve) => socket.socket.on("close", resolve));
socket.close();
console.log(JSON.stringify({ first: text(first), second: text(second), error, events, code: await closed }));
