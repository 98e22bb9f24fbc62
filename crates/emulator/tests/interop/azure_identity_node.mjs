// @azure/identity for Node: secret and certificate.

import { ClientCertificateCredential, ClientSecretCredential } from "@azure/identity";
import { app, graphScope, ok, origin, pemFile, refused, secret, tenant } from "./setting.mjs";

const options = { authorityHost: origin, disableInstanceDiscovery: true };

await new ClientSecretCredential(tenant, app, secret, options).getToken(graphScope);
ok("a secret gets a token");

const credential = new ClientCertificateCredential(tenant, app, { certificatePath: pemFile }, options);
await credential.getToken(graphScope);
ok("a certificate gets a token");

const wrong = new ClientSecretCredential(tenant, app, "wrong", options);
await refused("a wrong secret is AADSTS7000215", () => wrong.getToken(graphScope), /7000215/);

const checking = new ClientSecretCredential(tenant, app, secret, { authorityHost: origin });
await refused("without disableInstanceDiscovery there is no token", () => checking.getToken(graphScope), /./);
