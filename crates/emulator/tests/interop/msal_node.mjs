// MSAL for Node: client credentials by secret and by certificate.

import { createHash, X509Certificate } from "node:crypto";
import { ConfidentialClientApplication } from "@azure/msal-node";
import { app, certificate, graphScope, key, ok, origin, refused, secret, tenant } from "./setting.mjs";

const acquire = (credential) =>
  new ConfidentialClientApplication({
    auth: {
      clientId: app,
      authority: `${origin}/${tenant}`,
      knownAuthorities: [new URL(origin).host],
      ...credential,
    },
  }).acquireTokenByClientCredential({ scopes: [graphScope] });

const answer = await acquire({ clientSecret: secret });
if (answer.accessToken.split(".").length !== 3) throw new Error(JSON.stringify(answer));
ok("a secret gets a token");

const thumbprintSha256 = createHash("sha256").update(new X509Certificate(certificate).raw).digest("hex");
await acquire({ clientCertificate: { thumbprintSha256, privateKey: key } });
ok("a certificate gets a token");

const wrongSecret = () => acquire({ clientSecret: "wrong" });
await refused("a wrong secret is invalid_client, AADSTS7000215", wrongSecret, /7000215/);

const checking = () => acquire({ clientSecret: secret, knownAuthorities: [] });
await refused("without knownAuthorities there is no token", checking, /./);
