"""MSAL for Python: client credentials by secret and by certificate."""

import msal

from setting import APP, CA, CERTIFICATE, GRAPH_SCOPE, KEY, ORIGIN, SECRET, TENANT, ok, read


def acquire(credential, **options):
    app = msal.ConfidentialClientApplication(
        APP,
        authority=f"{ORIGIN}/{TENANT}",
        client_credential=credential,
        verify=CA,
        **{"instance_discovery": False, **options},
    )
    return app, app.acquire_token_for_client(scopes=[GRAPH_SCOPE])


app, answer = acquire(SECRET)
assert answer.get("token_type") == "Bearer" and answer["expires_in"] > 3500, answer
again = app.acquire_token_for_client(scopes=[GRAPH_SCOPE])
assert again["access_token"] == answer["access_token"] and again["token_source"] == "cache", again
ok("a secret gets a token, which is cached")

_, answer = acquire({"private_key": read(KEY), "public_certificate": read(CERTIFICATE)})
assert "access_token" in answer, answer
ok("a certificate gets a token")

_, answer = acquire("wrong")
assert answer["error"] == "invalid_client" and answer["error_codes"] == [7000215], answer
ok("a wrong secret is invalid_client, AADSTS7000215")

try:
    _, answer = acquire(SECRET, instance_discovery=True)
    raise SystemExit(f"the authority was not checked: {answer}")
except (ValueError, OSError):  # Microsoft does not know this authority, or cannot be reached.
    ok("without instance_discovery=False there is no token")
