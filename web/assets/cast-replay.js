// A terminal's recording as the replay's page plays it, by asciinema's player.
//
// All times of the page are the recording's own. The player leaves idle time out when asked to and counts differently then; the
// two clocks are turned into each other by the times of the events.
"use strict";
const openPlayer = async (screen, { source, idleLimit, turn }) => {
  const response = await fetch(source);
  if (!response.ok || response.redirected) throw new Error();
  const text = await response.text();
  const times = [];
  for (const line of text.split("\n").slice(1)) {
    if (line.startsWith("[")) times.push(Number.parseFloat(line.slice(1)));
  }
  if (times.length === 0) return null;
  const length = Math.max(times.at(-1), 0.001);

  // The player's time of each event, with idle time left out.
  const short = [];
  let [before, cut] = [0, 0];
  for (const time of times) {
    cut += Math.max(0, time - before - idleLimit);
    short.push(time - cut);
    before = time;
  }
  const last = (list, value) => {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  };
  let [speed, idle] = [1, true];
  const toPlayer = (time) => {
    if (!idle) return time;
    const at = last(times, time);
    return at < 0 ? Math.min(time, idleLimit) : short[at] + Math.min(time - times[at], idleLimit);
  };
  const toReal = (time) => {
    if (!idle) return time;
    const at = last(short, time);
    return at < 0 ? time : times[at] + (time - short[at]);
  };

  let player;
  let playing = false;
  const start = (at) => {
    player?.dispose();
    screen.replaceChildren();
    player = AsciinemaPlayer.create({ data: text }, screen, {
      autoPlay: playing,
      controls: false,
      fit: "width",
      idleTimeLimit: idle ? idleLimit : undefined,
      preload: true,
      poster: `npt:${at}`,
      speed,
      startAt: at,
      theme: "asciinema",
    });
    for (const [name, now] of [["playing", true], ["pause", false], ["ended", false]]) {
      player.addEventListener(name, () => {
        playing = now;
        turn(now);
      });
    }
  };

  return {
    length,
    time: () => {
      const now = player.getCurrentTime();
      return typeof now === "number" ? Math.min(toReal(now), length) : null;
    },
    seek: async (to) => (player ? player.seek(toPlayer(to)) : start(to)),
    play: () => player.play(),
    pause: () => player.pause(),
    set: (wanted, at) => {
      [speed, idle] = [wanted.speed, wanted.idle];
      if (player) start(at);
    },
  };
};
