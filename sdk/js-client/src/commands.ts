/** What is said to clients. */

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
