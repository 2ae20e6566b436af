/** A WebSocket connection to an app that comes back. For browsers and Node; it knows nothing of what is said. */

import { type Closed, type Data, type Pauses, Queue, type QueueLimits, type Verdict, bytesOf, pauseMs, verdictOf } from "./reconnect.js";

export { type Closed, type Data, type Pauses, type QueueLimits, type QueuePolicy, type Verdict, verdictOf } from "./reconnect.js";

/** What is needed of a `WebSocket`: that of a browser, of Node 22, or of the package `ws`. */
export interface Socket {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Data): void;
  close(code?: number, reason?: string): void;
}

/** Makes sockets. */
export type SocketClass = new (url: string, protocols?: string[]) => Socket;

/** What asks a server that is silent whether it is there. A browser may take minutes to notice that a network is dead; what the
 * gateway's own heartbeat asks is answered by the browser and never seen here. So it is the app that must answer. */
export interface Heartbeat {
  /** How long nothing may come before it asks. */
  readonly everyMs: number;
  /** What it sends; the app must answer anything. */
  readonly message: Data | (() => Data);
  /** How long the answer may take before the connection counts as lost. Default: 10 s. */
  readonly answerWithinMs?: number;
}

/** How a connection is made and kept. */
export interface ConnectionOptions {
  /** Where to; a function is asked at each try, for a fresh ticket in the query for example. */
  readonly url: string | (() => string | Promise<string>);
  readonly protocols?: string[];
  /** Default: the global one. Node 20 has none unless it runs with `--experimental-websocket`. */
  readonly WebSocket?: SocketClass;
  /** What is said first on each connection, before anything that waited: a login for example. */
  readonly greeting?: () => Data | Promise<Data>;
  /** Default: 0.5 s, 30 s; 5 s when there is no room. */
  readonly pauses?: Partial<Pauses>;
  /** How long connecting may take. Default: 10 s. */
  readonly openWithinMs?: number;
  /** Default: none. */
  readonly heartbeat?: Heartbeat;
  /** The room for messages while there is no connection. Default: 100 messages, 64 KiB, "drop-newest". */
  readonly queue?: Partial<QueueLimits>;
  /** How much may wait in the socket while there is one. Default: 1 MiB. */
  readonly bufferedBytesMax?: number;
  /** Another opinion about what to do after a close; `verdictOf` knows Tidegate's codes. */
  readonly verdict?: (closed: Closed) => Verdict;
}

/** How a connection is. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** What happens. */
export interface Events {
  /** It is there, `again`: not for the first time. What waited is sent after the listeners have run. */
  open: { readonly again: boolean };
  /** A text, or bytes as an ArrayBuffer. */
  message: string | ArrayBuffer;
  /** It is lost, and is tried again in so many milliseconds. */
  waiting: { readonly ms: number; readonly closed: Closed };
  /** It is lost or closed for good. */
  closed: Closed;
  /** There was no room for a message. */
  dropped: Data;
}

/** What became of a message: the socket has it, it waits, or there was no room. */
export type Sent = "sent" | "queued" | "dropped";

/**
 * Connects, and connects again when the connection is lost, after pauses that grow and are half chance.
 *
 * Whether and when depends on the code of the close: see `verdictOf`. That the socket has a message does not mean that the app
 * has it: what was under way when a connection broke is lost, and an app that cannot bear that answers its messages.
 */
export class Connection {
  readonly #options: ConnectionOptions;
  readonly #class: SocketClass;
  readonly #pauses: Pauses;
  readonly #queue: Queue;
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();
  #state: State = "connecting";
  #socket: Socket | undefined;
  #failures = 0;
  #opened = 0;
  #since = 0;
  /** Counts tries: what belongs to an older one comes too late. */
  #try = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined;
  readonly #online = (): void => this.retry();
  readonly #offline = (): void => this.#lost({ code: 1006, reason: "the network is gone" });

  constructor(options: ConnectionOptions) {
    const found = options.WebSocket ?? (globalThis as { WebSocket?: SocketClass }).WebSocket;
    if (found === undefined) {
      throw new TypeError("there is no WebSocket here: Node 22 has one, older ones need the option `WebSocket`, of the package ws");
    }
    this.#options = options;
    this.#class = found;
    this.#pauses = { firstMs: 500, longestMs: 30_000, laterMs: 5_000, ...options.pauses };
    this.#queue = new Queue({ messages: 100, bytes: 64 * 1024, policy: "drop-newest", ...options.queue });
    if (typeof globalThis.addEventListener === "function") {
      globalThis.addEventListener("online", this.#online);
      globalThis.addEventListener("offline", this.#offline);
    }
    // So that whoever made it can listen first.
    queueMicrotask(() => void this.#connect());
  }

  /** How it is. */
  get state(): State {
    return this.#state;
  }

  /** How many messages wait for a connection. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Listens; what it gives ends that. */
  on<K extends keyof Events>(what: K, listener: (event: Events[K]) => void): () => void {
    const listeners = this.#listeners.get(what) ?? new Set();
    this.#listeners.set(what, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Sends a message, or lets it wait for a connection. */
  send(data: Data): Sent {
    const socket = this.#socket;
    if (this.#state === "closed") return this.#drop(data);
    if (this.#state !== "open" || socket === undefined) {
      const dropped = this.#queue.push(data);
      dropped.forEach((one) => this.#emit("dropped", one));
      return dropped.includes(data) ? "dropped" : "queued";
    }
    const buffered = socket.bufferedAmount + bytesOf(data);
    if (buffered > (this.#options.bufferedBytesMax ?? 1024 * 1024)) return this.#drop(data);
    socket.send(data);
    return "sent";
  }

  /** Ends a pause: connects now. */
  retry(): void {
    if (this.#state === "waiting") void this.#connect();
  }

  /** Closes it for good. What waits is dropped. */
  close(code = 1000, reason = ""): void {
    if (this.#state === "closed") return;
    const socket = this.#socket;
    this.#end({ code, reason });
    socket?.close(code, reason);
  }

  async #connect(): Promise<void> {
    if (this.#state === "closed") return;
    this.#try += 1;
    const now = this.#try;
    clearTimeout(this.#timer);
    this.#state = "connecting";
    this.#expectWithin(this.#options.openWithinMs ?? 10_000, "connecting took too long");
    // A socket that was given up may still report: only the present one counts.
    const mine = <E>(then: (event: E) => void) => (event: E): void => { if (now === this.#try) then(event); };
    try {
      const { url, protocols } = this.#options;
      const address = typeof url === "string" ? url : await url();
      if (now !== this.#try) return;
      const socket = new this.#class(address, protocols ?? []);
      this.#socket = socket;
      socket.binaryType = "arraybuffer";
      socket.onopen = mine(() => void this.#greet(now, socket));
      socket.onmessage = mine((event: { data: string | ArrayBuffer }) => this.#received(event.data));
      socket.onclose = mine((event: Closed) => this.#lost({ code: event.code, reason: event.reason }));
      // Node's has no close after an error before it was open.
      socket.onerror = mine(() => { if (socket.readyState === 3) this.#lost({ code: 1006, reason: "" }); });
    } catch (error) {
      if (now === this.#try) this.#lost({ code: 1006, reason: String(error) });
    }
  }

  async #greet(now: number, socket: Socket): Promise<void> {
    try {
      const greeting = this.#options.greeting;
      if (greeting !== undefined) {
        const data = await greeting();
        if (now !== this.#try) return;
        socket.send(data);
      }
    } catch (error) {
      if (now === this.#try) this.#lost({ code: 1006, reason: String(error) });
      return;
    }
    this.#state = "open";
    this.#opened += 1;
    this.#since = Date.now();
    this.#heard();
    this.#emit("open", { again: this.#opened > 1 });
    // A listener may have closed it.
    while (this.#state === "open" && now === this.#try) {
      const data = this.#queue.shift();
      if (data === undefined) return;
      socket.send(data);
    }
  }

  #received(data: string | ArrayBuffer): void {
    // Only now the server has shown that it has room: one that closes at once is left alone for longer and longer.
    this.#failures = 0;
    if (this.#state === "open") this.#heard();
    this.#emit("message", data);
  }

  #heard(): void {
    clearTimeout(this.#watch);
    const heartbeat = this.#options.heartbeat;
    if (heartbeat === undefined) return;
    this.#watch = setTimeout(() => {
      this.#expectWithin(heartbeat.answerWithinMs ?? 10_000, "the server is silent");
      const { message } = heartbeat;
      this.#socket?.send(typeof message === "function" ? message() : message);
    }, heartbeat.everyMs);
  }

  #expectWithin(ms: number, reason: string): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#lost({ code: 1006, reason }), ms);
  }

  #lost(closed: Closed): void {
    if (this.#state === "closed" || this.#state === "waiting") return;
    const verdict = (this.#options.verdict ?? verdictOf)(closed);
    const socket = this.#socket;
    if (this.#state === "open" && Date.now() - this.#since > this.#pauses.longestMs) this.#failures = 0;
    if (verdict === "stop") {
      this.#end(closed);
    } else {
      this.#leave("waiting");
      const ms = pauseMs(this.#pauses, verdict, this.#failures, Math.random());
      this.#failures += 1;
      this.#timer = setTimeout(() => void this.#connect(), ms);
      this.#emit("waiting", { ms, closed });
    }
    socket?.close();
  }

  #end(closed: Closed): void {
    this.#leave("closed");
    clearTimeout(this.#timer);
    if (typeof globalThis.removeEventListener === "function") {
      globalThis.removeEventListener("online", this.#online);
      globalThis.removeEventListener("offline", this.#offline);
    }
    for (let data = this.#queue.shift(); data !== undefined; data = this.#queue.shift()) this.#emit("dropped", data);
    this.#emit("closed", closed);
  }

  #leave(state: State): void {
    this.#state = state;
    this.#try += 1;
    this.#socket = undefined;
    clearTimeout(this.#watch);
  }

  #drop(data: Data): Sent {
    this.#emit("dropped", data);
    return "dropped";
  }

  #emit<K extends keyof Events>(what: K, event: Events[K]): void {
    for (const listener of [...(this.#listeners.get(what) ?? [])]) (listener as (event: Events[K]) => void)(event);
  }
}
