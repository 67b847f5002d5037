// The small pictures along a desktop's recording (COFFERDAM_RECORDING): each is a link that jumps, by mouse and by keyboard.
import assert from "node:assert/strict";
import { barriers, picture, seat, story, until } from "./lib.mjs";
import { TANK, WATER } from "./desk.mjs";

await story(async (browser) => {
  const ivan = await seat(browser, "ivan");
  const { page } = ivan;
  const asked = page.waitForResponse((r) => r.url().endsWith("/stills"));
  await page.goto(`/recordings/${process.env.COFFERDAM_RECORDING}`);
  const response = await asked;
  const headers = response.headers();
  assert.equal(headers["cache-control"], "no-store");
  const links = page.locator("[data-stills] a");
  // They come one after the other.
  await links.nth(2).waitFor();
  await response.finished();
  const count = await links.count();
  assert(count >= 3 && count <= 12, `${count} pictures`);

  // Each is small, and shows what was on the screen then: the last one the demo's tank.
  const look = (canvas, [x, y]) => {
    const { width, height } = canvas;
    const pixel = canvas.getContext("2d").getImageData((x * width) / 1024, (y * height) / 768, 1, 1).data;
    return { width, height, colour: [...pixel.slice(0, 3)].map((b) => b.toString(16).padStart(2, "0").toUpperCase()).join("") };
  };
  const still = (n) => links.nth(n).locator("canvas").evaluate(look, TANK);
  assert.deepEqual(await still(count - 1), { width: 160, height: 120, colour: WATER });
  const replayed = () => page.locator("[data-player] canvas").first().evaluate(look, TANK);

  const clock = page.locator("[data-clock]");
  const at = async (link) => (await link.innerText()).trim();
  const shows = (time) => until(`the replay at ${time}`, 5_000, async () => (await clock.innerText()).startsWith(time));
  await links.nth(count - 1).click();
  await shows(await at(links.nth(count - 1)));
  await until("the tank", 5_000, async () => (await replayed()).colour === WATER);
  // Back to the beginning, where there may have been nothing yet.
  await links.nth(0).focus();
  await page.keyboard.press("Enter");
  await shows(await at(links.nth(0)));
  await until("the first picture", 5_000, async () => (await replayed()).colour === (await still(0)).colour);
  await links.nth(1).focus();
  await page.keyboard.press("Enter");
  await shows(await at(links.nth(1)));
  assert.match(page.url(), /#t=\d+\.\d$/);

  assert.deepEqual(await barriers(page), []);
  await picture(page, "desktop-replay");
  await page.setViewportSize({ width: 390, height: 844 });
  const spare = await page.evaluate(() => document.documentElement.clientWidth - document.documentElement.scrollWidth);
  assert(spare >= 0, `on a phone, the page is ${-spare} pixels wider than the window`);
  ivan.quiet();
});
