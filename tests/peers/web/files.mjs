// Ivan takes the files of a recording out in his browser; olga cannot. COFFERDAM_SESSION: its id, COFFERDAM_SENT: the path of
// the file that was sent in it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { picture, seat, story } from "./lib.mjs";

const { COFFERDAM_SESSION: session, COFFERDAM_SENT: sent, COFFERDAM_SCRATCH: scratch } = process.env;
const path = `/recordings/${session}/download/files`;

await story(async (browser) => {
  const [ivan, olga] = [await seat(browser, "ivan"), await seat(browser, "olga")];
  await ivan.page.goto(`/recordings/${session}`);
  const [download] = await Promise.all([
    ivan.page.waitForEvent("download"),
    ivan.page.getByRole("link", { name: "Files", exact: true }).click(),
  ]);
  assert.equal(download.suggestedFilename(), `recording-${session}.files.tar`);
  const folder = mkdtempSync(join(scratch, "files-"));
  execFileSync("tar", ["-xf", await download.path(), "-C", folder]);
  const list = JSON.parse(readFileSync(join(folder, "files.json"), "utf8"));
  const kept = list.find((f) => f.source.endsWith("firmware.bin"));
  assert(kept && kept.matches === true && kept.direction === "to_target", JSON.stringify(list));
  assert(readFileSync(join(folder, kept.file)).equals(readFileSync(sent)), "what was sent is what was kept");
  assert.equal(readdirSync(folder).length, list.length + 1);
  await ivan.page.reload();
  assert((await ivan.page.locator("#looked").innerText()).includes("took it out as files"));
  await picture(ivan.page, "recording-files");
  const refused = await olga.page.goto(path);
  assert.equal(refused.status(), 403);
  for (const place of [ivan, olga]) place.quiet();
});
