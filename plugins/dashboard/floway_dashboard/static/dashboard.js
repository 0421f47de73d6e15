// What makes pages lively. Without it, all of them work.
"use strict";

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});

// Times in the zone of the reader, where the pointer asks for them.
document.querySelectorAll("time[datetime]").forEach((element) => {
  element.title = new Date(element.dateTime).toLocaleString();
});

// On a phone the menu is a strip, which may be too long to show the current page.
// Not by scrollIntoView, after which the first Tab would go to what follows.
document.querySelectorAll(".side nav").forEach((menu) => {
  const current = menu.querySelector("[aria-current]");
  if (current) menu.scrollLeft += current.getBoundingClientRect().left - menu.clientWidth / 2 + current.offsetWidth / 2;
});

// What is of use only with a script.
document.querySelectorAll("[data-with-script]").forEach((element) => { element.hidden = false; });

// Rows that renew themselves, while their box is ticked and somebody can see them.
document.querySelectorAll("[data-refreshes]").forEach((box) => {
  const rows = document.getElementById(box.dataset.refreshes);
  const renew = async () => {
    if (box.checked && !document.hidden) {
      try {
        const answer = await fetch(rows.dataset.source, { headers: { accept: "application/json" } });
        if (answer.status === 401) return window.location.reload();
        if (answer.ok) rows.innerHTML = await answer.text();
      } catch { /* the gateway restarts: try again */ }
    }
    setTimeout(renew, Number(rows.dataset.seconds) * 1000);
  };
  setTimeout(renew, Number(rows.dataset.seconds) * 1000);
});

// An answer that appears while it is written.
document.querySelectorAll("form[data-stream]").forEach((form) => {
  const text = document.querySelector("[data-answer]");
  const facts = document.querySelector("[data-facts]");
  const [send, stop] = [form.querySelector("[type=submit]"), form.querySelector("[data-stop]")];
  let running = null;
  stop.addEventListener("click", () => running && running.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    [send.disabled, stop.hidden, text.textContent, facts.textContent] = [true, false, "", "Waiting for the model …"];
    const started = performance.now();
    const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
    try {
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.dataset.stream, { method: "POST", body, signal: running.signal });
      if (!answer.ok) throw new Error(await messageOf(answer));
      for await (const data of eventsOf(answer.body)) {
        if (data.type === "response.output_text.delta") text.textContent += data.delta;
        if (data.type === "response.failed") throw new Error(data.response.error.message);
        if (data.type === "error") throw new Error(data.message);
        const used = data.response && data.response.usage;
        facts.textContent = used ? `${seconds()}, ${used.input_tokens} tokens in, ${used.output_tokens} out` : seconds();
      }
    } catch (error) {
      facts.textContent = error.name === "AbortError" ? `Stopped after ${seconds()}.` : error.message;
    } finally {
      [send.disabled, stop.hidden, running] = [false, true, null];
    }
  });
});

async function messageOf(answer) {
  const body = await answer.text();
  try {
    return JSON.parse(body).error.message;
  } catch {
    return `The gateway answered ${answer.status}. Reload the page.`;
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
