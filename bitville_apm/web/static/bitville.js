// Puts times into the reader's own zone. Without it pages say the same in UTC.
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
  element.title = element.textContent;
  const style = element.dataset.style;
  if (style === "ago") element.textContent = `(${ago(at)})`;
  else if (style === "time" || (style === "clock" && day(at) === day(new Date()))) element.textContent = clock(at);
  else element.textContent = `${day(at)} ${clock(at)}`;
}

const name = document.getElementById("zone");
if (name) name.textContent = zone;

// Fields for times hold the reader's time on screen, and UTC in the address.
for (const label of document.querySelectorAll(".utc")) label.hidden = true;
for (const field of document.querySelectorAll("input[data-utc]")) {
  if (field.value) {
    const at = new Date(`${field.value}Z`);
    field.value = `${day(at)}T${clock(at)}`;
  }
}
for (const form of document.querySelectorAll("form.search")) {
  form.addEventListener("formdata", (event) => {
    for (const field of form.querySelectorAll("input[data-utc]")) {
      if (field.value) event.formData.set(field.name, new Date(field.value).toISOString().slice(0, 19) + "Z");
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
