"""People of a running collector: added, given passwords, shown their projects only, removed."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from bitville_apm import limits
from bitville_apm.cli import main
from bitville_apm.collector import passwords
from tests.collector.rig import Answer, Rig, running
from tests.store.make import end_body, new_id

PASSWORD = "pälm tree 14:03"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A collector with a record of each of two projects."""
    with running(tmp_path) as rig:
        for project in ("shop", "blog"):
            body = end_body(new_id(), time.time() - 5, request={"method": "GET", "uri": f"/page-of-{project}"})
            assert rig.post(rig.key(project), body).status == 200
        yield rig


def bitville(rig: Rig, *arguments: str) -> int:
    """The command line beside it."""
    return main([*arguments, "--config", str(rig.directory / "collector.ini")])


def set_password(rig: Rig, name: str, password: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """`bitville user password` with the password on standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return bitville(rig, "user", "password", name)


def log_in(rig: Rig, name: str, password: str) -> Answer:
    """The form of the log-in page."""
    form = urlencode({"name": name, "password": password, "form_token": ""}).encode()
    return rig.ask("POST", "/login", form, Content_Type="application/x-www-form-urlencoded")


def cookie(answer: Answer) -> str:
    """What the browser sends from then on."""
    return answer.headers["set-cookie"].split(";")[0]


def test_a_viewer_of_one_project(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """LIST-09: a person added with a project logs in by link or password, and sees that project and no other."""
    assert bitville(rig, "user", "add", "eve@example.com", "--projects", "shop") == 0
    link = capsys.readouterr().out.split()[-1]
    by_link = rig.ask("POST", "/login/" + link.rpartition("/")[2], b"form_token=")
    assert set_password(rig, "eve@example.com", PASSWORD, monkeypatch) == 0
    assert rig.ask("GET", "/", Cookie=cookie(by_link)).status == 303, "a new password ends the sessions before it"
    by_password = log_in(rig, "eve@example.com", PASSWORD)
    assert by_password.status == 303, by_password.body
    page = rig.ask("GET", "/index.json", Cookie=cookie(by_password))
    assert b"/page-of-shop" in page.body
    assert b"/page-of-blog" not in page.body
    assert rig.ask("GET", "/api/search?project=blog", Cookie=cookie(by_password)).status == 403
    assert bitville(rig, "user", "remove", "eve@example.com") == 0
    assert rig.ask("GET", "/", Cookie=cookie(by_password)).status == 303
    assert log_in(rig, "eve@example.com", PASSWORD).status == 403


def test_wrong_passwords(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIST-09: nobody gets in by a wrong, an empty or no password; a user that is not there looks the same."""
    assert bitville(rig, "user", "add", "eve") == 0
    without = log_in(rig, "eve", "")
    assert set_password(rig, "eve", PASSWORD, monkeypatch) == 0
    answers = [without, log_in(rig, "eve", ""), log_in(rig, "eve", PASSWORD.upper()), log_in(rig, "nobody", PASSWORD)]
    assert [answer.status for answer in answers] == [403] * 4
    assert len({answer.body for answer in answers}) == 1
    assert "set-cookie" not in answers[1].headers
    assert b"do not belong together" in answers[1].body


def test_guessing_is_slowed_down(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIST-06: after some tries even the right password has to wait."""
    assert bitville(rig, "user", "add", "eve") == 0
    assert set_password(rig, "eve", PASSWORD, monkeypatch) == 0
    for n in range(limits.LOGINS_BURST):
        assert log_in(rig, "eve", f"wrong {n}").status in (403, 429)
    answers = [log_in(rig, "eve", PASSWORD) for _ in range(10)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused, [answer.status for answer in answers]
    assert int(refused[0].headers["retry-after"]) >= 1


@pytest.mark.parametrize("password", ["", "short", "x" * (limits.PASSWORD_CHARACTERS_MOST + 1)])
def test_bad_new_passwords(
    rig: Rig, password: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LIST-09: what is no password is said so, and changes nothing."""
    assert bitville(rig, "user", "add", "eve") == 0
    assert set_password(rig, "eve", password, monkeypatch) == 1
    assert "characters is wanted" in capsys.readouterr().err
    bitville(rig, "user", "list")
    assert "yes" not in capsys.readouterr().out


def test_the_last_admin_stays(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """LIST-09: nobody can lock everybody out; unknown and double names are said."""
    for arguments, said in (
        (("remove", "admin"), "last admin"),
        (("remove", "eve"), "no user 'eve'"),
        (("password", "eve"), "no user 'eve'"),
        (("add", "admin"), "already"),
    ):
        assert bitville(rig, "user", *arguments) == 1
        assert said in capsys.readouterr().err
    assert bitville(rig, "user", "add", "ada", "--role", "admin") == 0
    assert bitville(rig, "user", "remove", "admin") == 0


def test_what_is_kept() -> None:
    """LIST-09: of a password its scrypt is kept, with a salt of its own each time; any letters do."""
    kept = [passwords.hashed(PASSWORD) for _ in range(2)]
    assert kept[0] != kept[1]
    assert kept[0].startswith(b"scrypt$32768$8$3$")
    assert passwords.matches(PASSWORD, kept[0])
    assert not passwords.matches(PASSWORD + " ", kept[0])
    assert not passwords.matches("", None)
