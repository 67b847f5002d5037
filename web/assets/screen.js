// What pages with a live screen share: its WebSocket and how its end is shown, and how a terminal looks.
"use strict";
const openSocket = (path, onEnd = () => {}) => {
  const state = document.querySelector("[data-state]");
  const over = document.getElementById("over");
  const address = new URL(path, location.href);
  address.protocol = "wss:";
  const socket = new WebSocket(address);
  const say = (what) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(what));
  };

  let ended = false;
  const end = (why) => {
    if (ended) return;
    ended = true;
    state.textContent = "over";
    state.classList.add("lost");
    over.querySelector("[data-why]").textContent = why;
    over.hidden = false;
    onEnd();
  };
  socket.addEventListener("close", () => end("The connection to the gateway is gone."));
  return { socket, state, say, end };
};

const openScreen = (place, path, { onEnd, ...options }) => {
  const terminal = new Terminal({
    fontFamily: 'ui-monospace, "Cascadia Mono", Consolas, monospace',
    theme: { background: "#0b1216", foreground: "#d5e0e5" },
    ...options,
  });
  terminal.open(place);
  return { terminal, ...openSocket(path, onEnd) };
};
