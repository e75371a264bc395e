"use strict";
// Light and dark by the button, else by the system.
const remembered = (() => { try { return localStorage.getItem("coderl-theme"); } catch { return null; } })();
if (remembered === "light" || remembered === "dark") document.documentElement.dataset.theme = remembered;
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("coderl-theme", root.dataset.theme); } catch { /* private windows may keep nothing */ }
});

// A form with data-into asks again while it is changed, and puts the answer into that element.
for (const form of document.querySelectorAll("form[data-into]")) {
  const target = document.querySelector(form.dataset.into);
  let waiting = 0, latest = 0;
  const ask = async () => {
    const mine = ++latest;
    target.classList.add("busy");
    try {
      const answer = await fetch(form.action + "?" + new URLSearchParams(new FormData(form)), { credentials: "same-origin" });
      if (answer.redirected) { location.reload(); return; }
      const text = await answer.text();
      if (mine === latest) target.innerHTML = text;
    } catch {
      if (mine === latest) target.textContent = "The server does not answer.";
    } finally {
      if (mine === latest) target.classList.remove("busy");
    }
  };
  form.addEventListener("input", (event) => {
    const shown = event.target.id && form.querySelector(`output[for="${event.target.id}"]`);
    if (shown) shown.textContent = event.target.value.replace("-", "−");
    clearTimeout(waiting);
    waiting = setTimeout(ask, 60);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
}

// Buttons of forms with data-sure ask first.
for (const form of document.querySelectorAll("form[data-sure]")) {
  form.addEventListener("submit", (event) => { if (!confirm(form.dataset.sure)) event.preventDefault(); });
}
