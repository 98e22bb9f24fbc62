"""The Graph SDK for Python: a bot behind the gateway that uses the whole calls API."""

import asyncio
import ssl
import sys
import urllib.request
import uuid
from collections import namedtuple

from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph_core.requests.batch_request_builder import BatchRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_item import BatchRequestItem

from bot import LONG_PROMPT_URL, PROMPT_URL
from msgraph_calls import (
    adapter,
    answered,
    bot,
    calls,
    created,
    credential,
    identity,
    incoming,
    invitation,
    models,
    parsed,
    prompt,
    send,
)
from setting import APP, CA, CALLBACK, EMULATOR, TENANT

DESK = "0a0a0a0a-1111-4aaa-8bbb-000000000002"
NUMBER = "+12025550123"
THREAD = "19:meeting_interop@thread.v2"


# The operations: `before` prepares the call, `meanwhile` acts before the operation ends with `result`, and
# `then` looks at what it changed.

Operation = namedtuple(
    "Operation",
    "path type members before meanwhile then result",
    defaults=[{}, None, None, None, (200, 0)],
)


def of_bot(person):
    return "application" in person["info"]["identity"]


def roster(what, test):
    """Looks at the newest roster."""

    async def then(call, _ended):
        await bot.roster(call.id, what, lambda people: test(people, call))

    return then


async def press_pound_twice(call):
    """The first key ends the prompt (barge-in), the second one the recording."""
    await call.play("tone", tone="pound")
    await asyncio.sleep(0.2)
    await call.play("tone", tone="pound")


async def press_five(call, _ended):
    await call.play("tone", tone=5)
    shown = parsed("Call", (await bot.tone(call.id, "tone5")).data)
    assert shown.tone_info.tone == models.Tone.Tone5, shown.tone_info


async def download(_call, ended):
    """Downloads the recording, as documented: the token of the operation is the bearer token."""
    headers = {"Authorization": f"Bearer {ended.recording_access_token}"}
    request = urllib.request.Request(ended.recording_location, headers=headers)
    context = ssl.create_default_context(cafile=CA)
    with await asyncio.to_thread(urllib.request.urlopen, request, context=context, timeout=10) as response:
        file = response.read()
    assert file[:4] == b"RIFF" and file[8:12] == b"WAVE" and len(file) > 1000, file[:16]


async def play_long_prompt(call):
    call.played = await call.operate("playPrompt", "long", {"prompts": [prompt(LONG_PROMPT_URL)]})


async def prompt_was_cancelled(call, _ended):
    item = await bot.item(call.id, f"/operations/{call.played.id}", "deleted", clientContext="long")
    ended = parsed("CommsOperation", item.data)
    assert ended.status.value == "Failed", ended
    assert (ended.result_info.code, ended.result_info.subcode) == (400, 8508), ended.result_info


async def fill_the_lobby(call):
    await call.play("lobby")
    await bot.roster(call.id, "the lobby", lambda people: any(one["isInLobby"] for one in people))


OPERATIONS = [
    Operation("playPrompt", "PlayPrompt", {"prompts": [prompt(PROMPT_URL)]}),
    Operation(
        "recordResponse",
        "Record",
        {
            "barge_in_allowed": True,
            "play_beep": True,
            "initial_silence_timeout_in_seconds": 5,
            "max_silence_timeout_in_seconds": 10,
            "max_record_duration_in_seconds": 20,
            "prompts": [prompt(PROMPT_URL)],
            "stop_tones": ["#"],
        },
        meanwhile=press_pound_twice,
        then=download,
        result=(200, 8514),
    ),
    Operation("subscribeToTone", "SubscribeToTone", then=press_five),
    Operation(
        "cancelMediaProcessing",
        "CancelMediaProcessing",
        before=play_long_prompt,
        then=prompt_was_cancelled,
    ),
    Operation(
        "sendDtmfTones",
        "SendDtmfTones",
        {
            "delay_between_tones_ms": 50,
            "tones": [models.Tone.Tone1, models.Tone.Star, models.Tone.Pound],
        },
    ),
    Operation(
        "mute",
        "MuteParticipant",
        then=roster("the bot is muted", lambda people, _: any(of_bot(p) and p["isMuted"] for p in people)),
    ),
    Operation(
        "unmute",
        "UnmuteParticipant",
        then=roster("the bot is not muted", lambda people, _: not any(p["isMuted"] for p in people)),
    ),
    Operation("updateRecordingStatus", "UpdateRecordingStatus", {"status": models.RecordingStatus.Recording}),
    Operation("addLargeGalleryView", "AddLargeGalleryView"),
    Operation("raiseHand", "Comms"),
    Operation("lowerHand", "Comms"),
    Operation(
        "participants/invite",
        "InviteParticipants",
        {"participants": [invitation(user=DESK)]},
        then=roster("the desk joined", lambda people, _: DESK in str(people)),
    ),
    Operation(
        "participants/{id}/mute",
        "MuteParticipant",
        then=roster(
            "the person is muted",
            lambda people, call: any(p["id"] == call.person and p["isMuted"] for p in people),
        ),
    ),
    Operation("participants/{id}/startHoldMusic", "StartHoldMusic", {"custom_prompt": prompt(PROMPT_URL)}),
    Operation("participants/{id}/stopHoldMusic", "StopHoldMusic"),
    Operation(
        "participants/admitAllFromLobby",
        "Comms",
        before=fill_the_lobby,
        then=roster("the lobby is empty", lambda people, _: not any(p["isInLobby"] for p in people)),
    ),
    Operation("participants/lowerAllHands", "Comms"),
]


async def operate(call, operation):
    """Starts an operation and waits for its end: the response, the notification, and the resource."""
    if operation.before:
        await operation.before(call)
    context = str(uuid.uuid4())
    started = await call.operate(operation.path, context, operation.members)
    assert type(started) is getattr(models, f"{operation.type}Operation"), started
    assert started.client_context == context and started.id, started
    # The reference shows this one as completed in its response.
    status = "Completed" if operation.path == "updateRecordingStatus" else "Running"
    assert started.status.value == status, started.status
    if operation.meanwhile:
        await operation.meanwhile(call)
    item = await bot.item(call.id, f"/operations/{started.id}", "deleted", clientContext=context)
    ended = parsed("CommsOperation", item.data)
    assert type(ended) is type(started) and ended.status.value == "Completed", ended
    result = (ended.result_info.code, ended.result_info.subcode)
    assert result == operation.result, ended.result_info
    shown = await call.graph.operations.by_comms_operation_id(started.id).get()
    assert type(shown) is type(started) and shown.status.value == "Completed", shown
    assert shown.client_context == context, shown
    if operation.then:
        await operation.then(call, ended)
    return f"{status.lower()}, then deleted {result[0]}/{result[1]}"


# The rest: one function for each, which returns what it saw.


async def show(call):
    shown = await call.graph.get()
    assert type(shown) is models.Call and shown.id == call.id and shown.tenant_id == TENANT, shown
    assert shown.state.value == "established" and shown.direction.value == "incoming", shown
    assert shown.source.identity.user.id and shown.targets[0].identity.application.id == APP, shown
    assert shown.my_participant_id and shown.call_chain_id and shown.callback_uri, shown
    return "established"


async def participants(call):
    people = (await call.graph.participants.get()).value
    assert all(type(person) is models.Participant for person in people), people
    me = (await call.graph.get()).my_participant_id
    call.person = next(person.id for person in people if person.id != me)
    person = await call.of_person.get()
    assert type(person) is models.Participant and person.id == call.person, person
    assert person.info.identity.user.id and not person.is_muted and not person.is_in_lobby, person
    assert [stream.media_type.value for stream in person.media_streams][:2] == ["audio", "video"], person
    return f"{len(people)} people"


async def remove(call):
    await call.of_person.delete()
    await bot.roster(
        call.id, "the person left", lambda people: call.person not in [one["id"] for one in people]
    )
    return "a roster without them"


async def operations(call):
    shown = (await call.graph.operations.get()).value
    types = {type(operation) for operation in shown}
    assert models.RecordOperation in types and models.PlayPromptOperation in types, types
    return f"{len(shown)} operations"


async def audio_routing_groups(call):
    groups = call.graph.audio_routing_groups
    me = (await call.graph.get()).my_participant_id
    group = models.AudioRoutingGroup(
        odata_type="#microsoft.graph.audioRoutingGroup",
        routing_mode=models.RoutingMode.OneToOne,
        sources=[me],
        receivers=[call.person],
    )
    made = await groups.post(group)
    assert type(made) is models.AudioRoutingGroup and made.sources == [me], made
    one = groups.by_audio_routing_group_id(made.id)
    assert (await one.get()).receivers == [call.person]
    changed = await one.patch(models.AudioRoutingGroup(routing_mode=models.RoutingMode.Multicast))
    assert changed.routing_mode == models.RoutingMode.Multicast and changed.id == made.id, changed
    assert [group.id for group in (await groups.get()).value] == [made.id]
    await one.delete()
    assert (await groups.get()).value == []
    return "create, get, update, list, delete"


async def content_sharing_sessions(call):
    assert (await call.graph.content_sharing_sessions.get()).value == []
    return "none"


async def share_screen(call):
    await send(call.graph.change_screen_sharing_role, role=models.ScreenSharingRole.Sharer)
    shares = lambda one: {"videoBasedScreenSharing": "sendOnly"}.items() <= {
        stream["mediaType"]: stream["direction"] for stream in one["mediaStreams"]
    }.items()
    await bot.roster(call.id, "the bot shares", lambda people: any(of_bot(p) and shares(p) for p in people))
    return "a roster"


async def keep_alive(call):
    await call.graph.keep_alive.post()
    return "accepted"


async def device_quality(_call):
    quality = models.TeleconferenceDeviceQuality(call_chain_id=uuid.uuid4(), device_name="interop")
    await send(calls.log_teleconference_device_quality, quality=quality)
    return "accepted"


async def batch(call):
    """Reads the statuses only: the SDK drops bodies that are JSON (kiota-python#737)."""
    content = BatchRequestContent()
    requests = [
        call.graph.to_get_request_information(),
        call.graph.participants.to_get_request_information(),
        call.graph.keep_alive.to_post_request_information(),
    ]
    for id, request in enumerate(requests, 1):
        request.path_parameters["baseurl"] = adapter.base_url
        content.add_request(str(id), BatchRequestItem(request, id=str(id)))
    responses = await BatchRequestBuilder(adapter).post(content)
    statuses = responses.get_response_status_codes()
    assert statuses == {"1": 200, "2": 200, "3": 200}, statuses
    return "3 responses"


async def hang_up(call):
    await call.graph.delete()
    return await call.ended(200, 10550, state="terminated")


async def unknown():
    try:
        await calls.by_call_id("00000000-0000-4000-8000-000000000000").get()
    except ODataError as error:
        assert error.error.code == "8522" and error.response_status_code == 404, error
        return "ODataError 404, 8522"
    raise AssertionError("an unknown call was found")


async def reject():
    call, callback = await incoming()
    await send(call.graph.reject, callback_uri=callback, reason=models.RejectReason.Busy)
    return await call.ended(603, 0)


async def redirect():
    call, callback = await incoming()
    await send(call.graph.redirect, callback_uri=callback, targets=[invitation(user=DESK)], timeout=30)
    return await call.ended(200, 0, state="terminated")


async def transferred(call, target):
    await send(call.graph.transfer, transfer_target=target)
    for state in ["transferring", "transferAccepted"]:
        await bot.item(call.id, "", "updated", state=state)
    return await call.ended(0, 7015, state="terminated")


async def transfer():
    return await transferred(await answered(), invitation(user=DESK))


async def consult():
    """Hands the caller to the desk, which the bot called before."""
    call = await answered()
    desk = await created(targets=[invitation(user=DESK)])
    await bot.item(desk.id, "", "updated", state="established")
    end = await transferred(call, invitation(user=DESK, replaces=desk.id))
    await bot.item(desk.id, "", "deleted", state="terminated")
    return f"{end}, and the replaced call ends"


def create(**members):
    """Places a call, and hangs it up when it is established."""

    async def run():
        call = await created(**members)
        for state in ["establishing", "established"]:
            await bot.item(call.id, "", "updated", state=state)
        await bot.roster(call.id, "the people", lambda people: any(of_bot(person) for person in people))
        shown = await call.graph.get()
        assert shown.state.value == "established" and shown.callback_uri == CALLBACK, shown
        return await hang_up(call)

    return run


def not_taken(fault, code, subcode):
    """Calls a person who does not take the call."""

    async def run():
        await asyncio.to_thread(EMULATOR.set_faults, callee=f"{fault}*1")
        call = await created(targets=[invitation(user=DESK)])
        return await call.ended(code, subcode, state="terminated")

    return run


def calls_of_the_bot():
    thread = models.ChatInfo(thread_id=THREAD, message_id="0")
    organizer = models.OrganizerMeetingInfo(organizer=identity(user=DESK))
    by_id = models.JoinMeetingIdMeetingInfo(join_meeting_id="1234567", passcode="psw123")
    return {
        "create: a user": create(targets=[invitation(user=DESK)]),
        "create: a number": create(targets=[invitation(phone=NUMBER)]),
        "create: people": create(targets=[invitation(user=DESK), invitation(user=str(uuid.uuid4()))]),
        "create: by the organizer": create(chat_info=thread, meeting_info=organizer),
        "create: by a token": create(meeting_info=models.TokenMeetingInfo(token="not-a-real-token")),
        "create: by a join id": create(meeting_info=by_id),
        "create: busy": not_taken("busy", 486, 0),
        "create: rejected": not_taken("reject", 603, 0),
        "create: no answer": not_taken("no-answer", 408, 10057),
        "create: not found": not_taken("not-found", 480, 10037),
    }


async def check(name, run):
    """Runs one check and prints its row; true if it passed."""
    try:
        print(f"  python  {name:<32}  ok      {await run}", flush=True)
        return True
    except Exception as error:
        print(f"  python  {name:<32}  failed  {type(error).__name__}: {error}", flush=True)
        return False


async def main():
    passed = []

    async def row(name, run):
        passed.append(await check(name, run))

    call = await answered(kind="group", participants=3)
    await row("answer", show(call))
    await row("GET participants", participants(call))
    for operation in OPERATIONS:
        await row(operation.path, operate(call, operation))
    for name, run in {
        "GET operations": operations,
        "audioRoutingGroups": audio_routing_groups,
        "contentSharingSessions": content_sharing_sessions,
        "changeScreenSharingRole": share_screen,
        "keepAlive": keep_alive,
        "logTeleconferenceDeviceQuality": device_quality,
        "$batch": batch,
        "DELETE participants/{id}": remove,
        "DELETE": hang_up,
    }.items():
        await row(name, run(call))
    whole = {"reject": reject, "redirect": redirect, "transfer": transfer, "transfer: consultative": consult}
    for name, run in {"an unknown call": unknown, **whole, **calls_of_the_bot()}.items():
        await row(name, run())
    await credential.close()
    return all(passed)


sys.exit(not asyncio.run(main()))
