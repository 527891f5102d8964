// Follow a job until it has ended: node follow.js JOB
import { Stoker } from "../stoker.js";

const stoker = new Stoker(process.env["STOKER_URL"]!, process.env["STOKER_API_KEY"]!);
for await (const { status, documents } of stoker.follow(process.argv[2] ?? "")) {
  console.log(status, ...documents.map((one) => `${one.filename} ${one.status} ${one.error ?? ""}`));
}
