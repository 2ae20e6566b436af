/**
 * Pushes to the clients of apps, questions about them, deployments and administration, by Tidegate's HTTP API. For servers:
 * whoever has the token may push to everybody.
 */

import { type Audience, Commands, type Missing, type Name, type Reached, type Session } from "./commands.js";
import { type Ask, type Options, type Request, Server } from "./http.js";
import { Operator } from "./operator.js";
import { Steered } from "./steering.js";

export * from "./commands.js";
export * from "./errors.js";
export type { Options } from "./http.js";
export * from "./operator.js";
export * from "./steering.js";
export type * from "./told.js";

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

/** A server with Tidegate's HTTP API: a register, or a node that runs everything. */
export class Tidegate extends Operator {
  readonly #server: Server;

  constructor(options: Options) {
    const server = new Server(options);
    super(server);
    this.#server = server;
  }

  /** An app, to push to, to ask about and to steer. */
  app(name: string, tenant = "default"): App {
    return new App(this.#server, tenant, name);
  }

  /** The server's description of its API, OpenAPI 3.1. */
  async openapi(): Promise<Record<string, unknown>> {
    return await this.#server.ask({ method: "GET", path: "/openapi.json", again: true });
  }
}

/** An app. Made by `Tidegate.app`; costs nothing. */
export class App extends Steered {
  readonly #server: Server;
  readonly #ask: Ask;
  readonly #path: string;
  readonly #names: readonly [string, string];
  readonly #key: string | undefined;

  /** @internal */
  constructor(server: Server, tenant: string, name: string, key?: string) {
    const path = `/v1/apps/${encodeURIComponent(tenant)}/${encodeURIComponent(name)}`;
    super(server, path);
    this.#server = server;
    this.#ask = (request) => server.ask(request);
    this.#names = [tenant, name];
    this.#path = path;
    this.#key = key;
  }

  /**
   * The same app, for one command with this idempotency key: whoever gives the same command with the same key within ten
   * minutes, in whatever process, gets the first answer, and nothing is done twice.
   */
  once(key: string): App {
    return new App(this.#server, ...this.#names, key);
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

function answerOf<T>(answer: Record<string, unknown>, field: string): Answer<T> {
  const { missing, refused } = answer as { missing: Missing[]; refused?: string };
  return { value: answer[field] as T, missing, ...(refused === undefined ? {} : { refused }) };
}
