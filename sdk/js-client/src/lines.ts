/** An answer of lines that come one by one. */

import { UnexpectedAnswer, Unreachable } from "./errors.js";

/** The server says something every five seconds: a silence that long is a connection that is lost. */
const SILENCE_MAX_MS = 30_000;
/** The longest line that is read, in UTF-16 units: a report tells of every slot. */
const LINE_MAX = 64 * 1024 * 1024;

/** @internal Lines of JSON. `end` ends the request, `timer` does so when its time is up. */
export class Lines {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  readonly #decoder = new TextDecoder();
  readonly #end: AbortController;
  readonly #timer: ReturnType<typeof setTimeout>;
  /** Whole lines that are not told yet, and what has come of the next one. */
  #whole: string[] = [];
  #part: string[] = [];
  #partLength = 0;

  constructor(response: Response, end: AbortController, timer: ReturnType<typeof setTimeout>) {
    this.#reader = response.body?.getReader();
    this.#end = end;
    this.#timer = timer;
  }

  /** The next line. Its caller knows which one is the last. */
  async next(): Promise<Record<string, unknown>> {
    while (this.#whole.length === 0) this.#take(await this.#read());
    const line = this.#whole.shift() ?? "";
    const document = parsed(line);
    if (document === undefined) {
      this.close();
      throw new UnexpectedAnswer(200, line);
    }
    return document;
  }

  /** Hears no more. */
  close(): void {
    clearTimeout(this.#timer);
    this.#end.abort(new Error("it was closed"));
  }

  async #read(): Promise<string> {
    const silence = setTimeout(() => this.#end.abort(new Error("nothing came any more")), SILENCE_MAX_MS);
    try {
      const piece = await this.#reader?.read();
      if (piece?.value === undefined) throw new Error("it ended before the last line");
      return this.#decoder.decode(piece.value, { stream: true });
    } catch (error) {
      throw this.#lost(error);
    } finally {
      clearTimeout(silence);
    }
  }

  #take(text: string): void {
    const [first = "", ...others] = text.split("\n");
    this.#part.push(first);
    this.#partLength += first.length;
    const rest = others.pop();
    if (rest === undefined) {
      if (this.#partLength > LINE_MAX) throw this.#lost(new Error("a line is too long"));
      return;
    }
    this.#whole.push(this.#part.join(""), ...others);
    this.#part = [rest];
    this.#partLength = rest.length;
  }

  #lost(cause: unknown): Unreachable {
    this.close();
    const why = cause instanceof Error ? cause.message : String(cause);
    return new Unreachable(`the deployment goes on unheard, for the connection was lost: ${why}`, true, { cause });
  }
}

/** @internal An object in JSON. */
export function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
