"""The Graph SDK for Python: get, answer, keep alive, hang up."""

import asyncio
from urllib.parse import urlsplit

from azure.identity.aio import ClientSecretCredential
from kiota_authentication_azure.azure_identity_authentication_provider import (
    AzureIdentityAuthenticationProvider,
)
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.communications.calls.item.answer.answer_post_request_body import AnswerPostRequestBody
from msgraph.generated.models.modality import Modality
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.service_hosted_media_config import ServiceHostedMediaConfig
from msgraph_core.requests.batch_request_builder import BatchRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_item import BatchRequestItem

from setting import APP, GRAPH_SCOPE, ORIGIN, SECRET, TENANT, ok, place_call


async def main():
    async with ClientSecretCredential(
        TENANT, APP, SECRET, authority=ORIGIN, disable_instance_discovery=True
    ) as credential:
        provider = AzureIdentityAuthenticationProvider(
            credential, scopes=[GRAPH_SCOPE], allowed_hosts=[urlsplit(ORIGIN).hostname]
        )
        adapter = GraphRequestAdapter(provider)
        adapter.base_url = f"{ORIGIN}/v1.0"
        calls = GraphServiceClient(request_adapter=adapter).communications.calls

        call, placed, webhook = await asyncio.to_thread(place_call)
        item = calls.by_call_id(call)
        shown = await item.get()
        assert shown.id == call and shown.state.value == "incoming", shown
        ok("a call is read")

        await item.answer.post(
            AnswerPostRequestBody(
                callback_uri=webhook,
                accepted_modalities=[Modality.Audio],
                media_config=ServiceHostedMediaConfig(
                    odata_type="#microsoft.graph.serviceHostedMediaConfig", pre_fetch_media=[]
                ),
            )
        )
        await asyncio.to_thread(placed.wait_for_state, "established")
        assert (await item.get()).state.value == "established"
        ok("a call is answered")

        request = item.to_get_request_information()
        request.path_parameters["baseurl"] = adapter.base_url
        show = BatchRequestItem(request, id="1")
        batch = BatchRequestContent()
        batch.add_request(show.id, show)
        responses = await BatchRequestBuilder(adapter).post(batch)
        assert responses.get_response_by_id("1").status == 200, responses
        ok("a batch reads a call")

        await item.keep_alive.post()
        await item.delete()
        await asyncio.to_thread(placed.assert_end)
        placed.assert_steps("answer", "established", "keep alive", "hang up")
        ok("a call is kept alive and hung up")

        try:
            await calls.by_call_id("00000000-0000-4000-8000-000000000000").get()
            raise SystemExit("an unknown call was found")
        except ODataError as error:
            assert error.error.code == "8522" and error.response_status_code == 404, error
        ok("an unknown call is an ODataError 404, 8522")


asyncio.run(main())
