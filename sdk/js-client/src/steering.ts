/** An app from the outside: what it runs, deployments, and orders about it. */

import { Commands, type Reached } from "./commands.js";
import { Problem, UnexpectedAnswer } from "./errors.js";
import type { Server } from "./http.js";
import type { Lines } from "./lines.js";
import type {
  AppInfo, AppSpec, Canary, Connections, Deploying, LogLevel, Logs, News, Order, Report, Version, VersionRef,
} from "./told.js";

/** What is deployed: a component, the number of a version of the app, or the `VersionRef` of any app's. */
export type Module = Uint8Array | number | VersionRef;

/** How it is deployed. */
export interface DeployOptions extends WaitOptions {
  /** Judge it on a part of the slots first. */
  readonly canary?: Canary;
  /** What to write beside it in the history. */
  readonly note?: string;
}

/** Which version is deployed again. */
export interface RollBackOptions extends WaitOptions {
  /** Its number. Default: the one that ran before. */
  readonly to?: number;
  readonly note?: string;
}

/** How long is waited. */
export interface WaitOptions {
  /** The deployment goes on when this is over. Default: an hour. */
  readonly timeoutMs?: number;
}

/** A deployment that goes on, as an iterable of its news. It goes on too when nobody reads them, or when this is closed. */
export class Deployment implements AsyncIterable<News> {
  readonly #lines: Lines;
  #last: News | undefined;

  /** @internal */
  constructor(lines: Lines) {
    this.#lines = lines;
  }

  /** The next news; undefined: those before were the last. */
  async next(): Promise<News | undefined> {
    if (this.#last !== undefined) return undefined;
    const news = (await this.#lines.next()) as unknown as News;
    if (news.news === "ended" || news.news === "refused") {
      this.#last = news;
      this.#lines.close();
    }
    return news;
  }

  /** The news that are left. Who breaks off hears no more. */
  async *[Symbol.asyncIterator](): AsyncGenerator<News, void, void> {
    try {
      for (let news = await this.next(); news !== undefined; news = await this.next()) yield news;
    } finally {
      this.close();
    }
  }

  /** Reads the rest. What it came to, if every slot runs it; else a problem of the kind `rolled-back`. */
  async wait(): Promise<Report> {
    while ((await this.next()) !== undefined);
    return reportOf(this.#last);
  }

  /** Hears no more of it. */
  close(): void {
    this.#lines.close();
  }
}

/**
 * What `App` has of all this. A deployment or an order whose answer is lost is not given again: `Unreachable` with `sent` says
 * so, and `deploying`, `versions` and `info` tell what became of it.
 */
export abstract class Steered extends Commands<Promise<Reached>> {
  readonly #server: Server;
  readonly #path: string;

  /** @internal */
  constructor(server: Server, path: string) {
    super();
    this.#server = server;
    this.#path = path;
  }

  /** What it runs where, and how it does. */
  info(): Promise<AppInfo> {
    return this.#read("");
  }

  /** What was deployed, the newest first, without the reports. */
  async versions(limit = 20): Promise<readonly Version[]> {
    return (await this.#read<{ versions: Version[] }>(`/versions?limit=${encodeURIComponent(limit)}`)).versions;
  }

  /** One deployment with the report of its swap. */
  version(number: number): Promise<Version> {
    return this.#read(`/versions/${encodeURIComponent(number)}`);
  }

  /** The connections of its clients at all gateways: so many at most, by default 1,000; of one client or of one uid. */
  connections(of: { readonly limit?: number; readonly client?: string; readonly uid?: string | number } = {}): Promise<Connections> {
    return this.#read(`/connections?${some(of)}`);
  }

  /**
   * The last lines of its log on all workers, so many at most (by default 100), as loud as `level` or louder; or those behind
   * what was read: `after` is then the `next` of what was told.
   */
  logs(of: { readonly limit?: number; readonly after?: string; readonly level?: LogLevel } = {}): Promise<Logs> {
    return this.#read(`/logs?${some(of)}`);
  }

  /** Deploys, and waits for the end; a problem of the kind `rolled-back` if not every slot runs it then. */
  async deploy(module: Module, options: DeployOptions = {}): Promise<Report> {
    return await (await this.deployAndWatch(module, options)).wait();
  }

  /** Deploys, and tells how it gets on. */
  async deployAndWatch(module: Module, options: DeployOptions = {}): Promise<Deployment> {
    const path = `/deployments?${queryOf("progress", options)}`;
    return await this.#watch(path, moduleOf(module), options);
  }

  /** Deploys, and returns when it has begun: what it began with. */
  deployAndLeave(module: Module, options: DeployOptions = {}): Promise<News> {
    return this.#give("POST", `/deployments?${queryOf("none", options)}`, moduleOf(module), options.timeoutMs ?? DEPLOYMENT_MS);
  }

  /** How the deployment that goes on gets on; undefined: nothing is being deployed. */
  async deploying(): Promise<Deploying | undefined> {
    try {
      return await this.#read<Deploying>("/deployments/current");
    } catch (error) {
      if (error instanceof Problem && error.kind === "not-deploying") return undefined;
      throw error;
    }
  }

  /** Ends the deployment that goes on; returns when it is on its way back. */
  async cancel(): Promise<void> {
    await this.#give("DELETE", "/deployments/current");
  }

  /** Deploys an earlier version again, and waits for the end as `deploy` does. */
  async rollBack(options: RollBackOptions = {}): Promise<Report> {
    return await (await this.rollBackAndWatch(options)).wait();
  }

  /** Deploys an earlier version again, and tells how it gets on. */
  async rollBackAndWatch(options: RollBackOptions = {}): Promise<Deployment> {
    return await this.#watch("/rollback?wait=progress", earlier(options), options);
  }

  /** Deploys an earlier version again, and returns when it has begun. */
  rollBackAndLeave(options: RollBackOptions = {}): Promise<News> {
    return this.#give("POST", "/rollback?wait=none", earlier(options), options.timeoutMs ?? DEPLOYMENT_MS);
  }

  /** Makes the app with these settings; those that are left out have their defaults. */
  create(settings: AppSpec = {}): Promise<Order> {
    return this.#give("POST", "", settings);
  }

  /** Gives it other settings, all of them: what is left out has its default again. */
  configure(settings: AppSpec): Promise<Order> {
    return this.#give("PUT", "", settings);
  }

  /** Takes its clients and its slots until it is resumed. */
  suspend(): Promise<Order> {
    return this.#give("POST", "/suspend");
  }

  /** Lets it run again. */
  resume(): Promise<Order> {
    return this.#give("POST", "/resume");
  }

  /** Removes it with its clients, versions and history. */
  delete(): Promise<Order> {
    return this.#give("DELETE", "");
  }

  async #read<T>(path: string): Promise<T> {
    return (await this.#server.ask({ method: "GET", path: this.#path + path, again: true })) as T;
  }

  async #give<T>(method: string, path: string, body?: object, timeoutMs?: number): Promise<T> {
    const more = { ...(body === undefined ? {} : { body }), ...(timeoutMs === undefined ? {} : { timeoutMs }) };
    return (await this.#server.ask({ method, path: this.#path + path, again: false, ...more })) as T;
  }

  async #watch(path: string, body: object, { timeoutMs = DEPLOYMENT_MS }: WaitOptions): Promise<Deployment> {
    const request = { method: "POST", path: this.#path + path, body, again: false, timeoutMs };
    return new Deployment(await this.#server.watch(request));
  }
}

const DEPLOYMENT_MS = 3_600_000;

function moduleOf(module: Module): object {
  if (module instanceof Uint8Array) return module;
  return typeof module === "number" ? { version: module } : { digest: `sha256:${module.digest}` };
}

function earlier({ to, note }: RollBackOptions): object {
  return { ...(to === undefined ? {} : { to }), ...(note === undefined ? {} : { note }) };
}

function some(query: Record<string, string | number | undefined>): string {
  const named = Object.entries(query).filter(([, value]) => value !== undefined);
  return new URLSearchParams(named.map(([name, value]) => [name, String(value)])).toString();
}

function queryOf(wait: string, { canary, note }: DeployOptions): string {
  const query = new URLSearchParams({ wait });
  if (canary !== undefined) {
    query.set("canary", String(canary.percent));
    if (canary.for_ms !== undefined) query.set("canary_ms", String(canary.for_ms));
    if (canary.events_min !== undefined) query.set("events_min", String(canary.events_min));
  }
  if (note) query.set("note", note);
  return query.toString();
}

function reportOf(last: News | undefined): Report {
  if (last?.news === "refused") {
    const { type, title, status, detail } = last.problem as { type: string; title: string; status: number; detail: string };
    throw new Problem(type, title, status, detail);
  }
  const report = last?.report;
  if (report === undefined) throw new UnexpectedAnswer(200, JSON.stringify(last));
  if (report.outcome === "committed") return report;
  const { app, version } = report;
  const detail = `${app}: version ${version.number} did not commit: ${last?.text}; \`version(${version.number})\` has the report`;
  throw new Problem("urn:tidegate:problem:rolled-back", "It was rolled back", 409, detail);
}
