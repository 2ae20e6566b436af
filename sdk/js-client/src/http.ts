/** The way of a request, and when it is tried again. */

import { Problem, type TidegateError, UnexpectedAnswer, Unreachable, errorOf } from "./errors.js";
import { Lines, parsed } from "./lines.js";

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

/** @internal A server, and how it is asked. */
export class Server {
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

  /** Asks for one answer. */
  async ask(request: Request): Promise<Record<string, unknown>> {
    return await this.#tried(request, async (leftMs) => {
      const signal = AbortSignal.timeout(leftMs);
      const { response, text } = await this.#answer(request, "application/json", signal, (answer) => answer.text());
      const answer = parsed(text);
      if (answer === undefined) throw new UnexpectedAnswer(response.status, text);
      return answer;
    });
  }

  /** Asks for lines that come one by one. */
  async watch(request: Request): Promise<Lines> {
    return await this.#tried(request, async (leftMs) => {
      const end = new AbortController();
      const timer = setTimeout(() => end.abort(new Error("the time was up")), leftMs);
      try {
        const { response } = await this.#answer(request, "application/x-ndjson", end.signal, async () => "");
        return new Lines(response, end, timer);
      } catch (error) {
        clearTimeout(timer);
        throw error;
      }
    });
  }

  async #tried<T>(request: Request, once: (leftMs: number) => Promise<T>): Promise<T> {
    const until = Date.now() + (request.timeoutMs ?? this.#options.timeoutMs);
    for (let tries = 0; ; tries += 1) {
      try {
        return await once(Math.max(1, until - Date.now()));
      } catch (error) {
        const pause = pauseAfter(error, tries, request.again);
        if (pause === undefined || tries >= this.#options.retries || Date.now() + pause >= until) throw error;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  /** A good answer, and what `read` has read of it. */
  async #answer(
    { method, path, body, key }: Request,
    accept: string,
    signal: AbortSignal,
    read: (response: Response) => Promise<string>,
  ): Promise<{ response: Response; text: string }> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#options.token}`, Accept: accept };
    const isModule = body instanceof Uint8Array;
    if (body !== undefined) headers["Content-Type"] = isModule ? "application/wasm" : "application/json";
    if (key !== undefined) headers["Idempotency-Key"] = key;
    let response, text;
    try {
      response = await this.#options.fetch(this.#options.url + path, {
        method,
        headers,
        redirect: "error",
        signal,
        ...(body === undefined ? {} : { body: isModule ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
      });
      text = await (response.ok ? read(response) : response.text());
    } catch (error) {
      throw unreachable(error);
    }
    if (response.ok) return { response, text };
    const after = Number(response.headers.get("Retry-After") ?? 0);
    const afterMs = Number.isFinite(after) ? Math.min(after * 1_000, LONGEST_PAUSE_MS) : 0;
    throw errorOf(response.status, response.headers.get("Content-Type"), text, afterMs);
  }
}

/** @internal */
export interface Request {
  readonly method: string;
  readonly path: string;
  /** Bytes are a component, everything else becomes JSON. */
  readonly body?: object;
  readonly key?: string;
  /** It does no harm if it is carried out twice, or it has a key. */
  readonly again: boolean;
  /** Another time for the whole call. */
  readonly timeoutMs?: number;
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
