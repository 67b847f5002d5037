// Makes a token of the API for COFFERDAM_PERSON with the scopes of COFFERDAM_SCOPES (words), and prints it.
import { makeToken, seat, story } from "./lib.mjs";

await story(async (browser) => {
  const person = process.env.COFFERDAM_PERSON;
  const { page } = await seat(browser, person);
  console.log(`token: ${await makeToken(page, person, process.env.COFFERDAM_SCOPES.split(" "))}`);
});
