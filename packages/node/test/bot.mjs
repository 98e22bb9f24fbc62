// A bot for the tests: answers every call, and hangs up when the caller presses 5.

import { createServer } from "node:http";

/** A webhook on a free port, and the requests to Graph that it causes. */
export class Bot {
  tones = [];
  answers = true;
  #server = createServer((request, response) => this.#respond(request, response));

  static async start(graph) {
    const bot = new Bot();
    bot.graph = graph;
    await new Promise((listening) => bot.#server.listen(0, "127.0.0.1", listening));
    bot.url = `http://127.0.0.1:${bot.#server.address().port}/api/calls`;
    return bot;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #respond(request, response) {
    let text = "";
    for await (const chunk of request) text += chunk;
    const { value } = JSON.parse(text);
    // 204 to the legacy form: the same call comes again in the Graph form.
    response.writeHead(value === undefined ? 204 : 202).end();
    for (const item of value ?? []) await this.#receive(item);
  }

  async #receive({ changeType, resource, resourceData: call }) {
    if (Array.isArray(call)) return;
    const path = `${this.graph}/communications/calls/${resource.split("/")[3]}`;
    if (call.state === "incoming" && changeType === "created" && this.answers) {
      await send("POST", `${path}/answer`, {
        callbackUri: this.url,
        acceptedModalities: ["audio"],
        mediaConfig: { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" },
      });
    }
    if (call.toneInfo !== undefined) {
      this.tones.push(call.toneInfo.tone);
      if (call.toneInfo.tone === "tone5") await send("DELETE", path);
    }
  }

  /** Calls a person, as a bot that dials out does. */
  async createCall(app, tenantId) {
    const identity = (kind, id) => ({
      "@odata.type": "#microsoft.graph.identitySet",
      [kind]: { "@odata.type": "#microsoft.graph.identity", id },
    });
    const call = {
      "@odata.type": "#microsoft.graph.call",
      callbackUri: this.url,
      targets: [
        {
          "@odata.type": "#microsoft.graph.invitationParticipantInfo",
          identity: identity("user", "550fae72-d251-43ec-868c-373732c2704f"),
        },
      ],
      requestedModalities: ["audio"],
      mediaConfig: { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" },
      tenantId,
      source: { "@odata.type": "#microsoft.graph.participantInfo", identity: identity("application", app) },
    };
    return (await (await send("POST", `${this.graph}/communications/calls`, call)).json()).id;
  }
}

const send = (method, url, body) =>
  fetch(url, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
