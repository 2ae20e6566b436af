/** What goes wrong. */

const PREFIX = "urn:tidegate:problem:";

/** The kinds of problems that there were when this was written; a newer server may have more. */
export type ProblemKind =
  | "unauthorized" | "forbidden" | "foreign-host" | "foreign-origin" | "no-such-path" | "no-such-app" | "bad-body" | "invalid"
  | "refused" | "too-large" | "too-slow" | "key-reused" | "key-in-use" | "too-fast" | "busy" | "no-gateway"
  | "no-such-method" | "plain-http"
  | "bad-media-type" | "bad-module" | "no-such-version" | "not-deploying" | "deploying" | "rolled-back" | "no-capacity"
  | "suspended" | "no-room" | "failed" | "unavailable" | "no-such-tenant" | "exists" | "fixed" | "quota";

/** Everything that a request is refused with. */
export class TidegateError extends Error {
  override name = "TidegateError";
}

/** The server says why it did nothing: a problem document of RFC 9457. */
export class Problem extends TidegateError {
  override name = "Problem";

  constructor(
    /** `urn:tidegate:problem:<kind>`. */
    readonly type: string,
    /** The kind in words. */
    readonly title: string,
    /** The HTTP status. */
    readonly status: number,
    /** What, where, and how to mend it. */
    readonly detail: string,
    /** In how many milliseconds it may go well, if the server says so. */
    readonly retryAfterMs: number = 0,
  ) {
    super(`${title}: ${detail}`);
  }

  /** The last part of the type, such as `no-such-app`. */
  get kind(): ProblemKind | (string & {}) {
    return this.type.startsWith(PREFIX) ? this.type.slice(PREFIX.length) : this.type;
  }
}

/** No answer came: the server could not be reached, the connection ended, or the time was up. */
export class Unreachable extends TidegateError {
  override name = "Unreachable";

  constructor(
    message: string,
    /** Whether the request may have been carried out all the same. */
    readonly sent: boolean,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Something answered that is not Tidegate's API: a proxy's page of an error, as a rule. */
export class UnexpectedAnswer extends TidegateError {
  override name = "UnexpectedAnswer";

  constructor(
    /** The HTTP status. */
    readonly status: number,
    text: string,
  ) {
    super(`status ${status}, and no answer of Tidegate's API: ${JSON.stringify(text.slice(0, 200))}. Is a proxy in between?`);
  }
}

/** What an answer that is no success says. */
export function errorOf(status: number, contentType: string | null, text: string, retryAfterMs: number): TidegateError {
  if (contentType?.split(";")[0]?.trim() === "application/problem+json") {
    try {
      const { type, title, detail } = JSON.parse(text) as Record<string, unknown>;
      if (typeof type === "string" && typeof title === "string" && typeof detail === "string") {
        return new Problem(type, title, status, detail, retryAfterMs);
      }
    } catch {
      // Then it is none.
    }
  }
  return new UnexpectedAnswer(status, text);
}
