// Paints a desktop from the messages of its recording, or as it happens: QOI tiles on a canvas, the pointer on another above.
"use strict";
const makeDesk = (place) => {
  const TILE = 64;
  const [KEY_FRAME, TILES, POINTER, SHAPE] = [64, 65, 66, 67];
  const canvas = document.createElement("canvas");
  const above = document.createElement("canvas");
  const box = document.createElement("div");
  box.className = "desk";
  box.append(canvas, above);
  // A usual size, until it is known.
  for (const each of [canvas, above]) [each.width, each.height] = [1024, 768];
  place.replaceChildren(box);
  const paper = canvas.getContext("2d", { alpha: false });
  const glass = above.getContext("2d");
  let shape = null;
  let pointer = null;
  let under = null;

  // The pixels that QOI chunks (qoiformat.org) make, as red, green, blue and opacity.
  const unpack = (bytes, count) => {
    const pixels = new Uint8ClampedArray(count * 4);
    const seen = new Uint8Array(64 * 4);
    let [r, g, b, a, run, at] = [0, 0, 0, 255, 0, 0];
    for (let to = 0; to < pixels.length; to += 4) {
      if (run > 0) run -= 1;
      else if (at < bytes.length) {
        const first = bytes[at++];
        if (first === 0xfe || first === 0xff) {
          [r, g, b] = [bytes[at], bytes[at + 1], bytes[at + 2]];
          at += 3;
          if (first === 0xff) a = bytes[at++];
        } else if (first >> 6 === 0) {
          [r, g, b, a] = seen.subarray(first * 4, first * 4 + 4);
        } else if (first >> 6 === 1) {
          r = (r + ((first >> 4) & 3) - 2) & 255;
          g = (g + ((first >> 2) & 3) - 2) & 255;
          b = (b + (first & 3) - 2) & 255;
        } else if (first >> 6 === 2) {
          const green = (first & 63) - 32;
          const more = bytes[at++];
          r = (r + green - 8 + (more >> 4)) & 255;
          g = (g + green) & 255;
          b = (b + green - 8 + (more & 15)) & 255;
        } else run = first & 63;
        const place = ((r * 3 + g * 5 + b * 7 + a * 11) % 64) * 4;
        seen[place] = r;
        seen[place + 1] = g;
        seen[place + 2] = b;
        seen[place + 3] = a;
      }
      pixels[to] = r;
      pixels[to + 1] = g;
      pixels[to + 2] = b;
      pixels[to + 3] = a;
    }
    return pixels;
  };

  const tiles = (bytes) => {
    let at = 1;
    const number = () => {
      let [value, scale, byte] = [0, 1, 0];
      do {
        byte = bytes[at++];
        value += (byte & 127) * scale;
        scale *= 128;
      } while (byte & 128);
      return value;
    };
    const columns = Math.ceil(canvas.width / TILE);
    while (at < bytes.length) {
      const tile = number();
      const [x, y] = [(tile % columns) * TILE, Math.floor(tile / columns) * TILE];
      const [width, height] = [Math.min(TILE, canvas.width - x), Math.min(TILE, canvas.height - y)];
      if (bytes[at++] === 0) {
        paper.fillStyle = `rgb(${bytes[at]} ${bytes[at + 1]} ${bytes[at + 2]})`;
        paper.fillRect(x, y, width, height);
        at += 3;
      } else {
        const length = number();
        if (width > 0 && height > 0) {
          const pixels = unpack(bytes.subarray(at, at + length), width * height);
          paper.putImageData(new ImageData(pixels, width, height), x, y);
        }
        at += length;
      }
    }
  };

  // A cross where only the place of the pointer is known, a ring around one that has a button down.
  const point = () => {
    if (under) glass.clearRect(...under);
    under = null;
    if (!pointer || shape === "hidden") return;
    const { x, y, buttons } = pointer;
    under = [x - 110, y - 110, 220, 220];
    if (shape) glass.drawImage(shape.picture, x - shape.hot[0], y - shape.hot[1]);
    else {
      for (const [width, colour] of [[3, "#000"], [1, "#fff"]]) {
        glass.lineWidth = width;
        glass.strokeStyle = colour;
        glass.beginPath();
        glass.moveTo(x - 7, y + 0.5);
        glass.lineTo(x + 8, y + 0.5);
        glass.moveTo(x + 0.5, y - 7);
        glass.lineTo(x + 0.5, y + 8);
        glass.stroke();
      }
    }
    if (buttons) {
      glass.lineWidth = 2;
      glass.strokeStyle = "#e8590c";
      glass.beginPath();
      glass.arc(x, y, 14, 0, 2 * Math.PI);
      glass.stroke();
    }
  };

  const look = (bytes, view) => {
    if (bytes[0] === 0) return "hidden";
    if (bytes[0] !== 2) return null;
    const [width, height] = [view.getUint16(1, true), view.getUint16(3, true)];
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [width, height];
    picture.getContext("2d").putImageData(new ImageData(unpack(bytes.subarray(9), width * height), width, height), 0, 0);
    return { picture, hot: [view.getUint16(5, true), view.getUint16(7, true)] };
  };

  // Nothing is on the screen, as before the first picture.
  const clear = () => {
    place.replaceChildren(box);
    paper.fillStyle = "#000";
    paper.fillRect(0, 0, canvas.width, canvas.height);
    [pointer, shape] = [null, null];
    point();
  };

  // Does what a message says; others than those of pictures change nothing.
  const paint = ({ kind, bytes }) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (kind === KEY_FRAME) {
      const [width, height] = [view.getUint16(0, true), view.getUint16(2, true)];
      if (canvas.width !== width || canvas.height !== height) {
        for (const each of [canvas, above]) [each.width, each.height] = [width, height];
        point();
      }
    } else if (kind === TILES) tiles(bytes);
    else if (kind === POINTER) {
      pointer = { x: view.getUint16(0, true), y: view.getUint16(2, true), buttons: bytes[4] };
      point();
    } else if (kind === SHAPE) {
      shape = look(bytes, view);
      point();
    }
  };

  // The whole messages at the start of `bytes`, and what is left behind them.
  const read = (bytes) => {
    const messages = [];
    let at = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    while (at + 9 <= bytes.length) {
      const length = view.getUint32(at, true);
      if (at + 4 + length > bytes.length) break;
      const time = view.getUint32(at + 5, true) / 1000;
      messages.push({ kind: bytes[at + 4], time, bytes: bytes.subarray(at + 9, at + 4 + length) });
      at += 4 + length;
    }
    return { messages, rest: bytes.subarray(at) };
  };

  return { clear, paint, read };
};
