// @azure/identity and MSAL for Node: a managed identity, as a virtual machine and App Service give it.

import { ManagedIdentityApplication } from "@azure/msal-node";
import { ManagedIdentityCredential } from "@azure/identity";
import { app, emulator, graphScope, ok, refused, tenant } from "./setting.mjs";

const variables = emulator.identityVariables;
const forms = {
  "virtual machine": ["AZURE_POD_IDENTITY_AUTHORITY_HOST"],
  "App Service": ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
};
const otherApp = "00000000-0000-4000-8000-000000000000";
const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
const check = (token) => {
  const { appid, tid, aud } = claims(token);
  const seen = [appid, tid, aud].join(" ");
  if (seen !== [app, tenant, "https://graph.microsoft.com"].join(" ")) throw new Error(seen);
};

for (const [form, names] of Object.entries(forms)) {
  for (const name of Object.keys(variables)) delete process.env[name];
  for (const name of names) process.env[name] = variables[name];

  check((await new ManagedIdentityCredential().getToken(graphScope)).token);
  check((await new ManagedIdentityCredential({ clientId: app }).getToken(graphScope)).token);
  ok(`${form}: ManagedIdentityCredential gets a token, with and without a client id`);

  const own = await new ManagedIdentityCredential({ clientId: app }).getToken(`api://${app}/.default`);
  if (claims(own.token).aud !== `api://${app}`) throw new Error(JSON.stringify(claims(own.token)));
  ok(`${form}: a token for api://{id} has that audience`);

  const unknown = new ManagedIdentityCredential({ clientId: otherApp });
  await refused(`${form}: an unknown identity is refused`, () => unknown.getToken(graphScope), /./);

  const client = new ManagedIdentityApplication({ managedIdentityIdParams: { userAssignedClientId: app } });
  check((await client.acquireToken({ resource: "https://graph.microsoft.com" })).accessToken);
  ok(`${form}: MSAL's ManagedIdentityApplication gets a token`);
}
