// Vera asks for a window, olga and sam approve, `ssh` works, olga watches, sam revokes: the session is cut while olga's pages
// show it. COFFERDAM_SSH: the command line of an interactive `ssh` as vera, JSON.
import assert from "node:assert/strict";
import { code, command, picture, prompted, seat, shell, story, until } from "./lib.mjs";

const purpose = "Yearly service <script>alert(1)</script> of “P-101” & its panel";
const said = "by-hand-in-the-window";
const remark = "Mind valve 7 <b>& its</b> seal";

/** `2026-11-25T21:00` in that zone, for a field of a form. */
const local = (zone, minutes) => {
  const at = new Date(Date.now() + minutes * 60_000);
  const text = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" }).format(at);
  return text.replace(" ", "T");
};

/** Asks for the default account of pump-hmi for two hours from now. Answers the window's address. */
const request = async (page) => {
  await page.goto("/windows/new");
  const zone = /site's \(([^)]+)\)/.exec(await page.locator("footer").innerText())[1];
  for (const box of await page.locator("input[name=accounts][value$='@pump-hmi']").all()) await box.check();
  await page.locator("input[name=operations][value=operate]").check();
  await page.getByLabel("Purpose").fill(purpose);
  await page.getByLabel("Work order").fill("WO-4711");
  await page.getByLabel("Start").fill(local(zone, 0));
  await page.getByLabel("End").fill(local(zone, 120));
  await picture(page, "request");
  await page.getByRole("button", { name: "Look it over" }).click();
  await page.getByRole("heading", { name: "Send this request?" }).waitFor();
  assert((await page.locator("main").innerText()).includes(purpose));
  await picture(page, "request-confirm");
  await page.getByLabel("Code from your authenticator").fill(code("vera"));
  await page.getByRole("button", { name: "Send to approvers" }).click();
  await page.waitForURL(/\/windows\/[0-9a-f-]{36}$/);
  return new URL(page.url()).pathname;
};

const approve = async (page, person, id) => {
  await page.goto(`/approvals/${id}`);
  assert((await page.locator("main").innerText()).includes(purpose), "what is approved is shown");
  const choice = page.locator("details.choice", { hasText: "Approve" }).first();
  if ((await choice.getAttribute("open")) === null) await choice.locator("summary").click();
  // The first leaves a remark, the second reads it.
  if (person === "olga") await page.getByLabel("Remark").fill(remark);
  else assert((await page.locator("main").innerText()).includes(remark), "the first approver's remark is shown");
  await picture(page, `approval-by-${person}`);
  await page.locator("#code-approve").fill(code(person));
  await page.getByRole("button", { name: "Approve this window" }).click();
  await page.waitForURL((url) => url.pathname !== `/approvals/${id}/approve`);
};

await story(async (browser) => {
  const [vera, olga, sam] = [await seat(browser, "vera"), await seat(browser, "olga"), await seat(browser, "sam")];
  // The queue is open before anybody asks: what comes has to appear by itself.
  await olga.page.goto("/approvals");
  const begin = performance.now();
  const path = await request(vera.page);
  const id = path.split("/").pop();
  assert((await vera.page.locator("main").innerText()).includes("requested"));
  await until("the request in olga's queue", 10_000, () => olga.page.locator(`a[href="/approvals/${id}"]`).count());
  console.log(`asked after ${Math.round(performance.now() - begin)} ms`);
  await picture(olga.page, "approvals");

  await approve(olga.page, "olga", id);
  await vera.page.reload();
  const seen = await vera.page.locator("main").innerText();
  assert(seen.includes("Olga") && seen.includes(remark), "the requester sees who was first, and what they said");
  await approve(sam.page, "sam", id);
  await vera.page.reload();
  assert.match(await vera.page.locator("h1").innerText(), /open/);
  await picture(vera.page, "window-open");
  await vera.page.goto("/");
  await picture(vera.page, "home-open");
  assert((await vera.page.locator("main").innerText()).includes("pump-hmi"));

  const live = shell();
  await until("a prompt", 90_000, () => prompted(live));
  live.child.stdin.write(`echo ${said}\n`);
  await until("the echo", 5_000, () => live.out.split(said).length > 2);
  await olga.page.goto("/live");
  await until("the session among the live ones", 5_000, () => olga.page.getByText("vera").count());
  await picture(olga.page, "live");
  await olga.page.locator("main a[href^='/live/']").first().click();
  await olga.page.locator(".term-body .xterm-rows").waitFor();
  // Whoever begins to watch may have missed what came before.
  live.child.stdin.write(`echo ${said}\n`);
  await until("the terminal as olga watches it", 10_000, async () =>
    (await olga.page.locator(".term-body").innerText()).includes(said),
  );
  await picture(olga.page, "live-session");

  await sam.page.goto(path);
  await sam.page.locator("summary", { hasText: "Revoke" }).click();
  await sam.page.locator("#reason").fill("leak in hall 2");
  await sam.page.locator("#code-revoke").fill(code("sam"));
  const revoked = performance.now();
  await sam.page.getByRole("button", { name: "Revoke this window" }).click();
  await sam.page.waitForURL((url) => !url.pathname.endsWith("/revoke"));
  const answered = performance.now() - revoked;
  await until("the end of the session", 5_000, () => live.ended);
  const cut = live.ended - revoked;
  const { after: shown } = await until("the end on olga's page", 5_000, () =>
    olga.page.getByText(/is over|session ended|Watching is over/).first().isVisible(),
  );
  console.log(`answered after ${answered | 0} ms, cut after ${cut | 0} ms, shown within ${shown | 0} ms of that`);
  assert(cut < answered + 1500, `cut after ${cut} ms`);
  assert.match(await sam.page.locator("h1").innerText(), /revoked/);
  await picture(sam.page, "window-revoked");
  assert.notEqual((await command("COFFERDAM_SSH_ONCE")).code, 0, "no way in any more");
  for (const place of [vera, olga, sam]) place.quiet();
});
