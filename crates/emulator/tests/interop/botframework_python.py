"""botframework-connector for Python: validation of the platform's token."""

import asyncio

from botframework.connector.auth import ChannelValidation, SimpleCredentialProvider

from setting import APP, EMULATOR, ORIGIN, TENANT, ok


def mint(**more):
    return EMULATOR.make_token(tenant=TENANT, **more)


async def validate(token):
    ChannelValidation.open_id_metadata_endpoint = f"{ORIGIN}/v1/.well-known/OpenIdConfiguration"
    provider = SimpleCredentialProvider(APP, "")
    return await ChannelValidation.authenticate_channel_token(f"Bearer {token}", provider, "msteams")


async def main():
    claims = await validate(mint())
    assert claims.is_authenticated and claims.get_claim_value("tid") == TENANT, claims.claims
    ok("a good token is taken")
    for kind in ["forged", "expired", "wrong-audience", "wrong-issuer", "unknown-key"]:
        try:
            await validate(mint(kind=kind))
        except Exception:  # PermissionError, or an error of the JWT library.
            ok(f"a token that is {kind} is refused")
        else:
            raise SystemExit(f"a token that is {kind} was taken")


asyncio.run(main())
