/** What is told of apps, deployments, tenants and nodes: fields are called as in the API. A newer server may tell more. */

/** A version of an app. */
export interface VersionRef {
  readonly number: number;
  /** Of its component, SHA-256, 64 hex digits. */
  readonly digest: string;
}

/** Judge a deployment on a part of the slots first. */
export interface Canary {
  /** How many of them, 1 to 99. */
  readonly percent: number;
  /** How long they are compared with the others. Default: 30 s. */
  readonly for_ms?: number;
  /** Callbacks that each version must have run to be judged. Default: 100. */
  readonly events_min?: number;
}

/** How a deployment ended. */
export type Outcome =
  | "committed"
  | { readonly "rolled-back": { readonly reason: string } }
  | { readonly mixed: { readonly reason: string } };

/** Why a worker cannot run a version. */
export interface Failure {
  readonly slot: number | null;
  readonly stage: string;
  readonly reason: string;
}

/** What a version has done. */
export interface Tally {
  readonly turns: number;
  readonly errors: number;
  readonly traps: number;
  readonly overruns: number;
}

/** An app on one worker. */
export interface Worker {
  readonly worker: string;
  /** The version of each slot; null: none yet. */
  readonly slots: ReadonlyArray<number | null>;
  /** How far it is with the deployment that goes on. */
  readonly step: string | null;
  readonly failure: Failure | null;
  readonly asleep: number;
  readonly tallies: ReadonlyArray<Tally & { readonly version: number; readonly slots_trapped: number }>;
}

/** What is being deployed. */
export interface Underway {
  readonly version: VersionRef;
  readonly by: string;
  readonly at_ms: number;
  readonly doing: string;
}

/** A node of the cluster. */
export interface NodeInfo {
  readonly role: string;
  readonly name: string;
  /** Where it can be reached, for operators. */
  readonly address?: string;
  /** Of a gateway, the first 12 digits of its clients' ids. */
  readonly gateway?: string;
}

/** What a node cannot do for an app. */
export interface Trouble {
  readonly node: NodeInfo;
  readonly app: string;
  readonly reason: string;
}

/** A setting of an app's own; `hidden` is a secret that was given before. */
export type Setting = { readonly plain: string } | { readonly secret: string } | "hidden";

/** Settings of an app: the keys of `AppSpec` in the API's description. */
export interface AppSpec {
  readonly slots?: number | null;
  readonly routes?: readonly string[];
  readonly require?: readonly string[];
  readonly settings?: Readonly<Record<string, Setting>>;
  readonly [key: string]: unknown;
}

/** An app that was made at run time. */
export interface Created {
  readonly suspended: boolean;
  readonly tenant_suspended: boolean;
  /** Secrets are hidden. */
  readonly spec: AppSpec;
  readonly troubles: readonly Trouble[];
}

/** What an app runs where, and how it does. */
export interface AppInfo {
  /** `tenant/name`. */
  readonly app: string;
  readonly stable: VersionRef | null;
  readonly deploying: Underway | null;
  readonly workers: readonly Worker[];
  /** null: it stands in settings files. */
  readonly created: Created | null;
  /** What the version that runs has done. */
  readonly health: Tally;
}

/** How the deployment that goes on gets on. */
export interface Deploying {
  readonly app: string;
  readonly stable: VersionRef | null;
  readonly deploying: Underway;
  readonly workers: readonly Worker[];
}

/** What a deployment came to; with what stands in `SwapReport` of the API's description besides. */
export interface Report {
  readonly app: string;
  readonly version: VersionRef;
  /** The version that was deployed again. */
  readonly again: number | null;
  readonly previous: VersionRef | null;
  readonly at_ms: number;
  readonly outcome: Outcome;
  readonly workers: number;
  readonly slots: number;
  readonly switched: number;
  readonly switched_back: number;
  readonly clients: { readonly before: number; readonly after: number; readonly opened: number; readonly closed: number } | null;
  readonly pauses: { readonly longest_us: number; readonly p99_us: number } | null;
  /** What the numbers of events say. */
  readonly audit: { readonly lost: number; readonly repeated: number; readonly reordered: number };
  readonly [key: string]: unknown;
}

/** A line of an app's history. */
export interface Version {
  readonly version: VersionRef;
  readonly again: number | null;
  readonly by: string;
  readonly note: string;
  readonly at_ms: number;
  readonly canary: Canary | null;
  readonly state: { readonly running: string } | { readonly ended: Outcome };
  /** In `version`, not in `versions`. */
  readonly report?: Report;
}

/** How a deployment gets on. */
export interface News {
  readonly news:
    | "started" | "worker" | "canary" | "switching" | "failed" | "going-back" | "not-stored" | "waiting" | "ended" | "refused"
    | (string & {});
  /** For people. */
  readonly text: string;
  readonly version?: VersionRef;
  readonly worker?: string;
  readonly step?: string;
  readonly switched?: number;
  readonly slots?: number;
  readonly failure?: Failure;
  readonly reason?: string;
  readonly outcome?: "committed" | "rolled-back" | "mixed";
  readonly report?: Report;
  readonly [key: string]: unknown;
}

/** What became of an order about apps or tenants. */
export interface Order {
  readonly revision: number;
  /** Apps that it is about. */
  readonly apps: readonly string[];
  /** Nodes that have not done it yet; they do it when they are back. */
  readonly behind: readonly NodeInfo[];
  /** What nodes cannot do. */
  readonly troubles: readonly Trouble[];
}

/** What a tenant may have. */
export interface Quotas {
  readonly apps_max?: number | null;
  readonly slots_max?: number | null;
  readonly memory_mib_max?: number | null;
  readonly connections_max?: number | null;
  readonly cpu_share_millis?: number | null;
}

/** What a tenant may have, and what it has. */
export interface TenantInfo {
  readonly tenant: string;
  /** It stands in a settings file. */
  readonly fixed: boolean;
  readonly suspended: boolean;
  readonly quotas: Quotas;
  readonly usage: {
    readonly apps: number;
    readonly slots: number;
    readonly memory_mib: number;
    readonly connections: number;
    readonly cpu_share_millis: number;
  };
}

/** A node that did not answer. */
export interface MissingNode {
  readonly role: string;
  readonly node: string;
  readonly reason: string;
}

/** A client's connection to a gateway. */
export interface ClientConnection {
  readonly client: string;
  readonly app: string;
  readonly protocol: "ws" | "text" | "frame" | "tcp";
  readonly remote: string;
  readonly age_s: number;
  readonly state: "upgrading" | "open" | "closing";
  /** How many groups it is in. */
  readonly groups: number;
  /** What its events under way weigh. */
  readonly in_flight: number;
  /** What waits to be written to it. */
  readonly queued_bytes: number;
  readonly uid?: string;
  /** Where its slot is. */
  readonly worker?: string;
  readonly slot?: number;
  /** Why it is not read. */
  readonly paused?: "no-slot" | "no-credit" | "in-flight" | "rate";
}

/** The connections of an app. */
export interface Connections {
  /** How many there are, told here or not. */
  readonly total: number;
  readonly connections: readonly ClientConnection[];
  readonly missing: readonly MissingNode[];
}

/** How loud a line is. */
export type LogLevel = "error" | "warn" | "info" | "debug" | "trace";

/** A line of an app's log. */
export interface LogLine {
  readonly worker: string;
  /** Of the worker's lines of this app. */
  readonly number: number;
  /** When, in milliseconds since 1970. */
  readonly at_ms: number;
  readonly level: LogLevel;
  /** False: it is said of the plugin. */
  readonly by_plugin: boolean;
  readonly version: number;
  readonly slot: number;
  readonly text: string;
}

/** Lines of an app's log on all workers, in the order of their times. */
export interface Logs {
  readonly lines: readonly LogLine[];
  /** So many were gone before they were asked for. */
  readonly missed: number;
  /** What to ask for those that come. */
  readonly next: string;
  readonly missing: readonly MissingNode[];
}

/** How the node does that answers; of apps what its roles know. */
export interface Status {
  readonly node: string;
  readonly roles: readonly string[];
  readonly version: string;
  readonly uptime_s: number;
  readonly ready: boolean;
  readonly apps: ReadonlyArray<{
    readonly app: string;
    readonly clients?: number;
    readonly slots?: number;
    readonly asleep?: number;
    readonly turns?: number;
    readonly failed?: number;
  }>;
}
