// A real desktop whose asset allows neither clipboard nor resizing: the page offers neither, and nothing passes. The environment is that
// of desktop_real.mjs; COFFERDAM_SIZE asks the target's display for its size.
import assert from "node:assert/strict";
import { story } from "./lib.mjs";
import { BLUE, MIDDLE, alike, atARealDesktop, colour, reason, target } from "./desk.mjs";

await story(async (browser) => {
  const vera = await atARealDesktop(browser);
  const { page } = vera;
  for (const name of ["Give it my clipboard", "Take its clipboard"]) {
    assert.equal(await page.getByRole("button", { name }).count(), 0, name);
  }
  const before = await target("COFFERDAM_SIZE");
  await page.evaluate(() => navigator.clipboard.writeText("the person's"));
  await target("COFFERDAM_COPY", "the target's");
  await page.setViewportSize({ width: 1600, height: 1000 });
  await page.locator("[data-body] canvas").click();
  await page.keyboard.press("Control+v");
  await page.waitForTimeout(2_000);
  assert.equal(await target("COFFERDAM_COPIED"), "the target's");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "the person's");
  assert.equal(await target("COFFERDAM_SIZE"), before);
  assert(alike(await colour(page, MIDDLE), BLUE));
  await page.getByRole("button", { name: "End session" }).click();
  assert.match(await reason(page), /You ended the session/);
  vera.quiet();
});
