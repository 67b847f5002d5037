// A desktop whose asset allows the clipboard both ways and follows the page's size: the page offers what is allowed, and works where
// the target knows of neither. Then on a phone, which types into a field.
import assert from "node:assert/strict";
import { picture, seat, story, until } from "./lib.mjs";
import { FIRST_KEY, MARKS, atTheDesktop, colour, openChoice, openHere, reason } from "./desk.mjs";

await story(async (browser) => {
  const vera = await seat(browser, "vera", { permissions: ["clipboard-read", "clipboard-write"], hasTouch: true });
  const { page } = vera;
  await openChoice(page);
  await openHere(page);
  await atTheDesktop(page);
  assert(await page.getByRole("button", { name: "Take its clipboard" }).isDisabled(), "nothing was copied there");
  await page.evaluate(() => navigator.clipboard.writeText("for the desktop"));
  await page.getByRole("button", { name: "Give it my clipboard" }).click();
  await page.setViewportSize({ width: 390, height: 844 });
  await page.waitForTimeout(600);
  const field = page.getByLabel("Text for the desktop");
  await field.tap();
  await field.press("Backspace");
  await until("the field's key", 5_000, async () => (await colour(page, FIRST_KEY)) === MARKS.Backspace);
  await field.pressSequentially("grüß");
  assert.equal(await field.inputValue(), "");
  await picture(page, "desktop-allowed");
  await page.getByRole("button", { name: "End session" }).click();
  assert.match(await reason(page), /You ended the session/);
  vera.quiet();
});
