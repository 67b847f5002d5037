// A real desktop whose asset allows the clipboard both ways. The target's own display is asked what is on its clipboard
// (COFFERDAM_COPIED) and given something (COFFERDAM_COPY TEXT), and its size (COFFERDAM_SIZE); COFFERDAM_KEYS is a file with
// the keys that it has seen.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { picture, story, until } from "./lib.mjs";
import { BLUE, MIDDLE, alike, atARealDesktop, colour, neverHeardTheSecret, reason, target } from "./desk.mjs";

const saw = (key) => until(`the key ${key} at the target`, 10_000, () => readFileSync(process.env.COFFERDAM_KEYS, "utf8").includes(`, ${key})`));

await story(async (browser) => {
  const vera = await atARealDesktop(browser);
  const { page } = vera;

  // From the person to the target.
  await page.evaluate(() => navigator.clipboard.writeText("valve 7 to 42 %, grüß"));
  await page.getByRole("button", { name: "Give it my clipboard" }).click();
  await until("the text on the target's clipboard", 10_000, async () => (await target("COFFERDAM_COPIED")) === "valve 7 to 42 %, grüß");

  // From the target to the person: one text for each click.
  const take = page.getByRole("button", { name: "Take its clipboard" });
  for (const text of ["level is 3.1 m", "and 2.9 m above"]) {
    await target("COFFERDAM_COPY", text);
    await until(`"${text}" in the browser`, 15_000, async () => {
      if (await take.isEnabled()) await take.click();
      return (await page.evaluate(() => navigator.clipboard.readText())) === text;
    });
  }

  // Keys by their place, and characters.
  await page.locator("[data-body] canvas").focus();
  await page.keyboard.press("k");
  await saw("k");
  await page.getByRole("button", { name: "Type characters" }).click();
  const session = await page.context().newCDPSession(page);
  for (const type of ["keyDown", "keyUp"]) {
    // The key of a German keyboard that stands where an American one has a y.
    await session.send("Input.dispatchKeyEvent", { type, key: "z", code: "KeyY", text: type === "keyDown" ? "z" : undefined });
  }
  await saw("z");
  assert(!readFileSync(process.env.COFFERDAM_KEYS, "utf8").includes(", y)"), "the key was sent by its place");
  await page.getByRole("button", { name: "Type characters" }).click();

  // The desktop fills the screen.
  await page.getByRole("button", { name: "Full screen" }).click();
  await until("full screen", 5_000, () => page.evaluate(() => document.fullscreenElement?.hasAttribute("data-desktop") ?? false));
  await page.getByRole("button", { name: "Full screen" }).click();
  await until("the page again", 5_000, () => page.evaluate(() => !document.fullscreenElement));
  assert(alike(await colour(page, MIDDLE), BLUE));
  await picture(page, "desktop-real");

  // It follows the page, again and again, and all of it is drawn.
  for (const [width, height] of [[1700, 1100], [1400, 1000], [1800, 1200]]) {
    const before = await target("COFFERDAM_SIZE");
    await page.setViewportSize({ width, height });
    await until(`the desktop as large as the page of ${width} × ${height}`, 20_000, async () => {
      const [w, h] = await page.evaluate(() => {
        const canvas = document.querySelector("[data-body] canvas");
        return [canvas.width, canvas.height];
      });
      const there = await target("COFFERDAM_SIZE");
      return there !== before && there === `${w} ${h}` && alike(await colour(page, [w - 9, h - 9]), BLUE) && alike(await colour(page, [9, 9]), BLUE);
    });
  }
  await page.locator("[data-body] canvas").focus();
  await page.keyboard.press("j");
  await saw("j");
  await picture(page, "desktop-real-resized");
  // What it shows in the end, for those who compare the recording with it.
  await page.setViewportSize({ width: 1500, height: 1050 });
  let [last, since] = ["", 0];
  await until("a size that stays", 30_000, async () => {
    const here = await page.evaluate(() => {
      const canvas = document.querySelector("[data-body] canvas");
      return `${canvas.width} ${canvas.height}`;
    });
    if (here !== last) [last, since] = [here, performance.now()];
    return performance.now() - since > 2_500 && (await target("COFFERDAM_SIZE")) === here;
  });
  await target("COFFERDAM_DRAW");
  const corner = last.split(" ").map((length) => length - 18);
  await until("the drawing in the last corner", 10_000, async () => {
    const line = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
    const colours = await Promise.all(line.map((n) => colour(page, [corner[0] + n, corner[1] + 17 - n])));
    return new Set(colours).size > 1;
  });
  await target("COFFERDAM_PICTURE");

  await page.getByRole("button", { name: "End session" }).click();
  assert.match(await reason(page), /You ended the session/);
  neverHeardTheSecret(vera, "level is 3.1 m");
  vera.quiet();
});
