/** A thin typed client for Stoker's own routes; chats, embeddings and files are for OpenAI's own package. */

export type JobStatus = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** A named set of documents; `version` rises with each change of what is visible. */
export interface Collection {
  id: string;
  name: string;
  description: string;
  metadata: Record<string, unknown>;
  version: number;
  documents: number;
  chunks: number;
  embedding_model: string;
  language: string;
  local_only: boolean;
  created_at: number;
}

/** A text to be ingested. */
export interface Document {
  content: string;
  title?: string;
  metadata?: Record<string, unknown>;
  acl?: { users?: string[]; groups?: string[] };
}

/** What was taken to be ingested. */
export interface Accepted {
  job_id: string;
  document_ids: string[];
  status: string;
}

/** A document of a job; `progress` is 0 to 1, `error` says what to do. */
export interface JobDocument {
  id: string;
  filename: string;
  status: string;
  progress: number;
  error: string | null;
}

export interface Job {
  id: string;
  status: JobStatus;
  documents: JobDocument[];
}

/** A place in a document: its content from `start` to `end`, in characters (not UTF-16 units), is `text`. */
export interface Passage {
  document_id: string;
  document_version: number;
  filename: string;
  text: string;
  start: number;
  end: number;
  page: number | null;
  score: number;
  metadata: Record<string, unknown>;
}

export interface Found {
  data: Passage[];
  collection_version: number;
  degraded: boolean;
  timings_ms: Record<string, number>;
  facets?: { key: string; values: { value: unknown; documents: number }[] }[];
  suggestions?: Record<string, unknown>[];
}

/** A place that an answer stands on: the document's content from `start` to `end` is `quote`. */
export interface Citation {
  document_id: string;
  document_version: number;
  filename: string;
  page: number | null;
  start: number;
  end: number;
  quote: string;
}

export interface Answer {
  id: string;
  answer: string;
  citations: Citation[];
  degraded: boolean;
  model: string | null;
  cache: string;
  finish_reason: string;
  usage: Record<string, unknown>;
  timings_ms: Record<string, number>;
  degraded_reason?: string;
  conversation_id?: string;
}

/** What happens while an answer is made; `supported` is false where no source supports a text and `grounding` is "mark". */
export type AnswerEvent =
  | { kind: "retrieved"; passages: Passage[] }
  | { kind: "token"; text: string; supported: boolean }
  | { kind: "cited"; citation: Citation }
  | { kind: "done"; answer: Answer };

/** How to search; `filter` is a tree such as `{type: "eq", key: "year", value: 2024}`. */
export interface SearchOptions {
  top_k?: number;
  mode?: "hybrid" | "dense" | "lexical";
  filter?: Record<string, unknown>;
  rerank?: boolean;
  facets?: string[];
}

/** How to answer. */
export interface AskOptions {
  model?: string;
  top_k?: number;
  filter?: Record<string, unknown>;
  grounding?: "strict" | "mark" | "off";
  conversation_id?: string;
  max_tokens?: number;
}

/** The gateway answered with an error; its message names the remedy. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string,
    readonly param: string,
    readonly requestId: string,
    readonly retryAfterS: number | null,
  ) {
    super(message);
    this.name = "Refused";
  }
}

/** Nobody answered, or not in time. */
export class Unreachable extends Error {
  override name = "Unreachable";
}

/** An answer or a job's events ended before their end. */
export class StreamBroken extends Error {
  override name = "StreamBroken";
}

const READ_MS = 120_000;
const UPLOAD_MS = 600_000;

/**
 * How a client calls.
 * `fetch`: in place of the network. `readMs`: after so long without an answer, or without more of one, it is given up.
 * `signal`: ends what is on its way with an AbortError, as breaking out of a loop over a stream does.
 */
export interface How {
  fetch?: typeof fetch;
  readMs?: number;
  signal?: AbortSignal;
}

/** Talks to one gateway. What it calls throws Refused or Unreachable; nothing is tried twice. */
export class Stoker {
  readonly #url: string;
  readonly #key: string;
  readonly #how: How;

  /**
   * @param url of the gateway, without `/v1`.
   * @throws TypeError: the key is empty, or more than a key.
   */
  constructor(url: string, key: string, how: How = {}) {
    this.#url = url.replace(/\/+$/, "");
    this.#key = key.trim();
    this.#how = how;
    if (!/^[\x21-\x7e]+$/.test(this.#key)) {
      throw new TypeError("the key is empty, or holds a line break or a space: it is to be the key alone, one line");
    }
  }

  /** The same client, whose calls a signal ends: `stoker.until(AbortSignal.timeout(5_000)).ask(...)`. */
  until(signal: AbortSignal): Stoker {
    return new Stoker(this.#url, this.#key, { ...this.#how, signal });
  }

  /** Make an empty collection. Refused with status 409 where the name is taken. */
  createCollection(
    name: string,
    about: { description?: string; metadata?: Record<string, unknown>; language?: string; local_only?: boolean } = {},
  ): Promise<Collection> {
    return this.#json("POST", "/v1/collections", { name, ...about });
  }

  /** All collections, fetched page by page. */
  async *collections(): AsyncGenerator<Collection> {
    for (let after = ""; ; ) {
      const query = after ? `&after=${encodeURIComponent(after)}` : "";
      const page: { data: Collection[]; has_more: boolean; last_id: string } = await this.#json("GET", `/v1/collections?limit=100${query}`);
      yield* page.data;
      if (!page.has_more) return;
      after = page.last_id;
    }
  }

  /** One collection. */
  collection(name: string): Promise<Collection> {
    return this.#json("GET", `/v1/collections/${encodeURIComponent(name)}`);
  }

  /** Delete a collection with all its documents. */
  async deleteCollection(name: string): Promise<void> {
    await this.#json("DELETE", `/v1/collections/${encodeURIComponent(name)}`);
  }

  /** Send files; `follow` or `wait` for the job. A file of a known name becomes its next version. */
  async ingest(
    collection: string,
    files: { name: string; data: Blob }[],
    metadata?: Record<string, unknown>,
  ): Promise<Accepted> {
    const form = new FormData();
    form.append("collection", collection);
    if (metadata) form.append("metadata", JSON.stringify(metadata));
    for (const { name, data } of files) form.append("file", data, name);
    return this.#json("POST", "/v1/ingest", form, Math.max(UPLOAD_MS, this.#how.readMs ?? 0));
  }

  /** Send texts. */
  ingestTexts(collection: string, documents: Document[]): Promise<Accepted> {
    return this.#json("POST", "/v1/ingest", { collection, documents });
  }

  /** How far a job is. */
  job(jobId: string): Promise<Job> {
    return this.#json("GET", `/v1/jobs/${encodeURIComponent(jobId)}`);
  }

  /** How far a job is, whenever a document of it gets on; the last one has ended. Throws StreamBroken. */
  async *follow(jobId: string): AsyncGenerator<Job> {
    const job = await this.job(jobId);
    const known = new Map(job.documents.map((each) => [each.id, each]));
    for await (const { name, data } of this.#events("GET", `/v1/jobs/${encodeURIComponent(jobId)}/events`)) {
      if (name === "job") {
        yield data as Job;
        return;
      }
      if (name === "document") {
        known.set((data as JobDocument).id, data as JobDocument);
        yield { ...job, status: "running", documents: [...known.values()] };
      }
    }
    throw new StreamBroken(`the events of ${jobId} ended before the job did; follow it again`);
  }

  /** The job when it has ended. Throws StreamBroken. */
  async wait(jobId: string): Promise<Job> {
    let last: Job | null = null;
    for await (const job of this.follow(jobId)) last = job;
    return last as Job;
  }

  /** Find the passages nearest to a question. */
  search(query: string, collection: string, how: SearchOptions = {}): Promise<Found> {
    return this.#json("POST", "/v1/search", { query, collection, ...how });
  }

  /** Answer a question from documents; every citation's quote stands in its document as it says. */
  ask(query: string, collection: string, how: AskOptions = {}): Promise<Answer> {
    return this.#json("POST", "/v1/query", { query, collection, ...how });
  }

  /** The same as it is made. Throws StreamBroken. */
  async *stream(query: string, collection: string, how: AskOptions = {}): AsyncGenerator<AnswerEvent> {
    const body = { query, collection, ...how, stream: true };
    for await (const { name, data } of this.#events("POST", "/v1/query", body)) {
      if (name === "retrieval") yield { kind: "retrieved", passages: (data as { data: Passage[] }).data };
      else if (name === "token") {
        const { text, supported = true } = data as { text: string; supported?: boolean };
        yield { kind: "token", text, supported };
      } else if (name === "citation") yield { kind: "cited", citation: data as Citation };
      else if (name === "done") {
        yield { kind: "done", answer: data as Answer };
        return;
      }
    }
    throw new StreamBroken("the answer broke off; ask again");
  }

  /** The normalised text that spans of passages and citations point into. */
  async content(collection: string, documentId: string, version?: number): Promise<string> {
    const query = version === undefined ? "" : `?version=${version}`;
    const path = `/v1/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(documentId)}/content`;
    return this.#call("GET", path + query, undefined, (answer) => answer.text());
  }

  #json<T>(method: string, path: string, body?: unknown, readMs?: number): Promise<T> {
    const read = (answer: Response) =>
      answer.json().catch((error: unknown) => {
        throw error instanceof SyntaxError ? new Unreachable(`what answers at ${this.#url} is no Stoker; check the address`) : error;
      }) as Promise<T>;
    return this.#call(method, path, body, read, readMs);
  }

  async #call<T>(method: string, path: string, body: unknown, read: (answer: Response) => Promise<T>, readMs?: number): Promise<T> {
    const patience = new Patience(readMs ?? this.#how.readMs ?? READ_MS);
    try {
      const answer = await this.#open(method, path, body, patience);
      patience.begin();
      return await read(answer);
    } catch (error) {
      throw this.#told(error, patience);
    } finally {
      patience.end();
    }
  }

  /** Send a request. Its answer is a good one, whose body nobody has read. */
  async #open(method: string, path: string, body: unknown, patience: Patience): Promise<Response> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.#key}` };
    if (body !== undefined && !(body instanceof FormData)) headers["content-type"] = "application/json";
    const sent = body === undefined ? {} : { body: body instanceof FormData ? body : JSON.stringify(body) };
    const signal = this.#how.signal ? AbortSignal.any([this.#how.signal, patience.signal]) : patience.signal;
    const fetch = this.#how.fetch ?? globalThis.fetch; // by its name alone: browsers refuse it as another object's method
    patience.begin();
    const answer = await fetch(this.#url + path, { method, headers, signal, ...sent });
    if (!answer.ok) throw refused(answer, await answer.json().catch(() => null));
    return answer;
  }

  /** Source: WHATWG HTML, section "Server-sent events", event stream interpretation. */
  async *#events(method: string, path: string, body?: unknown): AsyncGenerator<{ name: string; data: unknown }> {
    const patience = new Patience(this.#how.readMs ?? READ_MS);
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    try {
      const answer = await this.#open(method, path, body, patience);
      reader = answer.body?.getReader();
      const decoder = new TextDecoder();
      let rest = "";
      let name = "";
      let data: string[] = [];
      for (;;) {
        patience.begin();
        const part = await reader?.read();
        patience.end(); // whoever reads the events may take any time
        if (!part || part.done) return;
        const lines = (rest + decoder.decode(part.value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
        rest = lines.pop() as string;
        for (const line of lines) {
          if (line.startsWith("event:")) name = line.slice(6).trim();
          else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
          else if (line === "" && data.length > 0) {
            const found: unknown = JSON.parse(data.join("\n"));
            if (name === "error") throw refused(answer, found);
            yield { name: name || "message", data: found };
            name = "";
            data = [];
          } else if (line === "") name = "";
        }
      }
    } catch (error) {
      const told = this.#told(error, patience);
      throw reader && told instanceof Unreachable ? new StreamBroken(`the connection ended in the middle (${told.message}); ask again`) : told;
    } finally {
      patience.end();
      reader?.cancel().catch(() => undefined);
    }
  }

  /** What went wrong, in this module's words; an end that the caller's own signal brought stays what it is. */
  #told(error: unknown, patience: Patience): unknown {
    if (error instanceof Refused || error instanceof Unreachable || this.#how.signal?.aborted) return error;
    const why = patience.signal.aborted ? `nothing came for ${patience.ms} ms` : String((error as Error).message);
    return new Unreachable(`${this.#url} did not answer: ${why}`, { cause: error });
  }
}

/** Ends a call to which nothing comes for too long. */
class Patience {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly ms: number) {}

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** From now on. */
  begin(): void {
    this.end();
    this.#timer = setTimeout(() => this.#controller.abort(), this.ms);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

function refused(answer: Response, body: unknown): Refused {
  const error = (body as { error?: { message?: string; code?: string; param?: string } } | null)?.error ?? {};
  const waits = answer.headers.get("retry-after") ?? "";
  return new Refused(
    answer.status,
    error.message || `HTTP ${answer.status}`,
    error.code ?? "",
    error.param ?? "",
    answer.headers.get("x-request-id") ?? "",
    /^\d+$/.test(waits) ? Number(waits) : null,
  );
}
