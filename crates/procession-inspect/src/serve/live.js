"use strict";
// Shows each state that the server sends. The texts in it are escaped by the server, as those of the page itself.
const families = document.getElementById("families");
const banner = document.getElementById("banner");
const connection = document.getElementById("connection");

function show(state) {
  const open = new Set([...families.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  const scrolled = [...families.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  families.innerHTML = state.html;
  for (const summary of families.querySelectorAll("summary")) {
    if (open.has(summary.textContent)) summary.parentElement.open = true;
  }
  families.querySelectorAll(".scroll").forEach((one, number) => { one.scrollLeft = scrolled[number] || 0; });
  const problems = state.families.flatMap((family) => family.findings.filter((one) => one.level === "problem")
    .map((one) => one.kind.toUpperCase() + (one.proof === "suspected" ? " (suspected): " : ": ") + one.title + " (" +
      family.title + ")"));
  const text = problems.join("\n");
  // A screen reader reads the banner aloud when its text changes.
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = problems.length === 0;
  document.title = (problems.length ? "(" + problems.length + ") " : "") + "procession: live";
}

const source = new EventSource("events");
source.onopen = () => { connection.textContent = "live"; };
source.onmessage = (event) => { connection.textContent = "live"; show(JSON.parse(event.data)); };
source.onerror = () => {
  connection.textContent = "The connection is lost: this is the last state. It is tried again.";
};
