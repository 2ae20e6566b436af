/** What concerns more than one app: for tokens of role `admin`, and for operators. */

import type { Server } from "./http.js";
import type { AppInfo, NodeInfo, Order, Quotas, Status, TenantInfo } from "./told.js";

/** What `Tidegate` has of all this. */
export abstract class Operator {
  readonly #server: Server;

  /** @internal */
  constructor(server: Server) {
    this.#server = server;
  }

  /** The apps that the token is for. */
  async apps(): Promise<readonly AppInfo[]> {
    return (await this.#read<{ apps: AppInfo[] }>("/v1/apps")).apps;
  }

  /** A tenant. Costs nothing. */
  tenant(name: string): Tenant {
    return new Tenant(this.#server, name);
  }

  /** What tenants may have and what they have: the token's, or all for an operator's. */
  async tenants(): Promise<readonly TenantInfo[]> {
    return (await this.#read<{ tenants: TenantInfo[] }>("/v1/tenants")).tenants;
  }

  /** The nodes of the cluster. */
  async nodes(): Promise<readonly NodeInfo[]> {
    return (await this.#read<{ nodes: NodeInfo[] }>("/v1/nodes")).nodes;
  }

  /** How the node does that answers, with the token's apps on it. */
  status(): Promise<Status> {
    return this.#read("/v1/status");
  }

  async #read<T>(path: string): Promise<T> {
    return (await this.#server.ask({ method: "GET", path, again: true })) as T;
  }
}

/** A tenant. Made by `Tidegate.tenant`. All but `info` needs an operator's token. */
export class Tenant {
  readonly #server: Server;
  readonly #path: string;

  /** @internal */
  constructor(server: Server, name: string) {
    this.#server = server;
    this.#path = `/v1/tenants/${encodeURIComponent(name)}`;
  }

  /** What it may have, and what it has. */
  async info(): Promise<TenantInfo> {
    return (await this.#server.ask({ method: "GET", path: this.#path, again: true })) as unknown as TenantInfo;
  }

  /** Makes it, with these quotas. */
  create(quotas: Quotas = {}): Promise<Order> {
    return this.#order("POST", "", quotas);
  }

  /** Changes these quotas; null is no limit, the others stay. */
  configure(quotas: Quotas): Promise<Order> {
    return this.#order("PATCH", "", quotas);
  }

  /** Takes clients and slots from its apps until it is resumed. */
  suspend(): Promise<Order> {
    return this.#order("POST", "/suspend");
  }

  /** Lets its apps run again, but for those that are suspended themselves. */
  resume(): Promise<Order> {
    return this.#order("POST", "/resume");
  }

  /** Removes it and its apps, with all that is theirs. */
  delete(): Promise<Order> {
    return this.#order("DELETE", "");
  }

  async #order(method: string, path: string, body?: object): Promise<Order> {
    const request = { method, path: this.#path + path, again: false, ...(body === undefined ? {} : { body }) };
    return (await this.#server.ask(request)) as unknown as Order;
  }
}
