// A desktop's recording as the replay's page plays it: stretch by stretch from the server, painted by desk.js.
"use strict";

// Small pictures below the timeline, each a link to its second. Without them the page does as well.
const showStills = async (desk, list, written) => {
  const STILL = 3;
  try {
    const response = await fetch(list.dataset.stills);
    if (!response.ok || response.redirected) return;
    const { messages } = desk.read(new Uint8Array(await response.arrayBuffer()));
    for (const { kind, time, bytes } of messages) {
      if (kind !== STILL) continue;
      const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
      const [item, link, canvas, clock] = ["li", "a", "canvas", "span"].map((name) => document.createElement(name));
      [canvas.width, canvas.height] = [picture.width, picture.height];
      canvas.getContext("2d").drawImage(picture, 0, 0);
      canvas.setAttribute("aria-hidden", "true");
      clock.textContent = written(time);
      // Not rounded: that could be another second than the one below the picture.
      link.href = `#t=${time}`;
      link.setAttribute("aria-label", `Go to the picture at ${clock.textContent}`);
      link.append(canvas, clock);
      item.append(link);
      list.append(item);
      list.hidden = false;
    }
  } catch {
    return;
  }
};

const openPlayer = async (screen, { source, idleLimit, turn, fail, written, ...page }) => {
  const STRETCH = 2;
  const AHEAD = 20;
  const desk = makeDesk(screen);
  let messages = [];
  let next = 0;
  // Where the next stretch begins, and whether there is none any more.
  let edge = 0;
  let over = false;
  let failed = false;
  let loading = null;
  let playing = false;
  let position = 0;
  let before = 0;
  let [speed, idle] = [1, true];
  // The first picture of the replay comes first.
  let stills = document.querySelector("[data-stills]");

  // Reads a stretch; what is read already can be shown before the rest is there.
  const load = async (from, begun) => {
    loading?.abort();
    const mine = new AbortController();
    loading = mine;
    try {
      const response = await fetch(`${source}?from=${Math.max(0, Math.round(from * 1000))}`, { signal: mine.signal });
      // A log-in that is over leads to another page, which is no recording: nothing may look like an empty desktop.
      if (!response.ok || response.redirected) throw new Error();
      const reader = response.body.getReader();
      let rest = new Uint8Array();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const joined = new Uint8Array(rest.length + value.length);
        joined.set(rest);
        joined.set(value, rest.length);
        const got = desk.read(joined);
        rest = got.rest;
        for (const message of got.messages) {
          if (message.kind !== STRETCH) messages.push(message);
          else [edge, over] = [message.time + 0.001, message.bytes[0] === 1];
        }
        begun();
      }
    } catch {
      if (mine.signal.aborted) return;
      // Nothing is asked for again and again; whoever plays or jumps asks once more.
      [over, failed] = [true, true];
      if (playing) stop(false);
      fail("The recording could not be loaded any further. Play it once more, or load this page again; the gateway's log says more.");
    }
    if (loading === mine) loading = null;
  };

  const show = () => {
    while (next < messages.length && messages[next].time <= position + 0.0005) {
      desk.paint(messages[next]);
      next += 1;
    }
    if (next > 2000) {
      messages = messages.slice(next);
      next = 0;
    }
  };
  const seek = (to) =>
    new Promise((done) => {
      position = to;
      before = performance.now();
      [messages, next, over, failed] = [[], 0, false, false];
      let fresh = true;
      load(to, () => {
        // Places that were not drawn yet then are none that were drawn later.
        if (fresh) desk.clear();
        fresh = false;
        show();
        done();
      }).then(() => {
        done();
        if (stills) showStills(desk, stills, written);
        stills = null;
      });
    });
  const stop = (now) => {
    playing = now;
    before = performance.now();
    turn(now);
  };

  setInterval(() => {
    const now = performance.now();
    const passed = (now - before) / 1000;
    before = now;
    if (!playing) return;
    const due = messages[next]?.time;
    // What is not there yet is waited for, and an end is an end.
    if (due === undefined && loading) return;
    if (due === undefined && over) {
      // Nothing happens any more up to where it ends.
      position = page.length;
      return stop(false);
    }
    position = Math.min(position + passed * speed, page.length);
    if (idle && due !== undefined && due - position > idleLimit) position = due - idleLimit;
    show();
    if (!loading && !over && (messages.at(-1)?.time ?? position) - position < AHEAD * speed) load(Math.max(edge, position), () => {});
    if (position >= page.length) stop(false);
  }, 40);

  return {
    length: page.length,
    time: () => position,
    seek,
    // From the beginning, where there is nothing behind it.
    play: async () => {
      if (failed || position >= page.length) await seek(failed ? position : 0);
      if (!failed) stop(true);
    },
    pause: () => stop(false),
    set: (wanted) => {
      [speed, idle] = [wanted.speed, wanted.idle];
    },
  };
};
