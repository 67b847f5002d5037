// Takes the settings for a client of one's own from the page with the token, as vera; writes them to COFFERDAM_TO.
import assert from "node:assert/strict";
import { seat, story } from "./lib.mjs";
import { openChoice } from "./desk.mjs";

await story(async (browser) => {
  const vera = await seat(browser, "vera");
  const { page } = vera;
  await openChoice(page);
  const token = await page.locator("[data-token]").innerText();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "eng-ws.rdp" }).click()]);
  assert.equal(download.suggestedFilename(), "eng-ws.rdp");
  await download.saveAs(process.env.COFFERDAM_TO);
  console.log(`token: ${token}`);
  vera.quiet();
});
