"""The calls of a bot on the Graph SDK for Python: its client, its people, its new and its own calls."""

import asyncio
import importlib
import re
import uuid
from urllib.parse import urlsplit

from azure.identity.aio import ClientSecretCredential
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_authentication_azure.azure_identity_authentication_provider import (
    AzureIdentityAuthenticationProvider,
)
from kiota_serialization_json.json_parse_node import JsonParseNode
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.o_data_errors.o_data_error import ODataError

from bot import Bot
from setting import APP, CALLBACK, EMULATOR, GRAPH_SCOPE, ORIGIN, SECRET, TENANT, place_call

credential = ClientSecretCredential(TENANT, APP, SECRET, authority=ORIGIN, disable_instance_discovery=True)
provider = AzureIdentityAuthenticationProvider(
    credential, scopes=[GRAPH_SCOPE], allowed_hosts=[urlsplit(ORIGIN).hostname]
)
adapter = GraphRequestAdapter(provider)
adapter.base_url = f"{ORIGIN}/v1.0"
calls = GraphServiceClient(request_adapter=adapter).communications.calls
bot = Bot()


def snake(name):
    """The name of a module or member for a name of Graph."""
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


class Models:
    """The classes of the SDK by name. Each is in a module of its own."""

    def __getattr__(self, name):
        return getattr(importlib.import_module(f"msgraph.generated.models.{snake(name)}"), name)


models = Models()


def send(action, **members):
    """Posts to an action. The class of its body is beside the class of its builder."""
    module = type(action).__module__.removesuffix("request_builder") + "post_request_body"
    name = type(action).__name__.removesuffix("RequestBuilder") + "PostRequestBody"
    return action.post(getattr(importlib.import_module(module), name)(**members))


def parsed(name, data):
    """Reads the resourceData of a notification with the classes of the SDK."""
    return JsonParseNode(data).get_object_value(getattr(models, name))


def identity(**who):
    """The identity set of a user, a number or an app."""
    people = {kind: models.Identity(id=id) for kind, id in who.items()}
    if "phone" in people:
        return models.CommunicationsIdentitySet(**people)
    return models.IdentitySet(odata_type="#microsoft.graph.identitySet", **people)


def invitation(**who):
    replaces = who.pop("replaces", None)
    return models.InvitationParticipantInfo(identity=identity(**who), replaces_call_id=replaces)


def prompt(url):
    return models.MediaPrompt(media_info=models.MediaInfo(uri=url, resource_id=str(uuid.uuid4())))


def media():
    return models.ServiceHostedMediaConfig(pre_fetch_media=[])


class LiveCall:
    """A call of the bot: the emulator's view of it, its request builder, and one of its people."""

    def __init__(self, other_side):
        self.other_side = other_side
        self.id = other_side.id
        self.graph = calls.by_call_id(self.id)
        self.person = None

    async def play(self, do, **members):
        """Lets the other side act."""
        await asyncio.to_thread(self.other_side.play_step, do, **members)

    @property
    def of_person(self):
        return self.graph.participants.by_participant_id(self.person)

    def operate(self, path, context, members):
        """Starts an operation. The SDK has no builder for the ones that Graph has in beta only."""
        builder = self.graph
        for name in path.split("/"):
            if builder and name == "{id}":
                builder = builder.by_participant_id(self.person)
            else:
                builder = getattr(builder, snake(name), None)
        if builder:
            return send(builder, client_context=context, **members)
        url = f"{ORIGIN}/beta/communications/calls/{self.id}/{path}"
        request = RequestInformation(Method.POST, url)
        body = models.CommsOperation(client_context=context)
        request.set_content_from_parsable(adapter, "application/json", body)
        return adapter.send_async(request, models.CommsOperation, {"XXX": ODataError})

    async def ended(self, code, subcode, **members):
        """Waits for the end, and compares its code. Every request of both sides was accepted until then."""
        item = await bot.item(self.id, "", "deleted", **members)
        end = parsed("Call", item.data).result_info
        assert (end.code, end.subcode) == (code, subcode), end
        await asyncio.to_thread(self.other_side.wait_for_end)
        # A step with neither is a remark.
        sent = [step for step in self.other_side.steps if step["status"] or step["message_id"]]
        refused = [step for step in sent if (step["status"] or 0) // 100 != 2]
        assert not refused, refused
        return f"ends with {code}/{subcode}"


async def incoming(**options):
    """Lets a person call the bot: the call, and its callback URI."""
    call = LiveCall(await asyncio.to_thread(place_call, **options))
    return call, await bot.new_call(call.id)


async def answered(**options):
    """Answers a new call and waits until it is established."""
    call, callback = await incoming(**options)
    await send(
        call.graph.answer,
        callback_uri=callback,
        accepted_modalities=[models.Modality.Audio],
        media_config=media(),
        participant_capacity=0,
        call_options=models.IncomingCallOptions(is_content_sharing_notification_enabled=True),
    )
    for state in ["establishing", "established"]:
        await bot.item(call.id, "", "updated", state=state)
    people = await bot.roster(call.id, "the bot and its caller", lambda people: len(people) >= 2)
    for person in people:
        assert parsed("Participant", person).info.identity.odata_type, person
    return call


async def created(**members):
    """Places a call of the bot."""
    request = models.Call(
        odata_type="#microsoft.graph.call",
        callback_uri=CALLBACK,
        direction=models.CallDirection.Outgoing,
        requested_modalities=[models.Modality.Audio],
        media_config=media(),
        tenant_id=TENANT,
        source=models.ParticipantInfo(identity=identity(application=APP)),
        **members,
    )
    shown = await calls.post(request)
    assert type(shown) is models.Call and shown.direction.value == "outgoing", shown
    assert shown.state.value == "establishing" and shown.tenant_id == TENANT, shown
    return LiveCall(await asyncio.to_thread(EMULATOR.follow_call, shown.id))
