// Search a collection: node search.js NAME "WORDS"
import { Stoker } from "../stoker.js";

const stoker = new Stoker(process.env["STOKER_URL"]!, process.env["STOKER_API_KEY"]!);
const [name = "", words = ""] = process.argv.slice(2);
for (const one of (await stoker.search(words, name, { top_k: 3 })).data) {
  console.log(one.score.toFixed(3), one.filename, `${one.start}-${one.end}: ${one.text}`);
}
