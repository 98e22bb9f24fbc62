"""azure-identity for Python: secret, certificate and assertion."""

from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import CertificateCredential, ClientAssertionCredential, ClientSecretCredential

from setting import APP, CERTIFICATE, GRAPH_SCOPE, KEY, ORIGIN, SECRET, TENANT, ok, read

options = {"authority": ORIGIN, "disable_instance_discovery": True}

token = ClientSecretCredential(TENANT, APP, SECRET, **options).get_token(GRAPH_SCOPE)
assert token.token.count(".") == 2
ok("a secret gets a token")

pem = (read(KEY) + read(CERTIFICATE)).encode()
token = CertificateCredential(TENANT, APP, certificate_data=pem, **options).get_token(GRAPH_SCOPE)
assert token.token.count(".") == 2
ok("a certificate gets a token")

try:
    ClientSecretCredential(TENANT, APP, "wrong", **options).get_token(GRAPH_SCOPE)
    raise SystemExit("a wrong secret got a token")
except ClientAuthenticationError as error:
    assert "AADSTS7000215" in str(error), error
ok("a wrong secret is a ClientAuthenticationError, AADSTS7000215")

try:
    ClientAssertionCredential(TENANT, APP, lambda: "a.b.c", **options).get_token(GRAPH_SCOPE)
    raise SystemExit("a bad assertion got a token")
except ClientAuthenticationError as error:
    assert "AADSTS50027" in str(error), error
ok("a bad assertion is a ClientAuthenticationError, AADSTS50027")

try:
    checking = {"authority": ORIGIN, "connection_timeout": 5, "retry_total": 0}
    ClientSecretCredential(TENANT, APP, SECRET, **checking).get_token(GRAPH_SCOPE)
    raise SystemExit("the authority was not checked")
except (ClientAuthenticationError, ServiceRequestError, ValueError):
    ok("without disable_instance_discovery=True there is no token")
