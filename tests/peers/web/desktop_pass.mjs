// Asks the API for a token for the demo's desktop, as vera with a fresh code, and prints the answer.
// COFFERDAM_API_TOKEN: a token of hers with the scope connect.
import { api, code } from "./lib.mjs";

const wanted = { asset: "eng-ws", login: "eng", code: code("vera") };
const answer = await api(process.env.COFFERDAM_API_TOKEN, "POST", "/api/v1/desktops", wanted);
console.log(answer.text);
process.exit(answer.status === 200 ? 0 : 1);
