/**
 * Pushes to the clients of apps, and questions about them, by Tidegate's HTTP API. For servers: whoever has the token may push
 * to everybody.
 */

import { Problem, type TidegateError, UnexpectedAnswer, Unreachable, errorOf } from "./errors.js";

export * from "./errors.js";

/** A uid or a group: a text or a whole number. */
export type Name = string | number;

/** Who is meant. */
export type Audience =
  | "all"
  | { readonly clients: string | readonly string[] }
  | { readonly uids: Name | readonly Name[] }
  | { readonly groups: Name | readonly Name[] };

/** A text, bytes that are sent as a binary message, or bytes that go out as they are. */
export type Message = string | Uint8Array | { readonly raw: Uint8Array };

/** What a session holds. */
export type Session = Readonly<Record<string, unknown>>;

/** A gateway that did not say that it has it. */
export interface Missing {
  /** The first 12 digits of its clients' ids. */
  readonly gateway: string;
  /** Its name in the cluster. */
  readonly name: string;
  /** With the first three it is not applied there, with the others perhaps. */
  readonly why: "not-linked" | "busy" | "refused" | "lost" | "late";
}

/** What became of a command. */
export interface Reached {
  /** How many clients it is about. */
  readonly reached: number;
  /** Gateways that did not say that they have it; the others have it. */
  readonly missing: readonly Missing[];
}

/** What became of a batch: one result for each command, in order. */
export interface Results {
  readonly results: ReadonlyArray<{ readonly reached: number } | { readonly refused: string }>;
  readonly missing: readonly Missing[];
}

/** What the gateways that answered know. */
export interface Answer<T> {
  readonly value: T;
  /** Gateways that did not answer: what they know is not in `value`. */
  readonly missing: readonly Missing[];
  /** Why a gateway did not answer, if one said so. */
  readonly refused?: string;
}

/** A client; what was not asked for is left out. */
export interface ClientInfo {
  readonly client: string;
  readonly uid?: string | null;
  readonly groups?: readonly string[];
  readonly session?: Session | null;
}

/** How a client is closed. */
export interface CloseOptions {
  /** 1000, or 3000 to 4999. */
  readonly code?: number;
  readonly reason?: string;
  /** A last message. */
  readonly farewell?: Message;
  /** Not these. */
  readonly except?: string | readonly string[];
}

/** How a server is asked. */
export interface Options {
  /** `http://127.0.0.1:7480`, or where a proxy has put it. */
  readonly url: string;
  readonly token: string;
  /** For a whole call, pauses and further tries included. Default: 30 s. */
  readonly timeoutMs?: number;
  /** How often a request is tried again that was not carried out, or that does no harm twice. Default: 3. */
  readonly retries?: number;
  /** Another `fetch`, for tests or with an agent of its own. */
  readonly fetch?: typeof fetch;
}

/** The commands: an `App` gives each at once, a `Batch` collects them. */
export abstract class Commands<R> {
  protected abstract command(verb: string, body: object): R;

  /** Sends a message to an audience. */
  send(to: Audience, message: Message, options: { readonly except?: string | readonly string[] } = {}): R {
    return this.command("send", { to, ...options, ...messageOf(message) });
  }

  /** Closes an audience. */
  close(to: Audience, options: CloseOptions = {}): R {
    const { farewell, ...others } = options;
    return this.command("close", { to, ...others, ...(farewell === undefined ? {} : { farewell: messageOf(farewell) }) });
  }

  /** Drops the connections of an audience, without what waits to be sent to it. */
  destroy(to: Audience, options: { readonly except?: string | readonly string[] } = {}): R {
    return this.command("destroy", { to, ...options });
  }

  /** Binds clients to a uid, in place of the one that they had. */
  bind(client: string | readonly string[], uid: Name): R {
    return this.command("bind", { client, uid });
  }

  /** Takes the uid of clients away. */
  unbind(client: string | readonly string[]): R {
    return this.command("unbind", { client });
  }

  /** Puts clients into groups. */
  join(client: string | readonly string[], group: Name | readonly Name[]): R {
    return this.command("join", { client, group });
  }

  /** Takes clients out of groups. */
  leave(client: string | readonly string[], group: Name | readonly Name[]): R {
    return this.command("leave", { client, group });
  }

  /** Takes everybody out of groups. */
  disband(group: Name | readonly Name[]): R {
    return this.command("disband", { group });
  }

  /** Replaces the session of clients. */
  setSession(client: string | readonly string[], session: Session): R {
    return this.command("set-session", { client, session });
  }

  /** Merges into the session of clients. */
  updateSession(client: string | readonly string[], session: Session): R {
    return this.command("update-session", { client, session });
  }

  /** Removes the session of clients. */
  clearSession(client: string | readonly string[]): R {
    return this.command("clear-session", { client });
  }
}

/** A server with Tidegate's HTTP API: a register, or a node that runs everything. */
export class Tidegate {
  readonly #options: Required<Options>;

  constructor(options: Options) {
    const url = options.url.replace(/\/+$/, "");
    if (!/^https?:\/\/[^/?#@]+(\/[^?#]*)?$/.test(url)) {
      throw new TypeError(`${options.url} is no address of Tidegate's API: it is http://HOST:PORT, and perhaps a path`);
    }
    this.#options = {
      timeoutMs: 30_000,
      retries: 3,
      fetch: (...request) => globalThis.fetch(...request),
      ...options,
      token: options.token.trim(),
      url,
    };
  }

  /** An app, to push to and to ask about. */
  app(name: string, tenant = "default"): App {
    return new App((request) => this.#ask(request), tenant, name);
  }

  /** The server's description of its API, OpenAPI 3.1. */
  async openapi(): Promise<Record<string, unknown>> {
    return await this.#ask({ method: "GET", path: "/openapi.json", again: true });
  }

  async #ask(request: Request): Promise<Record<string, unknown>> {
    const until = Date.now() + this.#options.timeoutMs;
    for (let tries = 0; ; tries += 1) {
      try {
        return await this.#askOnce(request, until - Date.now());
      } catch (error) {
        const pause = pauseAfter(error, tries, request.again);
        if (pause === undefined || tries >= this.#options.retries || Date.now() + pause >= until) throw error;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  async #askOnce({ method, path, body, key }: Request, leftMs: number): Promise<Record<string, unknown>> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#options.token}`, Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key !== undefined) headers["Idempotency-Key"] = key;
    let response, text;
    try {
      response = await this.#options.fetch(this.#options.url + path, {
        method,
        headers,
        redirect: "error",
        signal: AbortSignal.timeout(Math.max(1, leftMs)),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      text = await response.text();
    } catch (error) {
      throw unreachable(error);
    }
    if (response.status !== 200) {
      const after = Number(response.headers.get("Retry-After") ?? 0);
      const afterMs = Number.isFinite(after) ? Math.min(after * 1_000, LONGEST_PAUSE_MS) : 0;
      throw errorOf(response.status, response.headers.get("Content-Type"), text, afterMs);
    }
    const answer = parsed(text);
    if (answer === undefined) throw new UnexpectedAnswer(response.status, text);
    return answer;
  }
}

/** An app. Made by `Tidegate.app`; costs nothing. */
export class App extends Commands<Promise<Reached>> {
  readonly #ask: Ask;
  readonly #path: string;
  readonly #names: readonly [string, string];
  readonly #key: string | undefined;

  /** @internal */
  constructor(ask: Ask, tenant: string, name: string, key?: string) {
    super();
    this.#ask = ask;
    this.#names = [tenant, name];
    this.#path = `/v1/apps/${encodeURIComponent(tenant)}/${encodeURIComponent(name)}`;
    this.#key = key;
  }

  /**
   * The same app, for one command with this idempotency key: whoever gives the same command with the same key within ten
   * minutes, in whatever process, gets the first answer, and nothing is done twice.
   */
  once(key: string): App {
    return new App(this.#ask, ...this.#names, key);
  }

  /** A batch: collect commands, then `push` them in one request. */
  batch(): Batch {
    return new Batch(async (commands) => (await this.#give("batch", { commands })) as unknown as Results);
  }

  /** A client's session, as something to read and write. */
  session(client: string): ClientSession {
    return new ClientSession(this.#ask, `${this.#path}/sessions/${encodeURIComponent(client)}`);
  }

  /** How many clients an audience has. */
  count(of: Audience): Promise<Answer<number>> {
    return this.#question("count", { of }, "count");
  }

  /** How many uids the clients of an audience have. */
  countUids(of: Audience): Promise<Answer<number>> {
    return this.#question("count-uids", { of }, "count");
  }

  /** How many clients each of these groups has. */
  countByGroup(groups: Name | readonly Name[]): Promise<Answer<Readonly<Record<string, number>>>> {
    return this.#question("count-by-group", { groups }, "counts");
  }

  /** The ids of the clients of an audience. */
  clients(of: Audience): Promise<Answer<readonly string[]>> {
    return this.#question("clients", { of }, "clients");
  }

  /** The uids of the clients of an audience, in order. */
  uids(of: Audience): Promise<Answer<readonly string[]>> {
    return this.#question("uids", { of }, "uids");
  }

  /** The groups of the clients of an audience, in order. */
  groups(of: Audience): Promise<Answer<readonly string[]>> {
    return this.#question("groups", { of }, "groups");
  }

  /** Each client of an audience with these fields; without `fields` all of them. */
  select(of: Audience, fields: ReadonlyArray<"uid" | "groups" | "session"> = []): Promise<Answer<readonly ClientInfo[]>> {
    return this.#question("select", { of, fields }, "clients");
  }

  /** Which of these clients, or of these uids, are there. */
  online(
    whom: { readonly clients: string | readonly string[] } | { readonly uids: Name | readonly Name[] },
  ): Promise<Answer<Readonly<Record<string, boolean>>>> {
    return this.#question("online", whom, "online");
  }

  protected override async command(verb: string, body: object): Promise<Reached> {
    return (await this.#give(verb, body)) as unknown as Reached;
  }

  #give(verb: string, body: object): Promise<Record<string, unknown>> {
    // A key of its own for each command makes it safe to try again.
    const key = this.#key ?? crypto.randomUUID();
    return this.#ask({ method: "POST", path: `${this.#path}/${verb}`, body, key, again: true });
  }

  async #question<T>(verb: string, body: object, field: string): Promise<Answer<T>> {
    return answerOf(await this.#ask({ method: "POST", path: `${this.#path}/${verb}`, body, again: true }), field);
  }
}

/** Several commands that are given in one request, in order. The server takes 1,000 unless it is set otherwise. */
export class Batch extends Commands<Batch> {
  readonly #push: (commands: object[]) => Promise<Results>;
  readonly #commands: object[] = [];

  /** @internal */
  constructor(push: (commands: object[]) => Promise<Results>) {
    super();
    this.#push = push;
  }

  /** How many commands it has. */
  get length(): number {
    return this.#commands.length;
  }

  /** Gives all commands. One that a gateway refuses does not keep the others from being applied. */
  push(): Promise<Results> {
    return this.#push(this.#commands);
  }

  protected override command(verb: string, body: object): Batch {
    this.#commands.push({ [verb]: body });
    return this;
  }
}

/** One client's session. Made by `App.session`. */
export class ClientSession {
  readonly #ask: Ask;
  readonly #path: string;

  /** @internal */
  constructor(ask: Ask, path: string) {
    this.#ask = ask;
    this.#path = path;
  }

  /** The client's uid, groups and session; a problem of the kind `no-such-path` if it is gone. */
  async get(): Promise<Answer<ClientInfo>> {
    return answerOf(await this.#ask({ method: "GET", path: this.#path, again: true }), "client");
  }

  /** Replaces it. */
  put(session: Session): Promise<Reached> {
    return this.#write({ method: "PUT", path: this.#path, body: session, again: true });
  }

  /** Merges into it. Not tried again: the session may be another by then. */
  patch(session: Session): Promise<Reached> {
    return this.#write({ method: "PATCH", path: this.#path, body: session, again: false });
  }

  /** Removes it. */
  delete(): Promise<Reached> {
    return this.#write({ method: "DELETE", path: this.#path, again: true });
  }

  async #write(request: Request): Promise<Reached> {
    return (await this.#ask(request)) as unknown as Reached;
  }
}

/** @internal */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly body?: object;
  readonly key?: string;
  /** It does no harm if it is carried out twice, or it has a key. */
  readonly again: boolean;
}

/** @internal */
export type Ask = (request: Request) => Promise<Record<string, unknown>>;

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** Nothing was done, and it may go well in a moment. */
const PASSING = new Set(["busy", "too-fast", "key-in-use", "no-gateway"]);
/** The request never left. */
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

function pauseAfter(error: unknown, tries: number, again: boolean): number | undefined {
  const passing = error instanceof Problem && PASSING.has(error.kind);
  const lost = error instanceof Unreachable && (again || !error.sent);
  if (!passing && !lost) return undefined;
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** tries, LONGEST_PAUSE_MS);
  // Half of it is chance, so that many who were refused together do not come back together.
  return (error instanceof Problem ? error.retryAfterMs : 0) + longest * (0.5 + Math.random() / 2);
}

function unreachable(error: unknown): TidegateError {
  const cause = error instanceof Error ? (error.cause as { code?: string; message?: string } | undefined) : undefined;
  const why = cause?.message || cause?.code || String(error);
  const sent = !NOT_SENT.has(cause?.code ?? "");
  return new Unreachable(`the server did not answer: ${why}`, sent, { cause: error });
}

function answerOf<T>(answer: Record<string, unknown>, field: string): Answer<T> {
  const { missing, refused } = answer as { missing: Missing[]; refused?: string };
  return { value: answer[field] as T, missing, ...(refused === undefined ? {} : { refused }) };
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function messageOf(message: Message): { text: string } | { base64: string } | { raw: string } {
  if (typeof message === "string") return { text: message };
  return message instanceof Uint8Array ? { base64: base64(message) } : { raw: base64(message.raw) };
}

function base64(bytes: Uint8Array): string {
  let text = "";
  // In pieces: so many arguments a call may have.
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
