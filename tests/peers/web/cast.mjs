// An exported asciicast (COFFERDAM_CAST) is played to its end by asciinema's own player, as the replay page loads it: the
// words in COFFERDAM_SHOWS stand on its screen then.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { seat, story } from "./lib.mjs";

await story(async (browser) => {
  const cast = readFileSync(process.env.COFFERDAM_CAST, "utf8");
  const { page } = await seat(browser, "ivan");
  await page.goto(`/recordings/${process.env.COFFERDAM_RECORDING}`);
  await page.waitForFunction(() => window.AsciinemaPlayer);
  const outcome = await page.evaluate(async (data) => {
    const place = document.body.appendChild(document.createElement("div"));
    place.id = "exported";
    const player = AsciinemaPlayer.create({ data }, place, { speed: 50, idleTimeLimit: 0.1 });
    const over = new Promise((done) => {
      player.addEventListener("ended", () => done("ended"));
      player.addEventListener("error", (what) => done(`error: ${JSON.stringify(what)}`));
      setTimeout(() => done("never ended"), 30_000);
    });
    await player.play();
    return over;
  }, cast);
  assert.equal(outcome, "ended");
  const shown = await page.locator("#exported .ap-term").innerText();
  assert.ok(shown.includes(process.env.COFFERDAM_SHOWS), shown);
});
