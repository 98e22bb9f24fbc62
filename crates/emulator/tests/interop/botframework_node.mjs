// botframework-connector for Node: validation of the platform's token.

import connector from "botframework-connector";
import extractor from "botframework-connector/lib/auth/jwtTokenExtractor.js";
import { app, emulator, ok, origin, refused, tenant } from "./setting.mjs";

const { ChannelValidation, SimpleCredentialProvider } = connector;
const { JwtTokenExtractor } = extractor;
const metadata = `${origin}/v1/.well-known/OpenIdConfiguration`;
ChannelValidation.OpenIdMetadataEndpoint = metadata;

const mint = (kind) => emulator.makeToken(kind, { tenant });
const provider = new SimpleCredentialProvider(app, "");
const validate = async (kind) =>
  ChannelValidation.authenticateChannelToken(`Bearer ${await mint(kind)}`, provider, "msteams");

const claims = await validate("skype");
if (claims.getClaimValue("tid") !== tenant) throw new Error("no tid");
ok("a good token is taken");
for (const kind of ["forged", "expired", "wrong-audience", "wrong-issuer", "unknown-key"]) {
  await refused(`a token that is ${kind} is refused`, () => validate(kind), /./);
}

const entra = new JwtTokenExtractor(
  { audience: app, issuer: [`https://login.microsoftonline.com/${tenant}/v2.0`], clockTolerance: 300 },
  `${origin}/common/v2.0/.well-known/openid-configuration`,
  ["RS256"],
);
await entra.getIdentity("Bearer", await mint("entra-v2"), "msteams");
ok("a good Entra token is taken");
