/** When to connect again, and what waits meanwhile. Pure: no sockets, no clocks. */

/** How a connection ended; without an answer from the server the code is 1006. */
export interface Closed {
  readonly code: number;
  readonly reason: string;
}

/** What a client does after a close. */
export type Verdict =
  /** It connects again, after a pause that grows. */
  | "again"
  /** It connects again, and not at once: there is no room for it now. */
  | "later"
  /** It stays away: the same would happen again, or the app wants it so. */
  | "stop";

/** What the codes that Tidegate closes clients with ask for. Codes of an app's own mean what the app says: stop. */
export function verdictOf({ code }: Closed): Verdict {
  switch (code) {
    case 1013: // No worker took it in time, or the app is suspended.
      return "later";
    case 1000: // The plugin has closed it.
    case 1002: // It broke the protocol,
    case 1003:
    case 1007: // sent text that is no UTF-8,
    case 1009: // or a message that is too large.
    case 1010:
      return "stop";
    case 4008: // It read too slowly.
      return "again";
    default: // 1001 the gateway stops, 1006 the line broke, 1008 no heartbeat came through: elsewhere, or in a moment.
      return code >= 3000 ? "stop" : "again";
  }
}

/** How long pauses are. */
export interface Pauses {
  /** The first one. */
  readonly firstMs: number;
  /** And no longer than this. */
  readonly longestMs: number;
  /** The first one when the server has no room. */
  readonly laterMs: number;
}

/** The pause before the next try: twice as long each time, and half of it is chance, so that the clients of a gateway that has
 * stopped do not meet at the next one all at once. `random` is from 0 up to 1. */
export function pauseMs(pauses: Pauses, verdict: "again" | "later", failures: number, random: number): number {
  const first = verdict === "later" ? Math.max(pauses.laterMs, pauses.firstMs) : pauses.firstMs;
  const longest = Math.min(first * 2 ** Math.min(failures, 30), Math.max(pauses.longestMs, first));
  return longest / 2 + random * (longest / 2);
}

/** A message to send. */
export type Data = string | ArrayBuffer | Uint8Array;

/** What goes first when a message finds no room. */
export type QueuePolicy =
  /** The message itself; `send` says so. */
  | "drop-newest"
  /** The oldest ones that wait. */
  | "drop-oldest";

/** The room for messages while there is no connection. */
export interface QueueLimits {
  readonly messages: number;
  readonly bytes: number;
  readonly policy: QueuePolicy;
}

/** Messages that wait for a connection. */
export class Queue {
  readonly #limits: QueueLimits;
  #waiting: Array<{ readonly data: Data; readonly bytes: number }> = [];
  #bytes = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  /** How many messages wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /** How many bytes they have together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Lets a message wait; gives those that have no room: perhaps itself. */
  push(data: Data): Data[] {
    const { messages, bytes: bytesMax, policy } = this.#limits;
    const bytes = bytesOf(data);
    if (messages < 1 || bytes > bytesMax) return [data];
    const dropped: Data[] = [];
    while (this.#waiting.length >= messages || this.#bytes + bytes > bytesMax) {
      if (policy === "drop-newest") return [data];
      const oldest = this.shift();
      if (oldest === undefined) break;
      dropped.push(oldest);
    }
    this.#waiting.push({ data, bytes });
    this.#bytes += bytes;
    return dropped;
  }

  /** Takes the oldest. */
  shift(): Data | undefined {
    const oldest = this.#waiting.shift();
    this.#bytes -= oldest?.bytes ?? 0;
    return oldest?.data;
  }
}

/** How many bytes a message has on the line, without its frame. */
export function bytesOf(data: Data): number {
  return typeof data === "string" ? new TextEncoder().encode(data).length : data.byteLength;
}
