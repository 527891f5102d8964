// Ask documents, with sources: node ask.js NAME "QUESTION"
import { Stoker } from "../stoker.js";

const stoker = new Stoker(process.env["STOKER_URL"]!, process.env["STOKER_API_KEY"]!);
const [name = "", question = ""] = process.argv.slice(2);
for await (const event of stoker.stream(question, name)) {
  if (event.kind === "token") process.stdout.write(event.text);
  else if (event.kind === "cited") console.log(` [${event.citation.filename}: ${event.citation.quote}]`);
}
