// What pages with a live screen share: its WebSocket and how its end is shown, and how a terminal looks.
"use strict";
const socketAddress = (path) => {
  const address = new URL(path, location.href);
  address.protocol = "wss:";
  return address;
};

const openEnd = (onEnd) => {
  const state = document.querySelector("[data-state]");
  const over = document.getElementById("over");
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
  const gone = () => end("The connection to the gateway is gone.");
  return { state, end, gone };
};

const openSocket = (path, onEnd = () => {}) => {
  const socket = new WebSocket(socketAddress(path));
  const say = (what) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(what));
  };
  const { state, end, gone } = openEnd(onEnd);
  socket.addEventListener("close", gone);
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
