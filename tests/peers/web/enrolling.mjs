// Invitation → password and passkey → log-in by passkey → a passkey's step-up; with an authenticator of the browser's own.
// COFFERDAM_INVITATION: vera's invitation.
import assert from "node:assert/strict";
import { api, authenticator, picture, sit, story } from "./lib.mjs";

const invitation = process.env.COFFERDAM_INVITATION;
const password = "a few plain words";

await story(async (browser) => {
  const { page, context, complaints } = await sit(browser);
  const keys = await authenticator(page);

  await page.goto(`/enrol/${invitation}`);
  await page.getByRole("heading", { name: "Welcome, Vera Vendor" }).waitFor();
  await picture(page, "enrol");
  await page.getByLabel("New password").fill(password);
  await page.getByLabel("The same again").fill(password);
  // Who does not unlock the authenticator gets no passkey.
  await keys.verifies(false);
  await page.getByRole("button", { name: "Set up with a passkey" }).click();
  await page.getByRole("alert").waitFor();
  assert.equal((await keys.keys()).length, 0);
  await keys.verifies(true);
  await page.getByRole("button", { name: "Set up with a passkey" }).click();
  await page.getByRole("heading", { name: "You are set up, vera" }).waitFor();
  const recovery = await page.locator("ul.codes li").allInnerTexts();
  assert(recovery.length >= 8, `${recovery.length} recovery codes`);
  await picture(page, "enrolled");
  const made = await keys.keys();
  assert.equal(made.length, 1);
  assert.equal(made[0].rpId, "localhost");
  assert(made[0].isResidentCredential);

  // The link is used up, here and everywhere.
  const again = await page.goto(`/enrol/${invitation}`);
  assert.equal(again.status(), 422);

  await page.goto("/login");
  await picture(page, "login");
  await page.getByRole("button", { name: "Log in with a passkey" }).click();
  await page.waitForURL((url) => url.pathname === "/");
  await page.goto("/account");
  await page.getByText("Log out").first().waitFor({ state: "attached" });
  await picture(page, "account-of-vera");

  // A token needs a fresh proof: the passkey gives it, and the program can use the token.
  await page.locator("#tn").fill("by passkey");
  await page.locator("input[name=scopes][value=read]").check();
  await page.locator("#t").getByRole("button", { name: "Use a passkey" }).click();
  const token = (await page.getByLabel("the new token").innerText()).trim();
  assert.equal((await api(token, "GET", "/api/v1/windows")).status, 200);

  // Nothing of the cookie can be read by a script.
  const cookie = (await context.cookies()).find((c) => c.name === "__Host-cofferdam");
  assert(cookie.httpOnly && cookie.secure && cookie.sameSite === "Lax", JSON.stringify(cookie));
  assert.equal(await page.locator("html").evaluate(() => document.cookie), "");

  await page.locator(".who summary").click();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/login");
  await page.goto("/account");
  assert.equal(new URL(page.url()).pathname, "/login");

  // A recovery code stands in for the passkey, once.
  for (const [n, fits] of [[0, true], [0, false], [1, true]]) {
    const other = await sit(browser);
    await other.page.goto("/login");
    await other.page.getByLabel("Name").fill("vera");
    await other.page.getByLabel("Password").fill(password);
    await other.page.getByLabel("Code", { exact: true }).fill(recovery[n]);
    await other.page.getByRole("button", { name: "Log in", exact: true }).click();
    await other.page.waitForLoadState();
    assert.equal(new URL(other.page.url()).pathname === "/", fits, `${n} ${other.page.url()}`);
    await other.context.close();
  }
  // The browser says by itself that the first attempt was not allowed.
  assert.deepEqual(complaints.filter((c) => !c.includes("NotAllowedError")), []);
});
