// Puts times into the reader's own zone; where the pointer rests on one it is said in UTC. Without it pages are in UTC.
"use strict";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const two = (number) => String(number).padStart(2, "0");
const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });

function ago(at) {
  const seconds = (at - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return relative.format(Math.trunc(seconds), "second");
}

for (const element of document.querySelectorAll("time[datetime]")) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) continue;
  const style = element.dataset.style;
  const short = style === "time" || (style === "clock" && day(at) === day(new Date()));
  element.title = `${element.dateTime.slice(0, 19).replace("T", " ")} UTC`;
  element.textContent = (short ? "" : `${day(at)} `) + clock(at) + (style === "ago" ? ` (${ago(at)})` : "");
}

const name = document.getElementById("zone");
if (name) name.textContent = zone;

// Fields for times hold the reader's time on screen, and UTC in the address. What a field was sent with is its default
// value, whatever a browser that goes back puts into it; and it stays that until the reader changes it, because an hour
// that a change of the clocks repeats cannot be told from what is on screen.
for (const label of document.querySelectorAll(".utc")) label.hidden = true;
const typed = new Map();
for (const field of document.querySelectorAll("input[data-utc]")) {
  if (!field.defaultValue) continue;
  const at = new Date(`${field.defaultValue}Z`);
  field.value = `${day(at)}T${clock(at)}`;
  typed.set(field, field.value);
}
for (const form of document.querySelectorAll("form.search")) {
  form.addEventListener("formdata", (event) => {
    for (const field of form.querySelectorAll("input[data-utc]")) {
      if (!field.value) continue;
      const kept = field.value === typed.get(field);
      event.formData.set(field.name, kept ? `${field.defaultValue}Z` : `${new Date(field.value).toISOString().slice(0, 19)}Z`);
    }
    for (const [key, value] of [...event.formData]) if (value === "") event.formData.delete(key);
  });
}

// A menu closes when the reader goes elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll(".menu[open]")) menu.open = false;
});
