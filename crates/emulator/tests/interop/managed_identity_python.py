"""azure-identity and MSAL for Python: a managed identity, as a virtual machine and App Service give it."""

import base64
import json
import os

import msal
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

from setting import APP, EMULATOR, GRAPH_SCOPE, TENANT, ok

VARIABLES = EMULATOR.identity_variables
FORMS = {
    "virtual machine": ["AZURE_POD_IDENTITY_AUTHORITY_HOST"],
    "App Service": ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
}
OTHER_APP = "00000000-0000-4000-8000-000000000000"


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def check(token):
    seen = claims(token)
    assert (seen["appid"], seen["tid"], seen["aud"]) == (APP, TENANT, "https://graph.microsoft.com"), seen


for form, names in FORMS.items():
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update({name: VARIABLES[name] for name in names})

    check(ManagedIdentityCredential().get_token(GRAPH_SCOPE).token)
    check(ManagedIdentityCredential(client_id=APP).get_token(GRAPH_SCOPE).token)
    ok(f"{form}: ManagedIdentityCredential gets a token, with and without a client id")

    own = ManagedIdentityCredential(client_id=APP).get_token(f"api://{APP}/.default").token
    assert (claims(own)["aud"], claims(own)["ver"]) == (f"api://{APP}", "1.0"), claims(own)
    ok(f"{form}: a token for api://{{id}} has that audience")

    try:
        ManagedIdentityCredential(client_id=OTHER_APP).get_token(GRAPH_SCOPE)
        raise SystemExit("an unknown identity got a token")
    except (ClientAuthenticationError, CredentialUnavailableError):
        ok(f"{form}: an unknown identity is refused")

    identity = msal.UserAssignedManagedIdentity(client_id=APP)
    client = msal.ManagedIdentityClient(identity, http_client=requests.Session())
    answer = client.acquire_token_for_client(resource="https://graph.microsoft.com")
    check(answer["access_token"])
    assert answer["expires_in"] > 3500, answer
    ok(f"{form}: MSAL's ManagedIdentityClient gets a token")
