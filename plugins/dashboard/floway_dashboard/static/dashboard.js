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
