// Live sessions: the listing that follows what happens, and the terminal or desktop of one session as it happens.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const idle = (since) => {
    const seconds = Math.max(0, Math.round((Date.now() - since) / 1000));
    if (seconds < 120) return `${seconds} s ago`;
    return seconds < 7200 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
  };
  const count = () => {
    for (const element of document.querySelectorAll("[data-since]")) {
      const text = idle(Date.parse(element.dataset.since));
      if (element.textContent !== text) element.textContent = text;
    }
  };
  count();
  setInterval(count, 1000);

  const list = document.querySelector("[data-events]");
  if (list) {
    const events = new EventSource(list.dataset.events);
    const mark = (lost) => list.querySelector(".live")?.classList.toggle("lost", lost);
    events.addEventListener("rows", (event) => {
      // A person who is about to press a button of a row keeps it.
      const held = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      list.innerHTML = event.data;
      if (held) list.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
      count();
    });
    events.addEventListener("over", () => {
      events.close();
      location.reload();
    });
    events.addEventListener("open", () => mark(false));
    events.addEventListener("error", () => mark(true));
  }

  const place = document.querySelector("[data-watch]");
  if (!place) return;
  const marks = document.querySelector("[data-marks]");
  const pill = document.querySelector("[data-pill]");
  const desktop = place.hasAttribute("data-desktop");
  const { terminal, socket, state, say: answer, end } = desktop
    ? openSocket(place.dataset.watch)
    : openScreen(place, place.dataset.watch, { disableStdin: true, fontSize: 13, scrollback: 2000 });
  // Nothing that the target sends for the person's terminal is answered from here.
  place.querySelector("textarea")?.setAttribute("readonly", "");
  const desk = desktop ? makeDesk(place) : null;
  socket.binaryType = "arraybuffer";
  const ack = () => answer({ ack: 1 });
  const resize = (columns, rows) => terminal.resize(Math.min(columns, 500), Math.min(rows, 200));
  const say = (text, tone) => {
    const item = document.createElement("li");
    if (tone) item.className = tone;
    const time = document.createElement("time");
    const now = new Date();
    time.dateTime = now.toISOString();
    time.textContent = now.toLocaleTimeString();
    const words = document.createElement("p");
    words.textContent = text;
    item.append(time, words);
    item.classList.add("fresh");
    marks.prepend(item);
    while (marks.children.length > 200) marks.lastElementChild.remove();
  };
  const turn = (word) => {
    pill.className = `pill p-${word}`;
    pill.textContent = word;
    if (word === "active") document.querySelector("[data-frozen]")?.remove();
  };

  socket.addEventListener("message", (event) => {
    if (event.data instanceof ArrayBuffer) {
      for (const message of desk?.read(new Uint8Array(event.data)).messages ?? []) desk.paint(message);
      state.textContent = "live";
      return ack();
    }
    const message = JSON.parse(event.data);
    if (message.screen) {
      resize(message.screen.columns, message.screen.rows);
      terminal.write(message.screen.text);
      state.textContent = "live";
    }
    if (message.output !== undefined) terminal.write(message.output, ack);
    if (message.size) resize(...message.size);
    if (message.cleared) terminal.reset();
    if (message.mark) {
      const { kind, text } = message.mark;
      if (kind === "suspend") turn("suspended");
      if (kind === "resume") turn("active");
      if (kind !== "resize") say(text.startsWith(`${kind}: `) ? text : `${kind}: ${text}`, { finding: "t-bad", suspend: "t-warn" }[kind]);
    }
    if (message.ended !== undefined) end(message.ended);
  });
});
