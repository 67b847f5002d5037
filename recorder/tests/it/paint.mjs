// Runs the page's painter (the file named first) over the messages on standard input, on canvases that are mere bytes, and writes
// the picture: width and height (4 bytes each), then red, green and blue of each pixel.
import { readFileSync } from "node:fs";

globalThis.ImageData = class {
  constructor(data, width, height) {
    Object.assign(this, { data, width, height });
  }
};
class Canvas {
  #size = [0, 0];
  bytes = new Uint8Array();
  set width(n) {
    this.#size[0] = n;
    this.bytes = new Uint8Array(this.#size[0] * this.#size[1] * 4);
  }
  get width() {
    return this.#size[0];
  }
  set height(n) {
    this.#size[1] = n;
    this.bytes = new Uint8Array(this.#size[0] * this.#size[1] * 4);
  }
  get height() {
    return this.#size[1];
  }
  append() {}
  getContext() {
    const canvas = this;
    const dot = (x, y, colour) => canvas.bytes.set(colour, (y * canvas.width + x) * 4);
    return {
      fillRect(left, top, width, height) {
        const colour = /^rgb\((\d+) (\d+) (\d+)\)$/.exec(this.fillStyle).slice(1).map(Number);
        for (let y = top; y < top + height; y += 1) for (let x = left; x < left + width; x += 1) dot(x, y, colour);
      },
      putImageData({ data, width, height }, left, top) {
        for (let y = 0; y < height; y += 1) {
          for (let x = 0; x < width; x += 1) dot(left + x, top + y, data.subarray((y * width + x) * 4, (y * width + x) * 4 + 3));
        }
      },
      clearRect() {},
      drawImage() {},
      beginPath() {},
      moveTo() {},
      lineTo() {},
      arc() {},
      stroke() {},
    };
  }
}
const made = [];
globalThis.document = {
  createElement() {
    made.push(new Canvas());
    return made.at(-1);
  },
};

const makeDesk = new Function(`${readFileSync(process.argv[2], "utf8")}; return makeDesk;`)();
const desk = makeDesk({ replaceChildren() {} });
const [canvas] = made;
// As a connection brings them: in pieces of any length.
const sent = readFileSync(0);
let rest = new Uint8Array();
for (let at = 0; at < sent.length; at += 10_007) {
  const got = desk.read(Uint8Array.from([...rest, ...sent.subarray(at, at + 10_007)]));
  rest = got.rest;
  for (const message of got.messages) desk.paint(message);
}
if (rest.length > 0) throw new Error("a message was cut off");
const out = Buffer.alloc(8 + canvas.width * canvas.height * 3);
out.writeUInt32LE(canvas.width, 0);
out.writeUInt32LE(canvas.height, 4);
for (let n = 0; n < canvas.width * canvas.height; n += 1) out.set(canvas.bytes.subarray(n * 4, n * 4 + 3), 8 + n * 3);
process.stdout.write(out);
