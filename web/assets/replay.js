// The replay: a player (cast-replay.js for terminals, desk-replay.js for desktops) with the recording's marks on a timeline, the
// transcript beside it, and links to a second. All times here are the recording's own.
"use strict";
document.addEventListener("DOMContentLoaded", async () => {
  const root = document.querySelector("[data-replay]");
  if (!root) return;
  const IDLE = 2;
  const find = (name) => root.querySelector(`[data-${name}]`);
  const [screen, clock, link] = [find("player"), find("clock"), find("link")];
  const [play, back, next, speed, idle] = ["play", "back", "next", "speed", "idle"].map(find);
  const timeline = find("timeline");
  const rows = [...root.querySelectorAll(".script li")];

  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const written = (t) =>
    t >= 3600 ? `${Math.floor(t / 3600)}:${two((t / 60) % 60)}:${two(t % 60)}` : `${two(t / 60)}:${two(t % 60)}`;
  const fail = (text) => {
    const note = document.createElement("p");
    note.textContent = text;
    screen.replaceChildren(note);
    clock.textContent = "";
  };

  let playing = false;
  let position = 0;
  const turn = (now) => {
    playing = now;
    play.textContent = now ? "Pause" : "Play";
    if (now) return;
    // Where it stands exactly, not where it was seen last.
    position = player.time() ?? position;
    paint();
  };
  const wanted = () => ({ speed: Number(speed.value), idle: idle.checked });

  let player;
  try {
    const { replay: source, length } = root.dataset;
    player = await openPlayer(screen, { source, length: Number(length), idleLimit: IDLE, turn, fail, written });
  } catch {
    return fail("The recording could not be loaded. Load this page again; the gateway's log says more.");
  }
  if (!player) return fail("Nothing was shown on a terminal. What happened is among the events, to be downloaded below.");
  const length = player.length;
  const seek = async (time) => {
    position = Math.min(Math.max(time, 0), length);
    await player.seek(position);
    paint(true);
  };

  const paint = (jumped = false) => {
    const x = (1000 * position) / length;
    timeline.querySelector(".past").setAttribute("width", x);
    timeline.querySelector(".head").setAttribute("x", Math.max(0, x - 1.5));
    clock.textContent = `${written(position)} / ${written(length)}`;
    timeline.setAttribute("aria-valuenow", Math.floor(position));
    timeline.setAttribute("aria-valuetext", clock.textContent.replace("/", "of"));
    link.textContent = `${location.origin}${location.pathname}#t=${Math.floor(position)}`;
    let current = null;
    for (const row of rows) {
      if (Number(row.dataset.at) > position + 0.05) break;
      current = row;
    }
    for (const row of root.querySelectorAll(".script [aria-current]")) {
      if (row !== current) row.removeAttribute("aria-current");
    }
    if (current && !current.hasAttribute("aria-current")) {
      current.setAttribute("aria-current", "true");
      const list = current.parentElement;
      if (playing || jumped) list.scrollTop = current.offsetTop - list.offsetTop - list.clientHeight / 2;
    }
  };

  const marks = rows.filter((row) => !["screen", "ocr", "resize"].includes(row.dataset.kind));
  for (const row of marks) {
    const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
    group.setAttribute("class", [...row.classList].find((name) => name.startsWith("t-")) ?? "t-info");
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    mark.setAttribute("class", "mk");
    mark.setAttribute("x", Math.min(996, (1000 * Number(row.dataset.at)) / length));
    mark.setAttribute("y", "4");
    mark.setAttribute("width", "4");
    mark.setAttribute("height", "26");
    group.append(mark);
    timeline.querySelector("[data-marks]").append(group);
  }

  timeline.addEventListener("click", (event) => {
    const box = timeline.getBoundingClientRect();
    seek((length * (event.clientX - box.left)) / box.width);
  });
  const toggle = () => (playing ? player.pause() : player.play());
  const toMark = (mark) => mark && seek(Number(mark.dataset.at));
  const later = () => toMark(marks.find((row) => Number(row.dataset.at) > position + 0.5));
  const earlier = () => toMark(marks.findLast((row) => Number(row.dataset.at) < position - 0.5));
  play.addEventListener("click", toggle);
  back.addEventListener("click", () => seek(position - 10));
  next.addEventListener("click", later);
  // As the command line's replay: a space, arrows, brackets; and what a slider has.
  timeline.setAttribute("aria-valuemax", Math.floor(length));
  const keys = {
    " ": toggle,
    ArrowLeft: () => seek(position - 5),
    ArrowRight: () => seek(position + 5),
    "[": earlier,
    "]": later,
    Home: () => seek(0),
    End: () => seek(length),
  };
  timeline.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  const anew = () => player.set(wanted(), position);
  speed.addEventListener("change", anew);
  idle.addEventListener("change", anew);
  find("find")?.addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of rows) row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
  });

  const named = () => {
    const given = /^#t=([\d:.]+)$/.exec(location.hash)?.[1];
    if (given === undefined) return null;
    const time = given.split(":").reduce((sum, part) => sum * 60 + Number.parseFloat(part), 0);
    return Number.isFinite(time) ? Math.min(time, length) : null;
  };
  addEventListener("hashchange", () => {
    const time = named();
    if (time !== null) seek(time);
  });
  // A link to where the address points already is followed all the same.
  document.addEventListener("click", (event) => {
    const to = event.target.closest?.('a[href^="#t="]');
    if (to && to.hash === location.hash) seek(named() ?? 0);
  });

  anew();
  await seek(named() ?? 0);
  for (const button of [play, back, next]) button.disabled = false;
  setInterval(() => {
    if (!playing) return;
    position = player.time() ?? position;
    paint();
  }, 250);
});
