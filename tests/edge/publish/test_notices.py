"""What is wrong with publishing is logged once, and again after it was right."""

from mien_edge.publish.notices import Notices


def test_a_notice_is_logged_once_and_kept_until_it_is_withdrawn(caplog):
    notices = Notices()
    assert notices.tell("qos", "QoS 0 only")
    notices.withdraw("qos")
    assert notices.lines() == []
    assert not notices.tell("qos", "QoS 0 only")
    assert caplog.messages == ["QoS 0 only"]
    assert notices.lines() == ["QoS 0 only"]


def test_of_one_key_the_first_text_is_logged_and_the_latest_kept(caplog):
    notices = Notices()
    notices.tell("set aside", "one byte too many", key="mien/a/state")
    notices.tell("set aside", "two bytes too many", key="mien/a/state")
    assert caplog.messages == ["one byte too many"]
    assert notices.lines() == ["two bytes too many"]


def test_an_end_is_logged_once_and_what_comes_back_is_logged_again(caplog):
    notices = Notices()
    notices.end("log", "it can be read again")
    notices.tell("log", "unreadable")
    notices.end("log", "it can be read again")
    notices.end("log", "it can be read again")
    notices.tell("log", "unreadable")
    assert caplog.messages == ["unreadable", "it can be read again", "unreadable"]
