"""The emulator and its calls, against the emulator's program and a bot."""

import json

import pytest
from switchboard_emulator import ControlError, Emulator, TimelineError

TENANT = "11111111-2222-4333-8444-555555555555"


def test_a_call_is_answered_and_hung_up_by_the_bot(place_call, bot):
    call = place_call(bot.url, kind="group")
    assert call.wait_for_state("established") == "established"
    call.wait_for_step("roster", status=202)
    call.press(3)
    call.press("#")
    call.press(5)
    end = call.assert_end("completed")
    assert end["ok"]
    assert bot.tones == ["tone3", "pound", "tone5"]
    call.assert_steps("incoming", "answer", "establishing", "established", "terminated")
    call.assert_no_step("keep alive")


def test_a_step_has_its_request_and_response(place_call, bot):
    answer = place_call(bot.url).wait_for_step("answer")
    assert answer["received"] and answer["response"]["status"] == 202
    assert json.loads(answer["request"]["body"])["callbackUri"] == bot.url


def test_people_join_leave_mute_and_hang_up(place_call, bot):
    call = place_call(bot.url, kind="meeting")
    call.wait_for_state("established")
    call.wait_for_step("roster")
    call.join(2)
    call.wait_for_step("roster", times=2)
    people = len(call.details()["participants"])
    call.mute(1)
    call.wait_for_step("roster", times=3)
    call.unmute(1)
    call.wait_for_step("roster", times=4)
    call.leave()
    call.wait_for_step("roster", times=5)
    assert len(call.details()["participants"]) == people - 1
    call.hold()
    call.wait_for_state("hold")
    call.resume()
    call.wait_for_state("established")
    call.hang_up(code=500, subcode=7106, message="Media connectivity was lost.")
    terminated = call.wait_for_step("terminated")
    assert '"subcode":7106' in terminated["request"]["body"]
    call.wait_for_end()


def test_a_failed_wait_shows_the_timeline(place_call, bot):
    call = place_call(bot.url)
    call.wait_for_step("established")
    with pytest.raises(TimelineError) as failure:
        call.wait_for_step("play prompt", status=200, times=2, timeout=0.2)
    text = str(failure.value)
    assert text.startswith('no step "play prompt" with status 200, 2 times within 0.2 s\n\n')
    assert "<- answer" in text and "-> established" in text and text.endswith("the call goes on")
    with pytest.raises(AssertionError, match="no state hold or terminated within 0.1 s"):
        call.wait_for_state("hold", "terminated", timeout=0.1)


def test_a_failed_check_shows_the_timeline(place_call, bot):
    call = place_call(bot.url)
    call.wait_for_step("established")
    call.hang_up()
    for check, message in [
        (lambda: call.assert_end("rejected"), "the outcome is completed, not rejected"),
        (lambda: call.assert_steps("hang up", "answer"), 'no step "hang up" in the order hang up, answer'),
        (lambda: call.assert_no_step("answer"), 'unexpected step "answer"'),
        (lambda: call.wait_for_step("tone"), 'the call ended without step "tone"'),
    ]:
        with pytest.raises(TimelineError, match=message) as failure:
            check()
        assert "ok: completed after" in str(failure.value)


def test_a_call_that_never_ends_is_ended_by_the_test(place_call, bot):
    call = place_call(bot.url)
    call.wait_for_state("established")
    with pytest.raises(TimelineError, match="no end of the call within 0.2 s"):
        call.wait_for_end(timeout=0.2)
    call.forget()
    call.assert_end("completed")
    call.forget()


def test_a_bot_that_does_not_answer(place_call, bot):
    bot.answers = False
    call = place_call(bot.url, answer_within="1s", expect="unanswered")
    assert call.assert_end("unanswered")["ok"]


def test_a_fault_and_its_end(place_call, set_faults, emulator, bot):
    set_faults(graph="500*1")
    failed = place_call(bot.url)
    failed.wait_for_step("answer", status=500)
    failed.forget()
    failed.assert_end("unanswered")
    assert emulator.faults()["graph"] is None
    set_faults(graph=7504)
    place_call(bot.url).wait_for_step("answer", status=403)
    emulator.clear_faults()
    place_call(bot.url).wait_for_state("established")


def test_a_call_that_the_bot_places(emulator, bot):
    created = bot.create_call(emulator.app, TENANT)
    call = emulator.wait_for_call(direction="outgoing")
    assert call.id == created
    call.wait_for_state("established")
    assert created in [summary["call"] for summary in emulator.calls()]
    emulator.forget_calls()
    assert emulator.calls() == []
    with pytest.raises(AssertionError, match=r"no call with .*fax.* within 0.1 s; the calls are \[\]"):
        emulator.wait_for_call(kind="fax", timeout=0.1)


def test_keys_and_tokens(emulator):
    assert emulator.rotate_keys() != emulator.rotate_keys("entra", publish_before="10m")
    assert emulator.make_token().count(".") == 2
    assert emulator.make_token("entra-v2", overrides={"tid": None}).count(".") == 2


def test_a_refused_request_names_its_reason(emulator):
    with pytest.raises(ControlError, match="kind: must be one of p2p") as refused:
        emulator.place_call("http://127.0.0.1:1/", kind="fax")
    assert (refused.value.status, refused.value.code) == (400, "badRequest")


def test_a_connection_stops_nothing(emulator):
    with Emulator.connect(emulator.origin) as connected:
        assert connected.addresses == emulator.addresses
    assert emulator.calls() is not None
    with pytest.raises(ControlError, match="cannot reach the emulator at http://127.0.0.1:1:"):
        Emulator.connect("http://127.0.0.1:1")
    with pytest.raises(ValueError, match="not the URL of an emulator: 127.0.0.1:4000"):
        Emulator.connect("127.0.0.1:4000")


def test_https_and_a_secret(tmp_path):
    with Emulator.start(secret="not-secret", options=["--tls", str(tmp_path)]) as emulator:
        assert emulator.origin.startswith("https://") and emulator.ca is not None
        with Emulator.connect(emulator.origin, ca=emulator.ca) as connected:
            assert connected.calls() == []


def test_an_emulator_that_goes_away_cuts_the_timeline_off(bot):
    with Emulator.start() as other:
        call = other.place_call(bot.url)
        call.wait_for_step("incoming")
    with pytest.raises(TimelineError, match="the timeline was cut off before end of the call") as failure:
        call.wait_for_end()
    assert "\ncut off: " in str(failure.value)
    with pytest.raises(ControlError, match="cannot reach the emulator"):
        call.press(5)


def test_an_unknown_call_is_refused(emulator):
    with pytest.raises(ControlError, match="404 noSuchCall: no call has this id"):
        emulator.follow_call("00000000-0000-4000-8000-000000000000")
