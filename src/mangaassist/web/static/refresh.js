// Keeps the page current. Without this file the link it takes over reloads the page.
"use strict";

(() => {
  const link = document.getElementById("refresh");
  const note = document.getElementById("refresh-note");
  if (!link || !note) return;

  const seconds = Number(link.dataset.seconds);
  const button = document.createElement("button");
  button.type = "button";
  button.className = link.className;
  button.id = link.id;
  link.replaceWith(button);

  let paused = false;
  let lost = false;

  const label = () => {
    button.textContent = paused ? "Resume updates" : "Pause updates";
  };

  const replace = (fresh, id) => {
    const here = document.getElementById(id);
    const there = fresh.getElementById(id);
    if (!here || !there || here.innerHTML === there.innerHTML) return;
    const open = new Map([...here.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    for (const one of there.querySelectorAll("details[id]")) {
      if (open.has(one.id)) one.open = open.get(one.id);
    }
    here.innerHTML = there.innerHTML;
  };

  const busy = () => {
    const live = document.getElementById("live");
    const selected = document.getSelection();
    return live && (live.contains(document.activeElement) || (selected && !selected.isCollapsed));
  };

  const update = async () => {
    // Never pull the page from under someone who reads with the keyboard or is copying from it.
    if (paused || document.hidden || busy()) return;
    try {
      const answer = await fetch(window.location.pathname, { cache: "no-cache" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      replace(fresh, "live");
      replace(fresh, "asof");
      document.title = fresh.title;
      if (lost) note.textContent = "Connected again.";
      lost = false;
    } catch {
      if (!lost) note.textContent = "Connection lost; what you see may be old.";
      lost = true;
    }
  };

  button.addEventListener("click", () => {
    paused = !paused;
    label();
    if (!paused) update();
  });
  label();
  window.setInterval(update, seconds * 1000);
})();
