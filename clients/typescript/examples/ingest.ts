// Put files into a collection: node ingest.js NAME FILE...
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { Stoker } from "../stoker.js";

const stoker = new Stoker(process.env["STOKER_URL"]!, process.env["STOKER_API_KEY"]!);
const [name = "", ...files] = process.argv.slice(2);
const known: string[] = [];
for await (const each of stoker.collections()) known.push(each.name);
if (!known.includes(name)) await stoker.createCollection(name);
const sent = files.map(async (file) => ({ name: basename(file), data: new Blob([await readFile(file)]) }));
console.log((await stoker.ingest(name, await Promise.all(sent))).job_id);
